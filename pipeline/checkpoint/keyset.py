"""An exact set of 128-bit keys at 16 to 20 bytes each, where a Python set takes about 100.

Keys are hashes, so their first two bytes spread them evenly over 65,536 buckets; a bucket is
the remaining 14 bytes of its keys, one after the other, searched by `bytearray.find`. At ten
million keys a bucket is about 2 KB and a search well under a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable

_REST = 14
#: Below this many keys a plain set is smaller than the empty buckets.
SMALL = 50_000


class KeySet:
    """A growing set of 32-digit hexadecimal keys."""

    __slots__ = ("_buckets", "_count", "_small")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._small: set[bytes] | None = set()
        self._buckets: list[bytearray | None] = []
        self._count = 0
        for key in keys:
            self.add(key)

    def __len__(self) -> int:
        return self._count if self._small is None else len(self._small)

    def __contains__(self, key: str) -> bool:
        whole = bytes.fromhex(key)
        if self._small is not None:
            return whole in self._small
        return self._find(whole) >= 0

    def add(self, key: str) -> bool:
        """Add a key; True if it was new."""
        whole = bytes.fromhex(key)
        if self._small is not None:
            if whole in self._small:
                return False
            self._small.add(whole)
            if len(self._small) > SMALL:
                self._spread()
            return True
        if self._find(whole) >= 0:
            return False
        self._put(whole)
        return True

    def discard(self, key: str) -> None:
        """Take a key out, if it is in."""
        whole = bytes.fromhex(key)
        if self._small is not None:
            self._small.discard(whole)
            return
        at = self._find(whole)
        if at >= 0:
            bucket = self._buckets[whole[0] << 8 | whole[1]]
            assert bucket is not None
            bucket[at : at + _REST] = bucket[-_REST:]
            del bucket[-_REST:]
            self._count -= 1

    def _spread(self) -> None:
        small, self._small = self._small or set(), None
        self._buckets = [None] * 65_536
        for whole in small:
            self._put(whole)

    def _put(self, whole: bytes) -> None:
        index = whole[0] << 8 | whole[1]
        bucket = self._buckets[index]
        if bucket is None:
            bucket = self._buckets[index] = bytearray()
        bucket += whole[2:]
        self._count += 1

    def _find(self, whole: bytes) -> int:
        """Offset of the key in its bucket, or -1. A match across two keys is not a match."""
        bucket = self._buckets[whole[0] << 8 | whole[1]]
        if bucket is None:
            return -1
        rest, at = whole[2:], -1
        while (at := bucket.find(rest, at + 1)) >= 0:
            if at % _REST == 0:
                return at
        return -1
