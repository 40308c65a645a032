"""Which files a publication writes, and what enters and leaves each. Pure.

A file is only ever replaced whole, under its own name, by one rename. So the order of the steps
is all that keeps a key from standing in two places: whatever leaves `failures/` because it has a
caption now leaves before the first caption enters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from typing import NamedTuple

from pipeline.checkpoint.tables import Part
from pipeline.records import Record, RequestRow
from pipeline.values import dataclass

#: Rows of a full part. Twice as many take 20 MB more while they wait and are written.
PART_ROWS = 5_000
CAPTIONS, FAILURES, REQUESTS = "captions", "failures", "requests"
#: All folders, in the order in which a publication writes them.
FOLDERS = (FAILURES, REQUESTS, CAPTIONS)
#: Folder and name of a part.
Place = tuple[str, str]
#: Folder -> key (request id) -> record (account row).
News = dict[str, dict[str, Record | RequestRow]]


class Waiting(NamedTuple):
    """What one journal entry brings. A tuple, as there is one for every answer."""

    seq: int
    records: tuple[Record, ...]
    row: RequestRow | None
    #: Is its raw body worth keeping after publication?
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One file to write: what it holds, less `drop`, plus `rows`."""

    folder: str
    name: str
    #: Keys (request ids) to take out.
    drop: frozenset[str] = frozenset()
    rows: tuple[Record | RequestRow, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Change:
    drop: set[str] = field(default_factory=set)
    rows: list[Record | RequestRow] = field(default_factory=list)


def news_of(waiting: Iterable[Waiting]) -> News:
    """One record for each key: a caption beats a failure, else the later one wins."""
    best: dict[str, Record] = {}
    requests: dict[str, Record | RequestRow] = {}
    for one in waiting:
        for record in one.records:
            old = best.get(record.key)
            if old is None or record.status == "ok" or old.status != "ok":
                best[record.key] = record
        if one.row is not None:
            requests[one.row.request_id] = one.row
    return {
        FAILURES: {key: r for key, r in best.items() if r.status != "ok"},
        REQUESTS: requests,
        CAPTIONS: {key: r for key, r in best.items() if r.status == "ok"},
    }


def make_plan(
    news: News, published: Sequence[Part], held: Mapping[Place, AbstractSet[str]]
) -> list[Step]:
    """The files to write, in order.

    held: which of the new keys (request ids) already stand in which published parts. There they
    are replaced, or, where the new record belongs into another folder, taken out.
    """
    steps: list[Step] = []
    for folder in FOLDERS:
        fresh = dict(news[folder])
        changes: dict[str, _Change] = {}
        for (where, name), keys in held.items():
            if where == folder and keys:
                replaced = [fresh.pop(key) for key in sorted(keys) if key in fresh]
                changes[name] = _Change(drop=set(keys), rows=replaced)
        _fill(changes, list(fresh.values()), [part for part in published if part.folder == folder])
        steps += [
            Step(folder=folder, name=name, drop=frozenset(one.drop), rows=tuple(one.rows))
            for name, one in changes.items()
        ]
    return steps


def _fill(
    changes: dict[str, _Change],
    fresh: Collection[Record | RequestRow],
    published: Sequence[Part],
) -> None:
    """Put fresh rows into the last part and then into new ones."""
    left = list(fresh)
    number, room, name = 0, 0, ""
    if published:
        last = max(published, key=lambda part: part.name)
        number, name = number_of(last.name), last.name
        change = changes.get(name, _Change())
        room = PART_ROWS - (last.rows - len(change.drop) + len(change.rows))
    while left:
        if room <= 0:
            number += 1
            name, room = f"part-{number:08d}.parquet", PART_ROWS
        changes.setdefault(name, _Change()).rows.extend(left[:room])
        left, room = left[room:], 0


def number_of(name: str) -> int:
    """The number in a part's name."""
    return int(name.removeprefix("part-").removesuffix(".parquet"))


def room_left(published: Iterable[Part]) -> int:
    """How many captions the last part still takes: publishing so many writes none twice."""
    last = max((p for p in published if p.folder == CAPTIONS), key=lambda p: p.name, default=None)
    left = PART_ROWS - last.rows if last is not None else 0
    return left if left > 0 else PART_ROWS
