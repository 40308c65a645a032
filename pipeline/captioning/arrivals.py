"""Content hashes of pictures as their bytes arrive: they give the key (`images.identity: content`), or
show that a file is still what its record is about (`auto`)."""

from __future__ import annotations

import asyncio
import hashlib

from pipeline.captioning.naming import Naming
from pipeline.captioning.select import Selection
from pipeline.model import Row


class AlreadyAsked(Exception):
    """The bytes of this picture have a result, or are asked about in this run."""


class Arrivals:
    """Gives chosen rows the keys of their bytes, as these arrive. One a run."""

    def __init__(self, naming: Naming, selection: Selection) -> None:
        self._naming, self._selection = naming, selection
        #: Key that a row was chosen under -> the key of its bytes, until it is done with.
        self._keys: dict[bytes, bytes] = {}

    async def read(self, row: Row, chosen: bytes, stamp: str | None, data: bytes) -> None:
        """The bytes of a row were read. stamp: of its place, before that. AlreadyAsked when they
        need not be decoded."""
        versions = self._naming.versions
        if stamp is None and self._naming.contents is None:
            return
        digest = (await asyncio.to_thread(hashlib.sha256, data)).digest()
        if versions is not None and stamp is not None:
            if versions.same(chosen, stamp, digest):
                raise AlreadyAsked
            return
        self._naming.keep(row, stamp, digest)
        key = self._naming.raw_of(row, digest)
        if key == chosen or self._keys.get(chosen) == key:
            return
        if not self._selection.takes(key):
            raise AlreadyAsked
        self._keys[chosen] = key

    def key(self, chosen: bytes) -> bytes:
        """The key of a row that is done with loading."""
        return self._keys.pop(chosen, chosen)
