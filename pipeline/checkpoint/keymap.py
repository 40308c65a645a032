"""An exact map from 128-bit keys to a few words, at 17 to 18 bytes a key (a dict takes 150).

Keys are hashes, so their first twelve bits spread them evenly over 4,096 buckets. A bucket is one
`bytearray` of 16-byte slots: a slot is a key with the word's number in the place of its first
byte, which all keys of a bucket share. A bucket that has become long is split by the next four
bits: at ten million keys one is 2.4 KB and is searched in about a microsecond. Few large objects
rather than many small ones: what those leave behind is never given back to the system.
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

_SLOT = 16
#: Bytes of a bucket that is split.
SPLIT = 8_192


class KeyMap:
    """Keys of 32 hexadecimal digits -> words (at most 256 different ones)."""

    __slots__ = ("_buckets", "_counts", "_numbers", "_words")

    def __init__(self) -> None:
        #: By the first twelve bits; one that was split is a list of sixteen.
        self._buckets: list[bytearray | list[bytearray]] = [bytearray() for _ in range(4_096)]
        self._words: list[str] = []
        self._numbers: dict[str, int] = {}
        self._counts: list[int] = []

    def __len__(self) -> int:
        return sum(self._counts)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def counts(self) -> dict[str, int]:
        """How many keys have each word."""
        return {word: n for word, n in zip(self._words, self._counts, strict=True) if n}

    def get(self, key: str) -> str | None:
        """The key's word, or None."""
        whole = unhexlify(key)
        bucket = self._bucket(whole[0], whole[1])
        at = _find(bucket, whole[1:])
        return None if at < 0 else self._words[bucket[at]]

    def set(self, key: str, word: str, *, unless: str | None = None) -> str | None:
        """Give a key its word, unless it has that one already; returns what it had before."""
        whole, number = unhexlify(key), self._number_of(word)
        bucket, rest = self._bucket(whole[0], whole[1]), whole[1:]
        at = _find(bucket, rest)
        if at < 0:
            self._counts[number] += 1
            bucket += bytes((number,)) + rest
            if len(bucket) > SPLIT:
                self._split(whole[0] << 4 | whole[1] >> 4)
            return None
        was = bucket[at]
        if self._words[was] != unless:
            self._counts[was] -= 1
            self._counts[number] += 1
            bucket[at] = number
        return self._words[was]

    def load(self, keys: pa.Array, word: str) -> None:
        """Set a whole column of keys, none of which is here yet."""
        number = self._number_of(word)
        self._counts[number] += len(keys)
        for prefix, slots in _sorted_slots(raw_keys(keys), number):
            bucket = self._bucket(prefix >> 8, prefix & 255)
            bucket += slots
            if len(bucket) > SPLIT:
                self._split(prefix >> 4)

    def _number_of(self, word: str) -> int:
        number = self._numbers.get(word)
        if number is None:
            number = self._numbers[word] = len(self._words)
            self._words.append(word)
            self._counts.append(0)
        return number

    def _bucket(self, first: int, second: int) -> bytearray:
        """Of keys with these two bytes at their start."""
        bucket = self._buckets[first << 4 | second >> 4]
        return bucket if isinstance(bucket, bytearray) else bucket[second & 15]

    def _split(self, place: int) -> None:
        whole = self._buckets[place]
        if isinstance(whole, bytearray):
            parts = [bytearray() for _ in range(16)]
            for at in range(0, len(whole), _SLOT):
                parts[whole[at + 1] & 15] += whole[at : at + _SLOT]
            self._buckets[place] = parts


def _find(bucket: bytearray, rest: bytes) -> int:
    """Where the slot of a key is (-1: nowhere), by its last fifteen bytes."""
    at = bucket.find(rest)
    while at >= 0 and at % _SLOT != 1:  # a match that lies across two slots is none
        at = bucket.find(rest, at + 1)
    return at - 1 if at > 0 else -1


def raw_keys(keys: pa.Array) -> bytes:
    """A column of keys as 16 bytes each. ValueError when one is not a key."""
    text = pc.binary_join(pa.ListArray.from_arrays([0, len(keys)], keys), "")[0].as_py() or ""
    raw = unhexlify(text)
    if len(raw) != _SLOT * len(keys):
        raise ValueError("a key has 32 hexadecimal digits")
    return raw


def _sorted_slots(raw: bytes, number: int) -> Iterator[tuple[int, memoryview]]:
    """Keys as slots with a word's number, together by their first two bytes."""
    count = len(raw) // _SLOT
    prefix = bytearray(2 * count)  # little-endian, so the first byte of the key comes second
    prefix[0::2], prefix[1::2] = raw[1::_SLOT], raw[0::_SLOT]
    prefixes = pa.Array.from_buffers(pa.uint16(), count, [None, pa.py_buffer(prefix)])
    keys = pa.Array.from_buffers(pa.binary(_SLOT), count, [None, pa.py_buffer(raw)])
    order = pc.sort_indices(prefixes)
    slots = bytearray(keys.take(order).buffers()[1])
    slots[0::_SLOT] = bytes([number]) * count
    runs = pc.run_end_encode(prefixes.take(order))
    ends = _plain(runs.run_ends, "i")
    view = memoryview(slots)
    for first_two, start, end in zip(_plain(runs.values, "H"), [0, *ends], ends, strict=False):
        yield first_two, view[start * _SLOT : end * _SLOT]


def _plain(numbers: pa.Array, code: Literal["i", "H"]) -> list[int]:
    """Arrow integers as Python's, fast; `code` is their `struct` letter."""
    held = memoryview(numbers.buffers()[1]).cast("B").cast(code)
    return held.tolist()[: len(numbers)]
