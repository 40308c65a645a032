"""The true sizes of a Parquet column chunk's pages, from the page headers themselves.

The footer's sizes are only what the writer claims; what a reader allocates is decided by each
page's header: a struct in Thrift's compact protocol before the page. Only the two sizes are
wanted, the rest is skipped. Field ids: 2 uncompressed_page_size, 3 compressed_page_size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

#: Bytes read for one header; statistics inside can make it long, but not this long.
_HEADER = 64 << 10
_DEPTH = 8
# Thrift compact types.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)


class Damaged(ValueError):
    """Not a page header."""


def sizes(raw: BinaryIO, start: int, length: int) -> Iterator[tuple[int, int]]:
    """(bytes stored, bytes unpacked) of each page of the chunk at `start`. Raises Damaged."""
    at, end = start, start + length
    while at < end:
        raw.seek(at)
        header = _Header(raw.read(min(_HEADER, end - at)))
        fields = header.integers()
        stored, unpacked = fields.get(3, -1), fields.get(2, -1)
        if stored < 0 or unpacked < 0:
            raise Damaged("a page without sizes")
        yield stored, unpacked
        at += header.at + stored


class _Header:
    """A cursor over one Thrift struct."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def integers(self) -> dict[int, int]:
        """The struct's integer fields; the cursor ends behind it."""
        found, field = {}, 0
        while (head := self._byte()) != 0:
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else _unzigzag(self._varint())
            if kind in _INTEGERS:
                found[field] = _unzigzag(self._varint())
            else:
                self._skip(kind, 0)
        return found

    def _byte(self) -> int:
        if self.at >= len(self._content):
            raise Damaged("a page header without end")
        self.at += 1
        return self._content[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise Damaged("a number without end")

    def _jump(self, size: int) -> None:
        self.at += size
        if self.at > len(self._content):
            raise Damaged("a page header without end")

    def _skip(self, kind: int, depth: int, *, element: bool = False) -> None:
        """Step over one value. Inside lists a boolean takes a byte, in fields none."""
        if depth > _DEPTH:
            raise Damaged("a page header too deep")
        if kind in (_TRUE, _FALSE):
            self._jump(int(element))
        elif kind == _BYTE:
            self._jump(1)
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _DOUBLE:
            self._jump(8)
        elif kind == _BINARY:
            self._jump(self._varint())
        elif kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            for _ in range(count):
                self._skip(head & 0x0F, depth + 1, element=True)
        elif kind == _STRUCT:
            while (head := self._byte()) != 0:
                if not head >> 4:
                    self._varint()
                self._skip(head & 0x0F, depth + 1)
        else:
            raise Damaged(f"an unknown value in a page header ({kind})")


def _unzigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)
