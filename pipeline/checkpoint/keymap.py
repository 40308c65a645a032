"""An exact map from 128-bit keys to a few words, at 17 to 20 bytes a key (a dict takes 150).

Keys are hashes, so their first two bytes spread them evenly over 65,536 buckets. A bucket is one
`bytearray` of 16-byte slots: in a slot the two bytes that all its keys share make room for the
word's number. At ten million keys a bucket is 2.4 KB and is searched in about a microsecond.
Whole columns are sorted into the buckets by Arrow: 0.1 µs a key.

Nothing here may ever be approximate: a key taken for settled by mistake is an image without a
caption that nobody asks for.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Iterator
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

_SLOT, _SHARED = 16, 2
#: Below this many keys a plain dict is smaller than the empty buckets.
FEW = 30_000


class KeyMap:
    """Keys of 32 hexadecimal digits -> words (at most 256 different ones)."""

    __slots__ = ("_buckets", "_counts", "_few", "_numbers", "_words")

    def __init__(self) -> None:
        self._few: dict[bytes, int] | None = {}
        self._buckets: list[bytearray] = []
        self._words: list[str] = []
        self._numbers: dict[str, int] = {}
        self._counts: list[int] = []

    def __len__(self) -> int:
        return sum(self._counts)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._number(unhexlify(key)) is not None

    def counts(self) -> dict[str, int]:
        """How many keys have each word."""
        return {word: n for word, n in zip(self._words, self._counts, strict=True) if n}

    def get(self, key: str) -> str | None:
        """The key's word, or None."""
        number = self._number(unhexlify(key))
        return None if number is None else self._words[number]

    def set(self, key: str, word: str, *, unless: str | None = None) -> str | None:
        """Give a key its word, unless it has that one already; returns what it had before."""
        whole, number = unhexlify(key), self._numbers.get(word)
        if number is None:
            number = self._number_of(word)
        few = self._few
        if few is not None and whole not in few:  # most keys of most runs
            self._counts[number] += 1
            few[whole] = number
            if len(few) > FEW:
                self._spread()
            return None
        bucket, at, was = self._slot(whole)
        before = None if was is None else self._words[was]
        if before is None or before != unless:
            self._put(whole, number, bucket, at, was)
        return before

    def load(self, keys: pa.Array, word: str) -> None:
        """Set a whole column of keys, none of which is here yet."""
        number, raw = self._number_of(word), raw_keys(keys)
        if self._few is not None:
            if len(self._few) + len(keys) <= FEW:
                for at in range(0, len(raw), _SLOT):
                    self._few[raw[at : at + _SLOT]] = number
                self._counts[number] += len(keys)
                return
            self._spread()
        self._counts[number] += len(keys)
        for bucket, slots in _sorted_slots(raw, number):
            self._buckets[bucket] += slots

    def _number_of(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._words)
            self._words.append(word)
            self._counts.append(0)
        return number

    def _number(self, whole: bytes) -> int | None:
        return self._slot(whole)[2]

    def _slot(self, whole: bytes) -> tuple[bytearray | None, int, int | None]:
        """Where a key is: its bucket (None: the dict), its slot there (-1: none), its word."""
        if self._few is not None:
            return None, -1, self._few.get(whole)
        bucket = self._buckets[whole[0] << 8 | whole[1]]
        rest = whole[_SHARED:]
        at = bucket.find(rest)
        while at >= 0 and at % _SLOT != _SHARED:  # a match that lies across two slots is none
            at = bucket.find(rest, at + 1)
        if at < 0:
            return bucket, -1, None
        return bucket, at - _SHARED, bucket[at - 1]

    def _put(
        self, whole: bytes, number: int, bucket: bytearray | None, at: int, was: int | None
    ) -> None:
        if was is not None:
            self._counts[was] -= 1
        self._counts[number] += 1
        if bucket is None:
            assert self._few is not None
            self._few[whole] = number
            if len(self._few) > FEW:
                self._spread()
        elif at < 0:
            bucket += bytes((0, number)) + whole[_SHARED:]
        else:
            bucket[at + 1] = number

    def _spread(self) -> None:
        few, self._few = self._few or {}, None
        self._buckets = [bytearray() for _ in range(65_536)]
        for whole, number in few.items():
            bucket = self._buckets[whole[0] << 8 | whole[1]]
            bucket += bytes((0, number)) + whole[_SHARED:]


def raw_keys(keys: pa.Array) -> bytes:
    """A column of keys as 16 bytes each. ValueError when one is not a key."""
    text = pc.binary_join(pa.ListArray.from_arrays([0, len(keys)], keys), "")[0].as_py() or ""
    raw = unhexlify(text)
    if len(raw) != _SLOT * len(keys):
        raise ValueError("a key has 32 hexadecimal digits")
    return raw


def _sorted_slots(raw: bytes, number: int) -> Iterator[tuple[int, memoryview]]:
    """Keys as slots with a word's number, together by bucket."""
    count = len(raw) // _SLOT
    prefix = bytearray(2 * count)  # little-endian, so the first byte of the key comes second
    prefix[0::2], prefix[1::2] = raw[1::_SLOT], raw[0::_SLOT]
    buckets = pa.Array.from_buffers(pa.uint16(), count, [None, pa.py_buffer(prefix)])
    keys = pa.Array.from_buffers(pa.binary(_SLOT), count, [None, pa.py_buffer(raw)])
    order = pc.sort_indices(buckets)
    slots = bytearray(keys.take(order).buffers()[1])
    slots[0::_SLOT], slots[1::_SLOT] = bytes(count), bytes([number]) * count
    runs = pc.run_end_encode(buckets.take(order))
    ends = _plain(runs.run_ends, "i")
    view = memoryview(slots)
    for bucket, start, end in zip(_plain(runs.values, "H"), [0, *ends], ends, strict=False):
        yield bucket, view[start * _SLOT : end * _SLOT]


def _plain(numbers: pa.Array, code: Literal["i", "H"]) -> list[int]:
    """Arrow integers as Python's, fast; `code` is their `struct` letter."""
    held = memoryview(numbers.buffers()[1]).cast("B").cast(code)
    return held.tolist()[: len(numbers)]
