"""Records by their keys, from the published parts: an index says which parts have a key.

Rows are asked in the order of the manifest, so the parts hold them nearly in that order too: some
thousand keys in a row stand in two or three parts, and each part is read once or twice in all.
Where the orders differ, more keys are looked up at once, so that no part is read more than about
`PASSES` times.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.checkpoint.keymap import raw_keys
from pipeline.checkpoint.parts import part_files, read_part
from pipeline.checkpoint.plan import CAPTIONS, FAILURES

#: Parts with fewer records are read several at once.
GROUP = 5_000
#: Keys for each group of parts that is read, at least, where that can be had …
KEYS_A_GROUP = 1_000
#: … without looking up more than this share of all records at once.
PASSES = 50
#: Groups kept from one look-up to the next.
_KEPT = 2
_KEY, _HALF = pa.binary(16), 8


class Index:
    """Keys of 16 bytes -> the numbers that each may have, at 12 bytes a key.

    Kept are the first halves of the keys, sorted, in 256 runs by their first byte. Keys with the
    same half (among ten million there is such a pair once in 400,000 times) have each other's
    number beside their own.
    """

    def __init__(self) -> None:
        self._size = 0
        self._halves = [bytearray() for _ in range(256)]
        self._numbers = [bytearray() for _ in range(256)]
        #: The same once they are sorted, as integers.
        self._runs: list[tuple[memoryview, memoryview]] = []

    def __len__(self) -> int:
        return self._size

    def add(self, raw: bytes, number: int) -> None:
        """Take a column of keys; before `sort`."""
        count = len(raw) // 16
        self._size += count
        order = pc.sort_indices(_column(pa.uint8(), raw[::16]))
        halves = memoryview(_column(pa.uint64(), _halves(raw)).take(order).buffers()[1])
        firsts = bytes(_column(pa.uint8(), raw[::16]).take(order).buffers()[1])[:count]
        mine, start = array("I", [number]).tobytes(), 0
        while start < count:
            first = firsts[start]
            end = start + firsts.count(first, start)
            self._halves[first] += halves[start * _HALF : end * _HALF]
            self._numbers[first] += mine * (end - start)
            start = end

    def sort(self) -> None:
        """All keys are here; from now on they can be found."""
        for halves, numbers in zip(self._halves, self._numbers, strict=True):
            column = _column(pa.uint64(), halves)
            order = pc.sort_indices(column)
            halves[:] = memoryview(column.take(order).buffers()[1] or b"")[: len(halves)]
            moved = _column(pa.uint32(), numbers).take(order)
            numbers[:] = memoryview(moved.buffers()[1] or b"")[: len(numbers)]
            self._runs.append((memoryview(halves).cast("Q"), memoryview(numbers).cast("I")))

    def find(self, raw: bytes) -> list[tuple[int, ...]]:
        """For each key of a column its numbers; () where it has none."""
        found: list[tuple[int, ...]] = []
        for first, half in zip(raw[::16], memoryview(_halves(raw)).cast("Q"), strict=True):
            halves, numbers = self._runs[first]
            at = end = bisect_left(halves, half)
            while end < len(halves) and halves[end] == half:
                end += 1
            found.append(tuple(numbers[at:end]))
        return found


def _halves(raw: bytes) -> bytes:
    """The first half of each key."""
    return memoryview(raw).cast("Q")[::2].tobytes()


def _column(kind: pa.DataType, data: bytes | bytearray) -> pa.Array:
    size = len(data) * 8 // kind.bit_width
    return pa.Array.from_buffers(kind, size, [None, pa.py_buffer(data)])


class Lookup:
    """The records below one output as they stand now. Blocking.

    columns: of the records, in the order in which they are handed on. OutputError names a part
    that cannot be read.
    """

    def __init__(self, output: Path, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        fields = (schema.RECORDS.field(name).with_nullable(True) for name in columns)
        self._shape = pa.schema(list(fields))
        self._groups: list[list[Path]] = []
        self._index = Index()
        self._held: dict[int, tuple[pa.Table, pa.Array]] = {}
        for folder in (CAPTIONS, FAILURES):
            paths: list[Path] = []
            keys = b""
            for path in part_files(output, folder):
                paths.append(path)
                keys += _raw(read_part(path, ["key"]))
                if len(keys) >= 16 * GROUP:
                    self._add(paths, keys)
                    paths, keys = [], b""
            self._add(paths, keys)
        self._index.sort()

    def __len__(self) -> int:
        """How many records there are."""
        return len(self._index)

    def _add(self, paths: list[Path], keys: bytes) -> None:
        self._index.add(keys, len(self._groups))
        self._groups.append(paths)

    def records(self, keys: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
        """For each key its record, in order; nulls where there is none.

        keys: 16 bytes each, some thousand at a time.
        """
        most = len(self) // PASSES
        raw, groups = b"", list[tuple[int, ...]]()
        for some in keys:
            raw += some
            groups += self._index.find(some)
            if len(groups) >= min(most, KEYS_A_GROUP * len(set(groups))):
                yield self._taken(raw, groups)
                raw, groups = b"", []
        if groups:
            yield self._taken(raw, groups)

    def _taken(self, raw: bytes, groups: Sequence[tuple[int, ...]]) -> pa.RecordBatch:
        """The records of some keys. groups: those that may hold each."""
        rows: dict[int, list[int]] = {}
        for row, numbers in enumerate(groups):
            for number in numbers:
                rows.setdefault(number, []).append(row)
        keys = _column(_KEY, raw)
        nothing = pa.Table.from_arrays(
            [pa.nulls(1, field.type) for field in self._shape], schema=self._shape
        )
        found, size = [nothing], 1
        place = array("q", bytes(8 * len(groups)))
        for number, mine in rows.items():
            table, known = self._group(number)
            at = pc.index_in(keys.take(pa.array(mine)), value_set=known)
            found.append(table.take(at))
            for offset, (row, here) in enumerate(zip(mine, at.is_valid().to_pylist(), strict=True)):
                if here:
                    place[row] = size + offset
            size += len(mine)
        for number in [number for number in self._held if number not in rows]:
            del self._held[number]
        places = _column(pa.int64(), place.tobytes())
        (batch,) = pa.concat_tables(found).combine_chunks().take(places).to_batches()
        return batch

    def _group(self, number: int) -> tuple[pa.Table, pa.Array]:
        """The records of some parts, and their keys. The last ones read are kept."""
        held = self._held.pop(number, None)
        if held is None:
            columns = list(dict.fromkeys([*self._columns, "key"]))
            tables = [read_part(path, columns) for path in self._groups[number]]
            table = pa.concat_tables(tables).combine_chunks()
            known = _column(_KEY, _raw(table))
            held = table.select(self._columns).cast(self._shape), known
        self._held[number] = held
        while len(self._held) > _KEPT:
            del self._held[next(iter(self._held))]
        return held


def _raw(table: pa.Table) -> bytes:
    """The keys of some records, 16 bytes each."""
    return raw_keys(table.column("key").combine_chunks())
