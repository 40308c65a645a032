"""`export`: one row per manifest row, in manifest order, in a format of one's choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.columns import caption_words, columns_of, decided
from pipeline.captioning.identity import shown_image
from pipeline.captioning.inputs import boundary_of, inspect_manifest
from pipeline.captioning.interpret import deriving
from pipeline.captioning.join import joined
from pipeline.captioning.naming import NamedPrompt, Naming
from pipeline.captioning.output_location import ours
from pipeline.captioning.view import view_of
from pipeline.commands.model_selection import pinned
from pipeline.errors import Exit, ImageError, OutputError, UsageError
from pipeline.export.base import Rows, Written
from pipeline.export.export import EXPORTS, Counts, export, format_of
from pipeline.export.options import ExportRequest
from pipeline.export.ownership import Owned
from pipeline.export.pictures import Pictures
from pipeline.export.sidecar import write_beside
from pipeline.local_files import Boundary
from pipeline.model import Row
from pipeline.plural import counted
from pipeline.store.record_shape import shape_of
from pipeline.store.reviews import read_decisions
from pipeline.store.snapshot import record_batches
from pipeline.store.unpublished import with_unpublished
from pipeline.values import dataclass

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.manifest.open import Manifest


def export_command(job: JobConfig, request: ExportRequest) -> int:
    """Write DEST; 0, or 1 where captions could not be written. UsageError for an unknown format,
    OutputError when nothing is there yet."""
    written, counts, captions = write_export(job, request)
    where = request.dest if request.dest is not None and not request.beside else job.output.shown
    if request.reviewed_only and request.prompt is None and len(job.prompt.texts) > 1:
        written.notes.append(
            "--reviewed-only: rows whose caption of every prompt was accepted or edited; --prompt NAME looks at one"
        )
    for note in written.notes:
        print(note)  # noqa: T201 - the command's result
    print(  # noqa: T201
        f"{where}: {written.rows:,} {written.unit}, {counts.captioned:,} of {counts.rows:,} captioned"
        + (f"; {captions}" if captions else "")
    )
    return Exit.SOME_FAILED if written.refused else Exit.DONE


def write_export(job: JobConfig, request: ExportRequest) -> tuple[Written, Counts, str]:
    """Write what is asked for; also what went by, and where the captions are."""
    chosen = _format(request)
    ours(job)
    output = Path(job.output.path)
    if not (output / "captions").exists():
        raise OutputError(f"{job.output.shown}: nothing to export yet; run the job first")
    with rows_of(job, request, chosen) as rows:
        counts = Counts()
        rows = counts.of(_with_words(rows, request))
        if request.beside:
            owned = Owned(output / "_state" / "sidecars.jsonl")
            try:
                written = write_beside(rows, owned)
            finally:
                owned.close()
        else:
            assert request.dest is not None
            written = export(rows, request.dest, chosen)
    if chosen in ("sidecar", "kohya"):
        return written, counts, _texts_of(job, request)
    return written, counts, caption_words((rows.caption, *rows.more_captions))


def _texts_of(job: JobConfig, request: ExportRequest) -> str:
    """Whose captions stand in files that hold one text an image."""
    if job.prompt.mode != "each" or len(names := list(job.prompt.prompts)) < 2:
        return ""
    return f"those of prompt {request.prompt or names[0]} (--prompt chooses)"


def _format(request: ExportRequest) -> str:
    if request.beside:
        if request.format not in (None, "sidecar"):
            raise UsageError(f"--beside writes sidecars, not {request.format}")
        if request.dest is not None:
            raise UsageError(f"--beside writes next to the pictures: leave {request.dest} out")
        return "sidecar"
    if request.dest is None:
        raise UsageError("name DEST, the file or folder to write, or give --beside")
    chosen = format_of(request.dest, request.format)
    if request.options.images and chosen != "parquet":
        raise UsageError(f"--images goes with parquet; {chosen} needs no such option")
    return chosen


@contextmanager
def rows_of(job: JobConfig, request: ExportRequest, format: str) -> Iterator[Rows]:  # noqa: A002 - the command line's word
    """All rows of the job with their records, those included that the journal still holds."""
    output, prefix = Path(job.output.path), job.output.prefix
    manifest, naming = inspect_manifest(pinned(job))
    pictures: tuple[str, ...] = ()
    if EXPORTS[format].pictures or request.options.images:
        pictures = manifest.pictures if format in ("parquet", "hf") else (manifest.image,)
    shape, view = manifest.arrow(pictures=pictures), view_of(job)
    with (
        with_unpublished(output, deriving(job)) as whole,
        _elsewhere(job, boundary_of(job, manifest)) as elsewhere,
    ):
        if request.recipe is not None:
            naming = naming_by_recipe(whole, naming, request.recipe)
        elif request.prompt is not None:
            naming = _only(naming, request.prompt)
        records = shape_of(whole)
        columns = columns_of(shape, naming, prefix=prefix, fields=view.fields, records=records)
        batches = joined(
            manifest,
            naming,
            whole,
            pictures=pictures,
            prefix=prefix,
            view=view,
            threaded=True,
        )
        decisions = read_decisions(output)
        yield Rows(
            schema=columns.schema,
            batches=decided(batches, columns, decisions, only=request.reviewed_only),
            pictures=replace(_pictures(job, manifest), elsewhere=elsewhere),
            caption=columns.captions[0],
            more_captions=columns.captions[1:],
            key=columns.names[0]["key"],
            title=job.name,
            options=request.options,
        )


def _only(naming: Naming, name: str) -> Naming:
    """The naming of one of the job's prompts. UsageError for another name."""
    try:
        return naming.only(name)
    except KeyError:
        known = (
            ", ".join(filter(None, (prompt.name for prompt in naming.prompts)))
            or "none with a name"
        )
        raise UsageError(f"--prompt {name}: the job's prompts are {known}") from None


