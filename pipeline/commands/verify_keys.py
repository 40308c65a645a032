"""`verify` against the manifest: do the records under its keys belong to the images they name?

The keys of a sample of rows are made again from the manifest. A record says which image was sent,
and of a local picture its SHA-256; a key that stands over another image is a wrong caption.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.identity import shown_image
from pipeline.captioning.inputs import inspect_manifest
from pipeline.commands.model_selection import pinned
from pipeline.errors import PipelineError
from pipeline.model import Row
from pipeline.store.snapshot import record_batches
from pipeline.store.verify import Finding

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

#: Rows whose keys are made again, from the start of the manifest.
SAMPLE_ROWS = 10_000
#: Local pictures that are read.
SAMPLE_PICTURES = 200


def check_keys(job: JobConfig, output: Path) -> list[Finding]:
    """What the sample shows; [] when the manifest cannot be read, which `run` says."""
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
    root = job.images.folder or manifest.folder
    by_content = naming.contents is not None
    wrong = [record["key"] for record in _wrong(output, sample, root, by_content=by_content)]
    if not wrong:
        return []
    message = (
        f"{len(wrong):,} records of {len(sample):,} keys looked at belong to another image than their "
        f"key (e.g. {wrong[0]}): ask them again with --redo \"key = '{wrong[0]}'\""
    )
    return [Finding(path=str(output), problem=message)]


def _wrong(
    output: Path, sample: dict[str, Row], root: Path | None, *, by_content: bool
) -> Iterator[dict[str, Any]]:
    """The records of the sample whose image is not that of their row. by_content: a row may have
    the record of a copy, which has another name."""
    pictures, keys = SAMPLE_PICTURES, pa.array(sorted(sample), pa.string())
    for batch in record_batches(output, ["key", "image", "image_sha256", "finished_at"]):
        for record in batch.filter(pc.is_in(batch["key"], value_set=keys)).to_pylist():
            row = sample[record["key"]]
            if not by_content and record["image"] != shown_image(row.image):
                yield record
            elif pictures and record["image_sha256"] and isinstance(row.image, str) and root:
                pictures -= 1
                if _is_other(root / row.image, record):
                    yield record


def _is_other(path: Path, record: dict[str, Any]) -> bool:
    """Is it another picture than was sent, and not because the file was changed since?"""
    try:
        facts = os.stat(path)
        changed = max(facts.st_mtime, facts.st_ctime)
        if changed >= record["finished_at"].timestamp() or facts.st_size > 64 << 20:
            return False
        sent: str = record["image_sha256"]
        return hashlib.sha256(path.read_bytes()).hexdigest() != sent
    except OSError:
        return False
