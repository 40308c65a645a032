"""Edits of `dataset.parquet` by hand: a file that is not as it was written here is kept beside the
new one, never replaced in silence.

Its SHA-256 is noted before it gets its name, beside that of the file which it replaces, so that a
crash between the two makes no edit of either. Size and modification time, where both are as noted,
spare reading it again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from pipeline import fs
from pipeline.clock import iso
from pipeline.schema import METADATA
from pipeline.store.parts import metadata_of

#: Below `_state/`.
NOTE = "dataset.json"
_log = logging.getLogger("pipeline")


def keep_edited(dataset: Path) -> Path | None:
    """Rename a dataset that somebody edited, and say so; its new name, None where it is ours.

    One that cannot be read is damaged: it is left to be replaced. Where nothing is noted, a file
    that bears this program's metadata is taken for ours.
    """
    if not dataset.is_file() or not _edited(dataset):
        return None
    day = iso(dataset.stat().st_mtime)[:10]
    kept, number = dataset.with_name(f"dataset.edited-{day}.parquet"), 1
    while kept.exists():
        number += 1
        kept = dataset.with_name(f"dataset.edited-{day}-{number}.parquet")
    dataset.rename(kept)
    _log.warning(
        "%s was edited: kept as %s; `review JOB --import %s` takes its captions as decisions",
        dataset.name,
        kept.name,
        kept,
    )
    return kept


def note_written(tmp: Path, dataset: Path) -> None:
    """Note what is about to become the dataset."""
    note = dataset.parent / "_state" / NOTE
    before = fs.read_object(note).get("sha256") or []
    look = tmp.stat()
    content = {
        "sha256": [fs.sha256_file(tmp), *before[:1]],
        "size": look.st_size,
        "mtime_ns": look.st_mtime_ns,
    }
    fs.make_private_dir(note.parent)
    fs.write_atomic(note, json.dumps(content).encode(), private=True)


def _edited(dataset: Path) -> bool:
    noted, look = fs.read_object(dataset.parent / "_state" / NOTE), dataset.stat()
    if (noted.get("size"), noted.get("mtime_ns")) == (look.st_size, look.st_mtime_ns):
        return False
    if fs.sha256_file(dataset) in noted.get("sha256", ()):
        return False
    metadata = metadata_of(dataset)
    return metadata is not None and (bool(noted) or METADATA.keys().isdisjoint(metadata))
