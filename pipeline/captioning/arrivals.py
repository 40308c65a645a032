"""Content hashes of pictures as their bytes arrive: they give the key (`images.identity: content`), or
show that a file is still what its record is about (`auto`)."""

from __future__ import annotations

import asyncio
import hashlib

from pipeline.captioning.naming import Naming
from pipeline.captioning.select import Candidate, Selection
from pipeline.model import Row


class AlreadyAsked(Exception):
    """The bytes of this picture have a result, or are asked about in this run."""


class Arrivals:
    """Gives chosen rows the keys of their bytes, as these arrive. One a run."""

    def __init__(self, naming: Naming, selection: Selection) -> None:
        self._naming, self._selection = naming, selection
        #: Key that a row was chosen under -> the row and the key of its bytes, until it is done with.
        self._named: dict[bytes, Candidate] = {}

    async def read(self, row: Row, chosen: bytes, stamp: str | None, data: bytes) -> None:
        """The bytes of a row were read. stamp: of its place, before that. AlreadyAsked when they
        need not be decoded."""
        if stamp is None and self._naming.contents is None:
            return
        digest = (await asyncio.to_thread(hashlib.sha256, data)).digest()
        self.known(row, chosen, stamp, digest)

    def known(self, row: Row, chosen: bytes, stamp: str | None, digest: bytes) -> None:
        """The SHA-256 of a row's bytes is known. AlreadyAsked as with `read`."""
        versions = self._naming.versions
        if stamp is None and self._naming.contents is None:
            return
        if versions is not None and stamp is not None:
            if versions.same(chosen, stamp, digest):
                raise AlreadyAsked
            return
        self._naming.keep(row, stamp, digest)
        named = self._naming.named(row, digest)
        _, key = named
        if key == chosen or (chosen in self._named and self._named[chosen][1] == key):
            return
        if not self._selection.takes(key):
            raise AlreadyAsked
        self._named[chosen] = named

    def named(self, row: Row, chosen: bytes) -> Candidate:
        """A row that is done with loading, and its key."""
        return self._named.pop(chosen, (row, chosen))
