"""Parquet's own bookkeeping, read without trust: the footer, and the header of every page.

pyarrow ends the whole process when a damaged footer is asked about its column chunks (a C++
exception that nobody catches), and a footer may lie about sizes: what a reader allocates is
decided by each page's header. So both are read here, in Python, where the worst is `Damaged`.
They are structs of Thrift's compact protocol; a struct becomes {field id: value}.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

#: Bytes read for one page header; statistics inside can make it long, but not this long.
_HEADER = 64 << 10
_DEPTH = 12
#: Values in one struct, all in all: keeps a footer of nothing but empty structs out of memory.
_VALUES = 20_000_000
# Thrift's compact types.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)
#: Parquet's physical type of text and bytes.
BYTE_ARRAY = 6
_DICTIONARY_PAGE = 2

Struct = dict[int, Any]


class Damaged(ValueError):
    """Not what a Parquet writer writes."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group, by the footer."""

    path: str
    physical: int
    values: int
    stored: int
    unpacked: int
    #: Offset of the first page, a dictionary if there is one.
    start: int
    dictionary: bool


@dataclass(frozen=True, slots=True)
class Group:
    """One row group."""

    rows: int
    chunks: list[Chunk]


@dataclass(frozen=True, slots=True)
class Page:
    """One page, by its own header."""

    stored: int
    unpacked: int
    dictionary: bool


def groups(footer: bytes) -> list[Group]:
    """The row groups that a footer names. Raises Damaged."""
    try:
        meta = Thrift(footer).struct()
        found = [_group(one) for one in meta[4]]
        if meta[3] != sum(group.rows for group in found):
            raise Damaged("row groups and rows do not add up")
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise Damaged("the footer lacks what it must have") from error
    return found


def _group(one: Struct) -> Group:
    if one[3] < 0:
        raise Damaged("a row group of less than no rows")
    return Group(rows=one[3], chunks=[_chunk(column[3]) for column in one[1]])


def _chunk(meta: Struct) -> Chunk:
    data, shared = meta[9], meta.get(11, 0)
    has = 0 < shared < data
    if data < 0 or meta[7] < 0 or meta[6] < 0:
        raise Damaged("a column chunk in no place")
    return Chunk(
        path=b".".join(meta[3]).decode(),
        physical=meta[1],
        values=meta[5],
        stored=meta[7],
        unpacked=meta[6],
        start=shared if has else data,
        dictionary=has,
    )


def pages(raw: BinaryIO, chunk: Chunk) -> Iterator[Page]:
    """The pages of a chunk, header by header. Raises Damaged."""
    at, end = chunk.start, chunk.start + chunk.stored
    while at < end:
        raw.seek(at)
        thrift = Thrift(raw.read(min(_HEADER, end - at)))
        header = thrift.struct()
        stored, unpacked = header.get(3), header.get(2)
        if (
            not isinstance(stored, int)
            or not isinstance(unpacked, int)
            or min(stored, unpacked) < 0
        ):
            raise Damaged("a page without sizes")
        yield Page(stored, unpacked, header.get(1) == _DICTIONARY_PAGE)
        at += thrift.at + stored


class Thrift:
    """A cursor over bytes of the compact protocol."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._values = 0
        self.at = 0

    def struct(self, depth: int = 0) -> Struct:
        """The struct at the cursor, which ends behind it."""
        if depth > _DEPTH:
            raise Damaged("a struct too deep")
        found: Struct = {}
        content, field = self._content, 0
        try:
            while head := content[self.at]:
                self.at += 1
                kind, step = head & 0x0F, head >> 4
                field = field + step if step else self._integer()
                if kind in _INTEGERS:
                    found[field] = self._integer()
                else:
                    found[field] = kind == _TRUE if kind <= _FALSE else self._value(kind, depth)
        except IndexError:
            raise Damaged("it ends in the middle") from None
        self.at += 1
        return found

    def _value(self, kind: int, depth: int) -> Any:
        self._values += 1
        if self._values > _VALUES:
            raise Damaged("too many values")
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            head = self._content[self.at]
            self.at += 1
            count = head >> 4 if head >> 4 != 15 else self._varint()
            if count > len(self._content) - self.at:
                raise Damaged("a list longer than the file")
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind in (_TRUE, _FALSE, _BYTE):  # inside lists a boolean takes a byte
            self.at += 1
            return self._content[self.at - 1]
        if kind == _DOUBLE:
            return self._bytes(8)
        raise Damaged(f"a value of unknown type {kind}")

    def _bytes(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self._content):
            raise Damaged("it ends in the middle")
        return self._content[self.at - size : self.at]

    def _varint(self) -> int:
        content, at = self._content, self.at
        value = content[at] & 0x7F
        shift = 7
        while content[at] >= 0x80:
            at += 1
            value |= (content[at] & 0x7F) << shift
            shift += 7
            if shift > 70:
                raise Damaged("a number without end")
        self.at = at + 1
        return value

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
