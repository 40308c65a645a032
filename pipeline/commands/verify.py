"""`verify`: the promises on disk, and `--repair`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.contents import GONE
from pipeline.captioning.identity import image_identity, shown_image
from pipeline.captioning.inputs import inspect_manifest
from pipeline.captioning.output_location import ours, shards_of, shared
from pipeline.clock import SystemClock
from pipeline.commands.model_selection import pinned
from pipeline.errors import Exit, Held, ImageError, OutputError, PipelineError, UsageError
from pipeline.images.limits import MAX_BYTES
from pipeline.images.sources import SOURCES
from pipeline.images.sources.base import Places, scheme_of
from pipeline.images.sources.shards import Shards
from pipeline.model import Row
from pipeline.plural import counted
from pipeline.store.lock import holder_of, locked
from pipeline.store.remote.verify import check_shared, repair_shared
from pipeline.store.repair import make_state, mend
from pipeline.store.snapshot import record_batches
from pipeline.store.verify import Finding, check_output, has_journal, repair

if TYPE_CHECKING:
    from pipeline.captioning.naming import Naming
    from pipeline.config.job import JobConfig
    from pipeline.store.remote.filesystem import Store


def verify_command(
    job: JobConfig, *, repair: bool, as_json: bool, forget: Sequence[str] = ()
) -> int:
    """0 when every promise holds, 73 when one does not. forget: parts to give up (with repair)."""
    if forget and not repair:
        raise UsageError("--forget goes with --repair")
    ours(job)
    output = Path(job.output.path)
    if not (make_state(output) if repair else (output / "_state").exists()):
        raise OutputError(f"{job.output.shown}: nothing here yet; run the job first")
    shards = shards_of(job)
    each = [(Path(j.output.path), shared(j)) for j in [job, *shards]]
    for folder, _ in each:
        if holder := holder_of(folder / "_state" / "lock"):
            raise Held(f"{folder}: a run is going on ({holder}); verify when it has ended")
    if shards and not has_journal(output):
        del each[0]  # nothing is joined yet
    done = [text for place in each for text in _repaired(*place, forget)] if repair else []
    findings = check_output(output)
    for folder, store in each:
        if store is not None:
            findings += check_shared(folder, store)
    findings += check_keys(job, output)
    if as_json:
        problems = [
            {"path": f.path, "problem": f.problem, "mendable": f.mendable} for f in findings
        ]
        print(json.dumps({"ok": not findings, "findings": problems, "repaired": done}))  # noqa: T201
    else:
        for text in done:
            print(text)  # noqa: T201
        for finding in findings:
            hint = " (--repair mends this)" if finding.mendable else ""
            print(f"{finding.path}: {finding.problem}{hint}")  # noqa: T201
        text = counted(len(findings), "problem") if findings else "all promises hold"
        print(f"{job.output.shown}: {text}")  # noqa: T201
    return int(Exit.OUTPUT) if findings else 0


def _repaired(output: Path, store: Store | None, forget: Sequence[str]) -> list[str]:
    with locked(output / "_state" / "lock", now=SystemClock().now()):
        done = mend(output, forget) + repair(output)
        return done if store is None else done + repair_shared(output, store)


#: Rows whose keys are made again, from the start of the manifest.
SAMPLE_ROWS = 10_000
#: Local pictures that are read.
SAMPLE_PICTURES = 200


def check_keys(job: JobConfig, output: Path) -> list[Finding]:
    """Do the records under the manifest's keys belong to the images that they name? The keys of a sample
    of rows are made again; [] when the manifest cannot be read, which `run` says.

    A record says which image was sent, and of a local picture its SHA-256; a key that stands over
    another image is a wrong caption.
    """
    try:
        manifest, naming = inspect_manifest(pinned(job))
        rows = (
            asked for batch in manifest.batches() for row in batch for asked in naming.rows(row)
        )
        sample = {naming.key(row): row for row in islice(rows, SAMPLE_ROWS) if row.bad is None}
    except PipelineError:
        return []
    # A column names its images as it likes: two of them may share one name.
    if not sample or naming.identity.startswith("column:"):
        return []
    places = Places(root=job.images.folder or manifest.folder, shards=(shards := Shards()))
    with closing(shards):
        wrong = [record["key"] for record in _wrong(output, sample, naming, places)]
    if not wrong:
        return []
    message = (
        f"{len(wrong):,} records of {len(sample):,} keys looked at belong to another image than their "
        f"key (e.g. {wrong[0]}): ask them again with --redo \"key = '{wrong[0]}'\""
    )
    return [Finding(path=str(output), problem=message)]


def _wrong(
    output: Path, sample: dict[str, Row], naming: Naming, places: Places
) -> Iterator[dict[str, Any]]:
    """The records of the sample whose image is not that of their row."""
    contents = naming.contents or (naming.versions and naming.versions.contents)
    pictures, keys = SAMPLE_PICTURES, pa.array(sorted(sample), pa.string())
    for batch in record_batches(output, ["key", "image", "image_sha256", "finished_at"]):
        for record in batch.filter(pc.is_in(batch["key"], value_set=keys)).to_pylist():
            image = sample[record["key"]].image
            # Known by its content, a row may have the record of a copy, which has another name.
            if naming.contents is None and record["image"] != shown_image(image):
                yield record
            elif pictures and record["image_sha256"] and isinstance(image, str) and contents:
                stamp = contents.stamp(image_identity(image))
                if stamp in ("", GONE):
                    continue
                pictures -= 1
                if _is_other(image, stamp, places, record):
                    yield record


def _is_other(image: str, stamp: str, places: Places, record: dict[str, Any]) -> bool:
    """Is it another picture than was sent, and not because the file was changed since?"""
    size, *times = map(int, stamp.split())
    scheme = scheme_of(image)
    changed = max(times) / 1e9 >= record["finished_at"].timestamp()
    if changed or (size > MAX_BYTES and scheme != "tar"):
        return False
    try:
        data = SOURCES[scheme](image, places)
    except ImageError:
        return False
    sent: str = record["image_sha256"]
    return hashlib.sha256(data).hexdigest() != sent
