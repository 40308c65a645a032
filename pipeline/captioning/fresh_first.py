"""Which refused packs wait, where a day's requests do not reach for all that is left.

They are remembered by key, not held with their pictures: a day may leave many. Their rows are passed
over while the manifest is read, and read once more when all others were asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.captioning.select import Candidate
from pipeline.captioning.suspects import Suspects
from pipeline.store.keys import KeyMap


class FreshFirst:
    """The `Memory` of a run's culprits. One a run."""

    def __init__(self, suspects: Suspects, binds: Callable[[int], bool]) -> None:
        """binds: does the day not reach for all that is left, with so many packs under suspicion?"""
        self._suspects, self._binds = suspects, binds
        self._put_off = KeyMap()
        #: Are images that were not asked yet still being read?
        self._reading = True

    def pack_of(self, key: str) -> tuple[int, int] | None:
        """The number of the refused pack that an image which comes belongs to, and its images."""
        return self._suspects.pack_of(key)

    def suspect(self, keys: Sequence[str], of: Sequence[str]) -> None:
        """One of these must be why a request was refused; the others `of` these are suspect no more."""
        self._suspects.suspect(keys, of)

    def waits(self) -> bool:
        """Do fresh packs go before the search?"""
        return self._binds(self._suspects.packs)

    def postpones(self, keys: Sequence[str]) -> bool:
        """Are these left for later?"""
        if not (self._reading and self.waits()):
            return False
        self._suspects.put_off(keys)
        for key in keys:
            self._put_off.set(key, "")
        return True

    def ready(self, candidates: list[Candidate]) -> list[Candidate]:
        """The rows that are not left for later."""
        if not (self._reading and self._suspects):
            return candidates
        waiting = {key for _, raw in candidates if (key := raw.hex()) in self._suspects}
        if not waiting or not self.waits():
            return candidates
        for key in waiting:
            self._put_off.set(key, "")
        return [candidate for candidate in candidates if candidate[1].hex() not in waiting]

    def later(self) -> KeyMap:
        """All others were read: the keys that were left until now. From now on none is."""
        self._reading = False
        keys, self._put_off = self._put_off, KeyMap()
        return keys
