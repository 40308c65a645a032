"""Records by their keys, from the published parts.

Rows are asked in the order of the manifest, so the parts hold them nearly in that order too: some
thousand keys in a row stand in the parts that were just read or in the next ones. From the first
key on that does not (an image that failed, a row never asked, a manifest in another order), an
index of all keys says which parts have each. Where the orders differ much, more keys are looked
up at once, so that no part is read more than about `PASSES` times.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.store.keys import column, raw_keys, taken
from pipeline.store.parts import part_files, read_part, size_of
from pipeline.store.publish_plan import CAPTIONS, FAILURES

#: Parts with fewer records are read several at once.
GROUP = 5_000
#: … but no more bytes than this; and bytes of records that are looked up or handed on at once.
GROUP_BYTES = 32 << 20
#: Keys for each group of parts that is read, at least, where that can be had …
KEYS_A_GROUP = 1_000
#: … without looking up more than this share of all records at once.
PASSES = 50
#: Records handed on at once, of many that were looked up.
HANDED = 2_500
#: Among the keys: those before it are to be handed on.
FLUSH = b""
#: Groups kept from one look-up to the next.
_KEPT = 2
#: Groups read in vain before the index is made, beside those that so many keys fill.
_AHEAD = 2
_KEY, _HALF = pa.binary(16), 8


_KINDS = {"H": pa.uint16(), "I": pa.uint32()}


class Index:
    """Keys of 16 bytes -> the numbers that each may have, at 10 bytes a key (12 with many numbers).

    Kept are the first halves of the keys, sorted, in 256 runs by their first byte. Keys with the
    same half (among ten million there is such a pair once in 400,000 times) have each other's
    number beside their own.
    """

    def __init__(self, numbers: int) -> None:
        #: How a number is kept: two bytes where all of them fit.
        self._code: Literal["H", "I"] = "H" if numbers <= 1 << 16 else "I"
        self._halves = [bytearray() for _ in range(256)]
        self._numbers = [bytearray() for _ in range(256)]
        #: The same once they are sorted, as integers.
        self._runs: list[tuple[memoryview, memoryview]] = []

    def add(self, raw: bytes, number: int) -> None:
        """Take a column of keys; before `sort`."""
        count = len(raw) // 16
        order = pc.sort_indices(column(pa.uint8(), raw[::16]))
        halves = memoryview(column(pa.uint64(), _halves(raw)).take(order).buffers()[1])
        firsts = bytes(column(pa.uint8(), raw[::16]).take(order).buffers()[1])[:count]
        codes, start = array(self._code, [number]).tobytes(), 0
        while start < count:
            first = firsts[start]
            end = start + firsts.count(first, start)
            self._halves[first] += halves[start * _HALF : end * _HALF]
            self._numbers[first] += codes * (end - start)
            start = end

    def sort(self) -> None:
        """All keys are here; from now on they can be found."""
        for halves, numbers in zip(self._halves, self._numbers, strict=True):
            order = pc.sort_indices(column(pa.uint64(), halves))
            halves[:] = taken(pa.uint64(), halves, order)
            numbers[:] = taken(_KINDS[self._code], numbers, order)
            self._runs.append((memoryview(halves).cast("Q"), memoryview(numbers).cast(self._code)))

    def find(self, raw: bytes) -> list[tuple[int, ...]]:
        """For each key of a column its numbers; () where it has none."""
        places: list[tuple[int, ...]] = []
        for first, half in zip(raw[::16], memoryview(_halves(raw)).cast("Q"), strict=True):
            halves, numbers = self._runs[first]
            at = end = bisect_left(halves, half)
            while end < len(halves) and halves[end] == half:
                end += 1
            places.append(tuple(numbers[at:end]))
        return places


def _halves(raw: bytes) -> bytes:
    """The first half of each key."""
    return memoryview(raw).cast("Q")[::2].tobytes()


class RecordLookup:
    """The records below one output as they stand now. Blocking.

    columns: of the records, in the order in which they are handed on. The cost of a record stands
    in the first row of its key alone. OutputError names a part that cannot be read.
    """

    def __init__(self, output: Path, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        fields = (schema.RECORDS.field(name).with_nullable(True) for name in columns)
        self._shape = pa.schema(list(fields))
        self._groups: list[list[Path]] = []
        self._size = 0
        #: Keys that are looked up at once: by the part with the longest records.
        self._step = HANDED
        #: Made when it is first needed.
        self._index: Index | None = None
        self._held: dict[int, tuple[pa.Table, pa.Array]] = {}
        self._first_rows = FirstRows()
        #: The first group that was not read yet.
        self._next = 0
        for folder in (CAPTIONS, FAILURES):
            paths: list[Path] = []
            rows = size = 0
            for path in part_files(output, folder):
                paths.append(path)
                here, long = size_of(path)
                rows, size, self._size = rows + here, size + long, self._size + here
                if here:
                    self._step = max(1, min(self._step, GROUP_BYTES * here // long))
                if rows >= GROUP or size >= GROUP_BYTES:
                    self._groups.append(paths)
                    paths, rows, size = [], 0, 0
            if paths:
                self._groups.append(paths)

    def __len__(self) -> int:
        """How many records there are."""
        return self._size

    def _made_index(self) -> Index:
        index = Index(len(self._groups))
        for number, paths in enumerate(self._groups):
            index.add(b"".join([_raw(read_part(path, ["key"])) for path in paths]), number)
        index.sort()
        return index

    def records(self, keys: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
        """For each key its record, in order; nulls where there is none.

        keys: 16 bytes each, some thousand at a time; FLUSH: hand on what was asked so far.
        """
        most = len(self) // PASSES
        raw, groups = b"", list[tuple[int, ...]]()
        for chunk in self._stepped(keys):
            if chunk == FLUSH:
                if groups:
                    yield from self._taken(raw, groups)
                    raw, groups = b"", []
                continue
            if self._index is None:
                if (batch := self._near(chunk)) is not None:
                    yield batch
                    continue
                self._index = self._made_index()
            raw += chunk
            groups += self._index.find(chunk)
            enough = self._step if self._step < HANDED else most
            if len(groups) >= min(enough, KEYS_A_GROUP * len(set(groups))):
                yield from self._taken(raw, groups)
                raw, groups = b"", []
        if groups:
            yield from self._taken(raw, groups)

    def _stepped(self, keys: Iterable[bytes]) -> Iterator[bytes]:
        """The keys as they come, fewer at once where records are long."""
        if self._step == HANDED:
            yield from keys
            return
        for chunk in keys:
            if chunk == FLUSH:
                yield chunk
            for start in range(0, len(chunk), 16 * self._step):
                yield chunk[start : start + 16 * self._step]

    def _near(self, raw: bytes) -> pa.RecordBatch | None:
        """The records of some keys, if all stand in the parts just read or in the next ones."""
        keys = column(_KEY, raw)
        matches, rows = list[tuple[int, pa.Array]](), list[pa.Array]()
        left, first = len(keys), self._next
        ahead = min(self._next + _AHEAD + len(keys) // GROUP, len(self._groups))
        for number in [*reversed(self._held), *range(self._next, ahead)]:
            if number not in self._held:
                self._held[number] = self._read(number)
                self._next = number + 1
            _, known = self._held[number]
            at = pc.index_in(keys, value_set=known)
            if at.null_count < len(at):
                left -= len(at) - at.null_count
                # What precedes the middle of a group may have been overtaken by the group before.
                early = pc.min(at).as_py() < len(known) // 2
                first = min(first, number - early)
                matches.append((number, at.drop_null()))
                rows.append(pc.indices_nonzero(at.is_valid()))
            if not left:
                break
        if left:
            return None
        places = pa.concat_arrays(rows)
        order, numbers = pc.sort_indices(places), pa.arange(0, len(keys)).cast(places.type)
        if not places.take(order).equals(numbers):
            return None  # one key twice and one not at all: an output that does not verify
        whole = pa.concat_tables([self._rows_at(number, at) for number, at in matches])
        if not places.equals(numbers):
            whole = whole.combine_chunks().take(order)
        for number in [number for number in self._held if number < first]:
            del self._held[number]
        (batch,) = whole.combine_chunks().to_batches()
        return batch

    def _rows_at(self, number: int, at: pa.Array) -> pa.Table:
        """Some records of a group, not copied where they stand in a row."""
        table, known = self._held[number]
        first = at[0].as_py()
        follow = at.equals(pa.arange(first, first + len(at)).cast(at.type))
        rows = table.slice(first, len(at)) if follow else table.take(at)
        return self._first_rows.paid_once(rows, number, len(known), at)

    def _taken(self, raw: bytes, groups: Sequence[tuple[int, ...]]) -> Iterator[pa.RecordBatch]:
        """The records of some keys, `HANDED` at a time. groups: those that may hold each."""
        rows: dict[int, list[int]] = {}
        for row, numbers in enumerate(groups):
            for number in numbers:
                rows.setdefault(number, []).append(row)
        keys = column(_KEY, raw)
        nothing = pa.Table.from_arrays(
            [pa.nulls(1, field.type) for field in self._shape], schema=self._shape
        )
        tables, size = [nothing], 1
        place = array("q", bytes(8 * len(groups)))
        for number, wanted in rows.items():
            table, known = self._group(number)
            at = pc.index_in(keys.take(pa.array(wanted)), value_set=known)
            tables.append(self._first_rows.paid_once(table.take(at), number, len(known), at))
            for offset, (row, here) in enumerate(
                zip(wanted, at.is_valid().to_pylist(), strict=True)
            ):
                if here:
                    place[row] = size + offset
            size += len(wanted)
        for number in [number for number in self._held if number not in rows]:
            del self._held[number]
        places = column(pa.int64(), place.tobytes())
        whole = pa.concat_tables(tables).combine_chunks()
        tables.clear()  # many keys are megabytes, and this was their second copy
        for start in range(0, len(places), HANDED):
            (batch,) = whole.take(places.slice(start, HANDED)).to_batches()
            yield batch

    def _group(self, number: int) -> tuple[pa.Table, pa.Array]:
        """The records of some parts, and their keys. The last ones read are kept."""
        cached = self._held.pop(number, None) or self._read(number)
        self._held[number] = cached
        while len(self._held) > _KEPT:
            del self._held[next(iter(self._held))]
        return cached

    def _read(self, number: int) -> tuple[pa.Table, pa.Array]:
        columns = list(dict.fromkeys([*self._columns, "key"]))
        tables = [read_part(path, columns) for path in self._groups[number]]
        table = pa.concat_tables(tables).combine_chunks()
        known = column(_KEY, _raw(table))
        arrays = [table.column(name) for name in self._columns]
        return pa.Table.from_arrays(arrays, schema=self._shape), known


def _raw(table: pa.Table) -> bytes:
    """The keys of some records, 16 bytes each."""
    return raw_keys(table.column("key").combine_chunks())


#: The column that only the first row gets.
ONCE = "cost_usd"


class FirstRows:
    """Which records were handed on already: rows with one key share a record, and what it cost stands in
    the first of them alone, else a sum over the rows counts it several times. A byte a record."""

    def __init__(self) -> None:
        #: Group of parts -> a byte for each of its records.
        self._marks: dict[int, bytearray] = {}

    def paid_once(self, rows: pa.Table, number: int, size: int, at: pa.Array) -> pa.Table:
        """The rows, with no cost in those whose record was handed on before.

        number, size: the group of parts, and its records; at: which of them the rows are, in their
        order, null for none. To be called once for each row.
        """
        place = rows.schema.get_field_index(ONCE)
        if place < 0 or rows.column(place).null_count == len(rows):
            return rows
        marks = self._marks.setdefault(number, bytearray(size))
        first = []
        for record in at.to_pylist():
            first.append(record is None or not marks[record])
            if record is not None:
                marks[record] = 1
        if all(first):
            return rows
        paid = pc.if_else(pa.array(first), rows.column(place), None)
        return rows.set_column(place, rows.schema.field(place), paid)
