"""An exact map from 128-bit keys to a few words, at 18 to 19 bytes a key (a dict takes 150).

A B-tree of one level: the leaves hold up to `LEAF` keys each, in order, and one list says where
each leaf begins. A key is found by bisection and put in its place by moving what follows it, some
tens of kilobytes: two to three microseconds in all. Each leaf is memory of its own from the
system, of which only the pages in use count; so nothing is left behind when a leaf is split or
the map is dropped, where growing arrays left a third of their size in holes.
Whole columns are sorted by Arrow and added to the leaves as they are; a leaf is brought into
order when it is next looked into.

Nothing here may ever be approximate: a key taken for settled by mistake is an image without a
caption that nobody asks for.
"""

from __future__ import annotations

import mmap
from binascii import unhexlify
from bisect import bisect_left, bisect_right
from struct import Struct

import pyarrow as pa
import pyarrow.compute as pc

#: Keys of a full leaf.
LEAF = 4_096
_SLOT = 16
_KEY = pa.binary(_SLOT)
#: A key as two numbers in the machine's own order, which is the order of the leaves.
_halves = Struct("QQ").unpack


class KeyMap:
    """Keys of 32 hexadecimal digits -> words (at most 256 different ones)."""

    __slots__ = ("_counts", "_leaves", "_numbers", "_starts", "_words")

    def __init__(self) -> None:
        self._leaves = [_Leaf(LEAF)]
        #: The least first half that a leaf may hold. Keys with the same first half stand in one.
        self._starts = [0]
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
        first, second = _halves(unhexlify(key))
        leaf = self._leaves[bisect_right(self._starts, first) - 1]
        at = leaf.find(first, second)
        return None if at < 0 else self._words[leaf.words[at]]

    def set(self, key: str, word: str, *, unless: str | None = None) -> str | None:
        """Give a key its word, unless it has that one already; returns what it had before."""
        raw = unhexlify(key)
        first, second = _halves(raw)
        place = bisect_right(self._starts, first) - 1
        leaf = self._leaves[place]
        at = leaf.find(first, second)
        number = self._numbers.get(word)
        if number is None:
            number = self._new_number(word)
        if at < 0:
            self._counts[number] += 1
            leaf.insert(~at, raw, number)
            if leaf.used == leaf.size:
                self._split(place)
            return None
        was = leaf.words[at]
        if self._words[was] != unless:
            self._counts[was] -= 1
            self._counts[number] += 1
            leaf.words[at] = number
        return self._words[was]

    def load(self, keys: pa.Array, word: str) -> None:
        """Set a whole column of keys, none of which is here yet."""
        number = self._numbers.get(word)
        if number is None:
            number = self._new_number(word)
        self._counts[number] += len(keys)
        raw = raw_keys(keys)
        slots = taken(_KEY, raw, _order(raw))
        firsts, _ = _columns(slots)
        start = 0
        while start < len(firsts):
            place = bisect_right(self._starts, firsts[start]) - 1
            leaf, end = self._leaves[place], len(firsts)
            if place + 1 < len(self._starts):
                end = bisect_left(firsts, self._starts[place + 1], start)
            end = min(end, start + leaf.size - leaf.used)
            leaf.add(slots[start * _SLOT : end * _SLOT], number)
            if leaf.used == leaf.size:
                self._split(place)
            start = end

    def _new_number(self, word: str) -> int:
        number = self._numbers[word] = len(self._words)
        self._words.append(word)
        self._counts.append(0)
        return number

    def _split(self, place: int) -> None:
        """Make two leaves of one that is full; a larger one, should all its keys begin alike."""
        whole = self._leaves[place]
        whole.bring_into_order()
        middle = whole.firsts[whole.used // 2]
        at = bisect_left(whole.firsts, middle, 0, whole.used)
        if not at:
            at = bisect_right(whole.firsts, middle, 0, whole.used)
        self._leaves[place] = whole.part(0, at, LEAF if at < whole.used else 2 * whole.size)
        if at < whole.used:
            self._leaves.insert(place + 1, whole.part(at, whole.used, LEAF))
            self._starts.insert(place + 1, whole.firsts[at])


class _Leaf:
    """Keys in the order of their halves, and their words, in memory of their own."""

    __slots__ = ("firsts", "ordered", "room", "seconds", "size", "used", "words")

    def __init__(self, size: int) -> None:
        self.size, self.used = size, 0
        #: Keys from the start that are in order; those behind them came by the column.
        self.ordered = 0
        self.room = _memory(size * _SLOT)
        self.firsts, self.seconds = _columns(self.room)
        self.words = bytearray()

    def find(self, first: int, second: int) -> int:
        """Where a key is; ~ where it would have to be put (less than 0) if it is not here."""
        if self.ordered < self.used:
            self.bring_into_order()
        firsts, used = self.firsts, self.used
        at = bisect_left(firsts, first, 0, used)
        if at == used or firsts[at] != first:
            return ~at
        # That two keys share a half is hardly ever so, but must not make one of them.
        while at < used and firsts[at] == first and self.seconds[at] < second:
            at += 1
        here = at < used and firsts[at] == first and self.seconds[at] == second
        return at if here else ~at

    def insert(self, at: int, raw: bytes, number: int) -> None:
        """Put a key in its place; there is room for it."""
        slot = at * _SLOT
        self.room.move(slot + _SLOT, slot, (self.used - at) * _SLOT)
        self.room[slot : slot + _SLOT] = raw
        self.words.insert(at, number)
        self.used += 1
        self.ordered += 1

    def add(self, slots: memoryview, number: int) -> None:
        """Put keys behind the others; there is room for them."""
        start = self.used * _SLOT
        self.room[start : start + len(slots)] = slots
        self.words += bytes([number]) * (len(slots) // _SLOT)
        self.used = len(self.words)

    def part(self, start: int, end: int, size: int) -> _Leaf:
        """A leaf with some of the keys of this one, which is in order."""
        leaf = _Leaf(size)
        leaf.used = leaf.ordered = end - start
        leaf.room[: leaf.used * _SLOT] = self.room[start * _SLOT : end * _SLOT]
        leaf.words += self.words[start:end]
        return leaf

    def bring_into_order(self) -> None:
        """Sort what came by the column among the others."""
        if self.ordered < self.used:
            slots = self.room[: self.used * _SLOT]
            order = _order(slots)
            self.room[: len(slots)] = taken(_KEY, slots, order)
            self.words[:] = taken(pa.uint8(), self.words, order)
            self.ordered = self.used


def _memory(size: int) -> mmap.mmap:
    """Zeros from the system. A page counts when it is first written to."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _columns(slots: mmap.mmap | bytes | memoryview) -> tuple[memoryview, memoryview]:
    """The first and the second halves of keys, as numbers."""
    both = memoryview(slots).cast("B").cast("Q")
    return both[::2], both[1::2]


def raw_keys(keys: pa.Array) -> bytes:
    """A column of keys as 16 bytes each. ValueError when one is not a key."""
    text = pc.binary_join(pa.ListArray.from_arrays([0, len(keys)], keys), "")[0].as_py() or ""
    raw = unhexlify(text)
    if len(raw) != _SLOT * len(keys):
        raise ValueError("a key has 32 hexadecimal digits")
    return raw


def _order(raw: bytes) -> pa.Array:
    """The order of some keys, by both halves."""
    firsts, seconds = (column(pa.uint64(), half.tobytes()) for half in _columns(raw))
    order = pc.sort_indices(firsts)
    ordered = firsts.take(order)
    if pc.equal(ordered[1:], ordered[:-1]).true_count:
        both = pa.table({"first": firsts, "second": seconds})
        order = pc.sort_indices(both, [("first", "ascending"), ("second", "ascending")])
    return order


def taken(kind: pa.DataType, values: bytes | bytearray, order: pa.Array) -> memoryview:
    """The bytes of some values, in another order."""
    moved = column(kind, values).take(order)
    return memoryview(moved.buffers()[1] or b"")[: len(values)]


def column(kind: pa.DataType, values: bytes | bytearray) -> pa.Array:
    """Plain values of one width as an Arrow column, not copied."""
    size = len(values) * 8 // kind.bit_width
    return pa.Array.from_buffers(kind, size, [None, pa.py_buffer(values)])
