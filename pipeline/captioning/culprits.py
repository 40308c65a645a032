"""The search for the images because of which packs are refused. Pure.

A refused pack holds at least one image that the service will not have. It is found by binary
search: one half is asked. If it is answered, the culprit is in the other half; if it is refused,
the culprit is in it. Either way the half that must hold the culprit is never asked whole but
halved at once, and the half about which nothing is known goes back to the fresh images and
travels with them. An image left over alone is still asked: its own refusal is its reason.

Which images are under suspicion is remembered over runs (`Memory`), so that no refusal is asked for
twice. Where the day does not reach for all that is left, they wait until the fresh images were
asked: a fresh pack brings more captions than half of a refused one (`packsize/order.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from pipeline.model import Item
from pipeline.packsize.order import RECENT, fresh_yields_more

#: Refused packs whose pictures are held: that wait for fresh packs which may come, or of which some
#: images have come again and others have not. Above that the oldest is searched.
MOST_GROUPS = 16


class Memory(Protocol):
    """What is known of refused packs beyond this run, and when they are searched."""

    def pack_of(self, key: str) -> tuple[int, int] | None:
        """The number of the refused pack that an image which comes belongs to, and its images."""

    def suspect(self, keys: Sequence[str], of: Sequence[str]) -> None:
        """One of these must be why a request was refused; the others `of` these are suspect no more."""

    def waits(self) -> bool:
        """Do fresh packs go before the search?"""

    def postpones(self, keys: Sequence[str]) -> bool:
        """Are these left for later? Then they come again as images that were not asked yet."""


class NoMemory:
    """Everything is searched at once, and forgotten with the run."""

    def pack_of(self, key: str) -> None:
        """None."""

    def suspect(self, keys: Sequence[str], of: Sequence[str]) -> None:
        """Not remembered."""

    def waits(self) -> bool:
        """No."""
        return False

    def postpones(self, keys: Sequence[str]) -> bool:
        """No."""
        return False


class Group(NamedTuple):
    """Images of which one must be why a request was refused."""

    items: tuple[Item, ...] = ()
    #: Images in the smallest refused request whose others are known to be good; 0 where it was
    #: not the request that was refused but what an image shows.
    refused: int = 0


class Culprits:
    """The groups that must hold a culprit, and the halves of them that are asked. One a run."""

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory: Memory = NoMemory() if memory is None else memory
        #: Never asked whole.
        self._groups: deque[Group] = deque()
        #: Asked half (its first key) -> the other half, which is guilty if this one is not; empty
        #: when the last suspect was asked alone.
        self._other_halves: dict[str, Group] = {}
        #: Number of a refused pack of an earlier run -> what has come of it.
        self._gathered: dict[int, list[Item]] = {}
        #: Were the last packs answered, those that are no part of a search?
        self._answered: deque[bool] = deque(maxlen=RECENT)

    def __len__(self) -> int:
        groups = (group.items for group in (*self._groups, *self._other_halves.values()))
        return sum(map(len, groups)) + sum(map(len, self._gathered.values()))

    def take_in(self, item: Item) -> bool:
        """Is this image, which comes, under suspicion? Then the search goes on where it stood as soon
        as the others of its pack are here."""
        pack = self._memory.pack_of(item.asked.key)
        if pack is None:
            return False
        number, images = pack
        gathered = self._gathered.setdefault(number, [])
        gathered.append(item)
        if len(gathered) >= images:
            self._search(number)
        elif len(self._gathered) > MOST_GROUPS:
            self._search(next(iter(self._gathered)))
        return True

    def gathered_all(self) -> None:
        """No more images come: those that are missing are not in the manifest any more."""
        for number in tuple(self._gathered):
            self._search(number)

    def _search(self, number: int) -> None:
        self._groups.append(Group(tuple(self._gathered.pop(number))))

    @property
    def size_in_doubt(self) -> bool:
        """Is it not known yet whether a request was refused for its size?"""
        return any(group.refused for group in (*self._groups, *self._other_halves.values()))

    def wait(self, *, coming: bool) -> bool:
        """Does the next half wait for fresh packs? coming: none is full, but images still come."""
        return (
            bool(self._groups)
            and not self._groups[0].refused
            and not (coming and len(self._groups) >= MOST_GROUPS)
            and fresh_yields_more(self._answered)
            and self._memory.waits()
        )

    @property
    def next_images(self) -> int | None:
        """Images of the half to ask next."""
        return max(1, len(self._groups[0].items) // 2) if self._groups else None

    def halve(self) -> tuple[Item, ...]:
        """The half to ask next."""
        items, refused = self._groups.popleft()
        half = max(1, len(items) // 2)
        self._other_halves[items[0].asked.key] = Group(items[half:], refused)
        return items[:half]

    def other_half(self, items: Sequence[Item]) -> Group | None:
        """The other half of images that were asked; None: they were no half."""
        return self._other_halves.pop(items[0].asked.key, None)

    def note(self, *, answered: bool) -> None:
        """What became of a pack that was no half."""
        self._answered.append(answered)

    def suspect(self, group: Group, of: Iterable[Item], *, proven: int | None) -> None:
        """One of a group must be why a request was refused. of: all that were under suspicion.
        proven: images in a pack that the service is known to answer; None: any."""
        keys = [item.asked.key for item in group.items]
        if proven is not None and group.refused > proven:
            self._groups.append(group)  # its size may be why, which the next packs need to know
            return
        self._memory.suspect(keys, [item.asked.key for item in of])
        if not (fresh_yields_more(self._answered) and self._memory.postpones(keys)):
            self._groups.append(group)
