"""The note that a job is finished, so that running it again takes a second at any length.

It is believed only while manifest, naming and every published part are what they were, and never
for a manifest whose files have no validator.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import fs
from pipeline.captioning.select import Counts

if TYPE_CHECKING:
    from pipeline.captioning.inputs import JobInputs
    from pipeline.store.store import Checkpoint

NAME = "finished.json"


async def mark_of(inputs: JobInputs, checkpoint: Checkpoint) -> str | None:
    """What the note holds for; None when nothing tells whether the manifest has changed."""
    naming = inputs.naming
    if not inputs.manifest.trusted or naming.contents is not None:
        return None  # a picture may change, and the manifest stay the same
    facts = [
        inputs.manifest.fingerprint(),
        *(naming.recipe, naming.system, naming.identity),
        await checkpoint.fingerprint(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def files_may_change(inputs: JobInputs) -> bool:
    """May the pictures of a finished job be other ones, and its note be the same? Local files that
    a manifest names; the fingerprint of a folder has the size and time of each."""
    versions = inputs.naming.versions
    return versions is not None and versions.any and inputs.manifest.format != "folder"


def read_finished(state: Path, mark: str) -> Counts | None:
    """The counts of the finished job, if the note is whole and holds for this mark."""
    try:
        noted = json.loads((state / NAME).read_bytes())
        return Counts(**noted["counts"]) if noted["mark"] == mark else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_finished(state: Path, mark: str, counts: Counts) -> None:
    """Note that nothing was left. Without the note the next run counts."""
    note = json.dumps({"mark": mark, "counts": asdict(counts)}).encode()
    with suppress(OSError):
        fs.write_atomic(state / NAME, note, private=True)
