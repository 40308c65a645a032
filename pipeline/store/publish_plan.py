"""Which files a publication writes, what enters and leaves each, and which are put together. Pure.

What is new becomes new files, which nobody replaces: readers open a path several times, and a file
that is another one the next time reads as damaged. Only a record that replaces one rewrites the
part which holds that, whole, under its own name, by one rename. So the order of the steps is all
that keeps a key from standing in two places. Parts of `captions/` that are rewritten come first,
since keys only leave them (withdrawn captions, which become failures); then `failures/`, which
keys leave because they have a caption now; the first new caption enters last. At the end of a run small neighbours become one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.model import DOUBTED, WITHDRAWN
from pipeline.store.backlog import Portion
from pipeline.store.tables import Part
from pipeline.values import dataclass

#: Rows of a full part. Twice as many take 20 MB more while they wait and are written.
PART_ROWS = 5_000
#: Bytes of a part in memory, where its texts are long: it is written and put together whole.
PART_BYTES = 64 * 2**20
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
    """Folder -> its new rows, one for each key."""
    records = latest(pa.concat_tables([portion.records for portion in portions]))
    captioned = pc.equal(records.column("status"), "ok")
    return {
        FAILURES: without_withdrawn(_where(records, pc.invert(captioned))),
        REQUESTS: _once(pa.concat_tables([portion.requests for portion in portions]), "request_id"),
        CAPTIONS: _where(records, captioned),
    }


def without_withdrawn(failures: pa.Table) -> pa.Table:
    """Those that stand in a part: what withdraws one only takes it out."""
    return _where(failures, pc.not_equal(pc.fill_null(failures["error_code"], ""), WITHDRAWN))


def _where(rows: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """The rows that the mask names; all of them are not copied."""
    return rows if pc.all(mask).as_py() else rows.filter(mask)


def latest(records: pa.Table) -> pa.Table:
    """One record for each key: the last one, but a failure never replaces a caption, unless it
    withdraws it."""
    captioned = pc.equal(records.column("status"), "ok").to_pylist()
    doubted = pc.equal(pc.fill_null(records.column("error_code"), ""), DOUBTED).to_pylist()
    return _once(
        records, "key", lambda new, old: captioned[new] or doubted[new] or not captioned[old]
    )


def _once(
    rows: pa.Table, name: str, replaces: Callable[[int, int], bool] = lambda _new, _old: True
) -> pa.Table:
    """One row for each key: the last one that replaces the one before."""
    keys = rows.column(name)
    if pc.count_distinct(keys).as_py() == len(keys):
        return rows
    best: dict[str, int] = {}
    for row, key in enumerate(keys.to_pylist()):
        old = best.get(key)
        if old is None or replaces(row, old):
            best[key] = row
    return rows.take(pa.array(best.values(), pa.int64()))


def make_plan(
    news: Mapping[str, pa.Table],
    published: Sequence[Part],
    keys_of: Mapping[Place, AbstractSet[str]],
) -> list[Step]:
    """The files to write, in order.

    keys_of: which of the new keys (request ids) already stand in which published parts. There they
    are replaced, or, where the new record belongs into another folder, taken out.
    """
    steps: list[Step] = []
    for folder in FOLDERS:
        fresh = news[folder]
        changes: dict[str, _Change] = {}
        for (where, name), keys in keys_of.items():
            if where == folder and keys:
                in_part = pc.is_in(fresh.column(KEYS[folder]), pa.array(sorted(keys), pa.string()))
                changes[name] = _Change(drop=frozenset(keys), rows=[_where(fresh, in_part)])
                fresh = _where(fresh, pc.invert(in_part))
        _add(changes, fresh, next_number(published, folder))
        steps += [
            Step(folder=folder, name=name, drop=change.drop, rows=tuple(change.rows))
            for name, change in changes.items()
        ]
    return sorted(steps, key=lambda step: not (step.folder == CAPTIONS and step.drop))


def _add(changes: dict[str, _Change], fresh: pa.Table, number: int) -> None:
    """Put fresh rows into new parts, from a number on."""
    rows = max(1, min(PART_ROWS, PART_BYTES * len(fresh) // max(1, fresh.nbytes)))
    for start in range(0, len(fresh), rows):
        changes[name_of(number)] = _Change(rows=[fresh.slice(start, rows)])
        number += 1


def merges(
    published: Iterable[Part], sizes: Mapping[Place, int]
) -> Iterator[tuple[Place, list[Part]]]:
    """Parts to put together, and the name of the one that takes their records: neighbours, but
    for full parts between them, as many as fit. Afterwards two of them never fit into one.

    sizes: bytes in memory of those that are not full.
    """
    every = sorted(published, key=lambda part: part.place)
    small = mergeable(every)
    for folder in FOLDERS:
        number = next_number(every, folder)
        group: list[Part] = []
        for part in [small_part for small_part in small if small_part.folder == folder]:
            whole = [*group, part]
            if (
                sum(each.rows for each in whole) > PART_ROWS
                or sum(sizes[each.place] for each in whole) > PART_BYTES
            ):
                if len(group) > 1:
                    yield (folder, name_of(number)), group
                    number += 1
                group = []
            group.append(part)
        if len(group) > 1:
            yield (folder, name_of(number)), group


def mergeable(published: Iterable[Part]) -> list[Part]:
    """Parts that may be put together: small ones, but for those of shards, which keep their names:
    by these a join that was cut short knows what it has taken."""
    return [part for part in published if part.rows < PART_ROWS and part.name.startswith("part-")]


def next_number(published: Iterable[Part], folder: str) -> int:
    """The first number that no part of this folder has had."""
    return 1 + max((number_of(part.name) for part in published if part.folder == folder), default=0)


def name_of(number: int) -> str:
    """The name of a part."""
    return f"part-{number:08d}.parquet"


def number_of(name: str) -> int:
    """The number in a part's name, `part-00000001.parquet` or a shard's `00003-part-…`."""
    return int(name.rpartition("part-")[2].removesuffix(".parquet"))
