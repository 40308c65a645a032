"""`verify` for a shared output: is what lies there what this machine has published?

The parts stand on this machine too, proved by the journal; so a part that is missing or changed
in the store can be put again without guessing. A file that nobody here knows stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.store import tables
from pipeline.store.publish_plan import FOLDERS
from pipeline.store.remote.filesystem import Store, put_whole, steadily
from pipeline.store.remote.replica import bytes_of, name_of
from pipeline.store.tables import Part
from pipeline.store.verify import Finding


def check_shared(output: Path, store: Store) -> list[Finding]:
    """What the shared output holds and should not, and the other way round. Reads every part."""
    published, known = _journal(output)
    findings = [
        Finding(path=f"{store.shown}/{name_of(part)}", problem=problem, mendable=True)
        for part, problem in _wrong(store, published)
    ]
    for folder in FOLDERS:
        for name in sorted(steadily(store.shown, store.sizes, folder)):
            if name.endswith(".parquet") and (folder, name) not in known:
                problem = "is no part that the journal knows"
                findings.append(Finding(path=f"{store.shown}/{folder}/{name}", problem=problem))
    return findings


def repair_shared(output: Path, store: Store) -> list[str]:
    """Put again what is missing or changed, in the order of publication. What was done."""
    done = []
    for part, problem in _wrong(store, _journal(output)[0]):
        put_whole(store, name_of(part), bytes_of(output, part), new=False)
        done.append(f"put again {store.shown}/{name_of(part)}, which {problem}")
    return done


def _journal(output: Path) -> tuple[list[Part], set[tuple[str, str]]]:
    """The published parts, and every place that a part was put to."""
    db = tables.look(output / "_state" / "journal.db")
    try:
        published = tables.parts(db)
        return published, {part.place for part in published} | tables.sent(db).keys()
    finally:
        db.close()


def _wrong(store: Store, published: list[Part]) -> Iterator[tuple[Part, str]]:
    for part in sorted(published, key=lambda each: (FOLDERS.index(each.folder), each.name)):
        data = steadily(store.shown, store.read, name_of(part))
        if data is None:
            yield part, "is missing"
        elif hashlib.sha256(data).hexdigest() != part.sha256:
            yield part, "is not what was published last"
