"""A changed recipe, noticed before it costs anything: the output holds captions of others only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.captioning.identity import prompt_id
from pipeline.errors import JobError
from pipeline.plural import counted
from pipeline.store.parts import part_files, read_part, readable
from pipeline.store.publish_plan import CAPTIONS, FAILURES
from pipeline.store.snapshot import record_batches

if TYPE_CHECKING:
    from pipeline.captioning.inputs import JobInputs
    from pipeline.captioning.naming import NamedPrompt
    from pipeline.captioning.select import Counts
    from pipeline.config.job import JobConfig


#: Columns of a record that tell how it was asked.
_TELLING = ["model", "prompt_id", "fields", "recipe"]


def check_recipe(job: JobConfig, inputs: JobInputs, counts: Counts) -> None:
    """JobError (78) when the output holds captions and no record of this job's recipe, or of one of
    its named prompts only those that were asked otherwise."""
    paths = [path for folder in (CAPTIONS, FAILURES) for path in part_files(inputs.output, folder)]
    prompts = inputs.naming.prompts
    new = [p for p in prompts if not any(_holds(path, p.recipe) for path in reversed(paths))]
    if len(new) == len(prompts):
        what, images, prompt = "this job", f"all {counted(counts.images, 'image')}", prompts[0]
        batches = record_batches(inputs.output, _TELLING)
        record = next((batch.slice(0, 1).to_pylist()[0] for batch in batches if len(batch)), None)
    elif (changed := _asked_otherwise(inputs, new)) is not None:
        prompt, record = changed
        what, images = f"prompt {prompt.name} of this job", "all its images"
    else:
        return
    if record is not None:
        raise JobError(
            f"{inputs.output}: holds captions, and not one belongs to {what} as it stands now "
            f"({_difference(job, inputs, prompt, record)}): {images} would be asked; "
            "go on with --yes, or choose another output.path"
        )


def _asked_otherwise(
    inputs: JobInputs, prompts: Sequence[NamedPrompt]
) -> tuple[NamedPrompt, dict[str, Any]] | None:
    """The first of these prompts under whose name the output has records, and one of them."""
    known = pa.array(list(inputs.naming.recipes))
    for prompt in prompts:
        for batch in record_batches(inputs.output, _TELLING):
            named = pc.equal(batch["prompt_id"], pa.scalar(prompt.name, pa.string()))
            other = pc.invert(pc.is_in(batch["recipe"], value_set=known))
            if len(rows := batch.filter(pc.and_(named, other))):
                return prompt, rows.slice(0, 1).to_pylist()[0]
    return None


def check_identity(inputs: JobInputs, state: Callable[[str], str | None]) -> None:
    """JobError (78) when the output knows the first pictures by their bytes (`images.identity:
    content`), and this job by their places: all would be asked again."""
    naming = inputs.naming
    if naming.versions is None or not naming.versions.any:
        return
    by_bytes = replace(naming, identity="content", contents=naming.versions.contents, versions=None)
    for rows in islice(inputs.manifest.batches(), 1):
        fresh = [row for row in rows if state(naming.key(row)) is None]
        known = sum(state(by_bytes.key(row)) == "ok" for row in fresh)
        if 2 * known > len(rows):
            raise JobError(
                f"{inputs.output}: its captions are known by their pictures' bytes "
                "(images.identity: content), and this job knows pictures by their places "
                f"(images.identity: auto): {known:,} of the first {len(rows):,} would be asked "
                "again; set images.identity: content, go on with --yes, or choose another output.path"
            )


def _holds(path: Path, recipe: str) -> bool:
    """Is there a record of this recipe in the part? By its footer where all have one recipe."""
    with readable(path):
        footer = pq.read_metadata(path)
    at = footer.schema.names.index("recipe")
    groups = [footer.row_group(number).column(at) for number in range(footer.num_row_groups)]
    bounds = [group.statistics for group in groups]
    if all(b is not None and b.has_min_max and b.min == b.max for b in bounds):
        return any(b.min == recipe for b in bounds)
    return recipe in read_part(path, ["recipe"])["recipe"].unique().to_pylist()


def _difference(
    job: JobConfig, inputs: JobInputs, prompt: NamedPrompt, record: dict[str, Any]
) -> str:
    """Which part of the recipe changed, as far as a record tells."""
    if record["model"] != job.endpoint.model:
        return f"the model changed: it was {record['model']}, now {job.endpoint.model}"
    text = prompt.template.render({})
    asked = prompt.name or prompt_id(text, inputs.naming.system)
    if not prompt.template.columns and record["prompt_id"] != asked:
        return "prompt.text or prompt.system changed"
    before = sorted(orjson.loads(record["fields"] or "{}"))
    if before != (now := sorted(job.reply.fields)):
        was = ", ".join(before) or "none"
        return f"reply.fields changed: it was {was}, now {', '.join(now) or 'none'}"
    return "endpoint.params, endpoint.extra_body, reply.fields or the prompt changed"
