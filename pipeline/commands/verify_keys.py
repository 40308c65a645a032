"""`verify` against the manifest: do the records under its keys belong to the images they name?

The keys of a sample of rows are made again from the manifest. A record says which image was sent,
and of a local picture its SHA-256; a key that stands over another image is a wrong caption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.contents import GONE
from pipeline.captioning.identity import image_identity, shown_image
from pipeline.captioning.inputs import inspect_manifest
from pipeline.commands.model_selection import pinned
from pipeline.errors import ImageError, PipelineError
from pipeline.images.limits import MAX_BYTES
from pipeline.images.sources import SOURCES
from pipeline.images.sources.base import Places, scheme_of
from pipeline.images.sources.shards import Shards
from pipeline.model import Row
from pipeline.store.snapshot import record_batches
from pipeline.store.verify import Finding

if TYPE_CHECKING:
    from pipeline.captioning.naming import Naming
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
