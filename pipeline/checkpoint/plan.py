"""Which files a publication writes, and what enters and leaves each. Pure.

A file is only ever replaced whole, under its own name, by one rename. So the order of the steps
is all that keeps a key from standing in two places: whatever leaves `failures/` because it has a
caption now leaves before the first caption enters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.checkpoint.backlog import Portion
from pipeline.checkpoint.tables import Part
from pipeline.values import dataclass

#: Rows of a full part. Twice as many take 20 MB more while they wait and are written.
PART_ROWS = 5_000
CAPTIONS, FAILURES, REQUESTS = "captions", "failures", "requests"
#: Decisions of people, which have a journal of their own (`reviews.py`).
REVIEWS = "reviews"
#: All folders, in the order in which a publication writes them.
FOLDERS = (FAILURES, REQUESTS, CAPTIONS)
#: Folder and name of a part.
Place = tuple[str, str]
#: The column that names a row.
KEYS = {FAILURES: "key", REQUESTS: "request_id", CAPTIONS: "key"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One file to write: what it holds, less `drop`, plus `rows`."""

    folder: str
    name: str
    #: Keys (request ids) to take out.
    drop: frozenset[str] = frozenset()
    rows: tuple[pa.Table, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Change:
    drop: frozenset[str] = frozenset()
    rows: list[pa.Table] = field(default_factory=list)


def news_of(portions: Sequence[Portion]) -> dict[str, pa.Table]:
    """Folder -> its new rows, one for each key: a caption beats a failure, else the later one
    wins."""
    records = pa.concat_tables([one.records for one in portions])
    records = _once(records, "key", pc.equal(records.column("status"), "ok"))
    captioned = pc.equal(records.column("status"), "ok")
    return {
        FAILURES: _where(records, pc.invert(captioned)),
        REQUESTS: _once(pa.concat_tables([one.requests for one in portions]), "request_id"),
        CAPTIONS: _where(records, captioned),
    }


def _where(rows: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """The rows that the mask names; all of them are not copied."""
    return rows if pc.all(mask).as_py() else rows.filter(mask)


def _once(rows: pa.Table, name: str, better: pa.ChunkedArray | None = None) -> pa.Table:
    """One row for each key: the last one, or the last one that is better, if any is."""
    keys = rows.column(name)
    if pc.count_distinct(keys).as_py() == len(keys):
        return rows
    good = [True] * len(keys) if better is None else better.to_pylist()
    best: dict[str, int] = {}
    for at, key in enumerate(keys.to_pylist()):
        old = best.get(key)
        if old is None or good[at] or not good[old]:
            best[key] = at
    return rows.take(pa.array(best.values()))


def make_plan(
    news: Mapping[str, pa.Table], published: Sequence[Part], held: Mapping[Place, AbstractSet[str]]
) -> list[Step]:
    """The files to write, in order.

    held: which of the new keys (request ids) already stand in which published parts. There they
    are replaced, or, where the new record belongs into another folder, taken out.
    """
    steps: list[Step] = []
    for folder in FOLDERS:
        fresh = news[folder]
        changes: dict[str, _Change] = {}
        for (where, name), keys in held.items():
            if where == folder and keys:
                mine = pc.is_in(fresh.column(KEYS[folder]), pa.array(sorted(keys), pa.string()))
                changes[name] = _Change(drop=frozenset(keys), rows=[_where(fresh, mine)])
                fresh = _where(fresh, pc.invert(mine))
        _fill(changes, fresh, [part for part in published if part.folder == folder])
        steps += [
            Step(folder=folder, name=name, drop=one.drop, rows=tuple(one.rows))
            for name, one in changes.items()
        ]
    return steps


def _fill(changes: dict[str, _Change], fresh: pa.Table, published: Sequence[Part]) -> None:
    """Put fresh rows into the last part and then into new ones."""
    number, room, name = 0, 0, ""
    if published:
        last = max(published, key=lambda part: part.name)
        number, name = number_of(last.name), last.name
        change = changes.get(name, _Change())
        room = PART_ROWS - (last.rows - len(change.drop) + sum(map(len, change.rows)))
    while len(fresh):
        if room <= 0:
            number += 1
            name, room = f"part-{number:08d}.parquet", PART_ROWS
        changes.setdefault(name, _Change()).rows.append(fresh.slice(0, room))
        fresh, room = fresh.slice(room), 0


def number_of(name: str) -> int:
    """The number in a part's name."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def room_left(published: Iterable[Part]) -> int:
    """How many captions the last part still takes: publishing so many writes none twice."""
    last = max((p for p in published if p.folder == CAPTIONS), key=lambda p: p.name, default=None)
    left = PART_ROWS - last.rows if last is not None else 0
    return left if left > 0 else PART_ROWS