def _pictures(job: JobConfig, manifest: Manifest) -> Pictures:
    return Pictures(
        column=manifest.image,
        root=job.images.folder or manifest.folder,
        boundary=boundary_of(job, manifest),
        packages=tuple(job.images.packages),
    )


@contextmanager
def _elsewhere(job: JobConfig, boundary: Boundary) -> Iterator[Callable[[str], bytes | None]]:
    """Reads members of tar shards, and downloads that `images.cache` keeps."""
    from pipeline.images.cache import Cache
    from pipeline.images.sources.base import Places
    from pipeline.images.sources.shards import Shards
    from pipeline.images.sources.tar import from_tar

    kept = job.images.cache
    cache = Cache(Path(kept).expanduser().absolute()) if kept else None
    shards = Shards()

    def read(text: str) -> bytes | None:
        if text.startswith("tar://"):
            try:
                return from_tar(text, places)
            except ImageError as error:
                raise OutputError(f"picture {text[:200]}: {error.message}") from None
        return cache.get(text) if cache is not None else None

    places = Places(root=job.images.folder, boundary=boundary, packages=(), shards=shards)
    try:
        yield read
    finally:
        shards.close()


def _with_words(rows: Rows, request: ExportRequest) -> Rows:
    """Trigger words around each caption."""
    if not (request.prefix or request.suffix):
        return rows

    def worded(batch: pa.RecordBatch) -> pa.RecordBatch:
        for name in (rows.caption, *rows.more_captions):
            at = batch.schema.get_field_index(name)
            texts = pc.binary_join_element_wise(
                request.prefix or "", batch.column(at), request.suffix or "", ""
            )
            batch = batch.set_column(at, batch.schema.field(at), texts)
        return batch

    return replace(rows, batches=map(worded, rows.batches))


#: The key of no record.
_NOBODY = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingByImage(Naming):
    """Gives rows the keys that their images have under one recipe."""

    keys: Mapping[str, bytes] = field(default_factory=dict)

    def key_bytes(self, row: Row) -> bytes:
        return self.keys.get(shown_image(row.image), _NOBODY)


def naming_by_recipe(output: Path, naming: Naming, recipe: str) -> Naming:
    """What rows are called under another recipe (or the beginning of one) that the output holds.

    Those keys hold a prompt that is not known here, so rows and records meet by the image as records
    show it, which says enough only where an image was asked once under that recipe. UsageError when the output
    has none of that name, or when its images do not say which record is meant."""
    own = [prompt for prompt in naming.prompts if prompt.recipe.startswith(recipe)]
    if len(own) == 1:
        return replace(naming, prompts=tuple(own))
    count: Counter[str] = Counter()
    for batch in record_batches(output, ["recipe"]):
        count.update(
            {
                pair["values"]: pair["counts"]
                for pair in pc.value_counts(batch["recipe"]).to_pylist()
            }
        )
    matching = [name for name in count if name.startswith(recipe)]
    if len(matching) != 1:
        recipes = ", ".join(
            f"{name} ({counted(number, 'image')})" for name, number in count.most_common(10)
        )
        raise UsageError(f"--recipe {recipe}: the output holds {recipes or 'no records'}; name one")
    keys: dict[str, bytes] = {}
    for batch in record_batches(output, ["recipe", "image", "key"]):
        rows = batch.filter(pc.equal(batch["recipe"], matching[0]))
        for image, key in zip(rows["image"].to_pylist(), rows["key"].to_pylist(), strict=True):
            if keys.setdefault(image, raw := bytes.fromhex(key)) != raw:
                raise UsageError(
                    f"--recipe {matching[0]}: {image[:200]} has several captions under it, as its "
                    "prompt names columns: set the job's prompt as it was instead"
                )
    return NamingByImage(
        prompts=(NamedPrompt(recipe=matching[0], template=naming.prompts[0].template),),
        system=naming.system,
        identity=naming.identity,
        keys=keys,
    )
