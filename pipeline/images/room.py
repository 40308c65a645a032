"""How many bytes of images may be in memory at once.

An image of known size waits until it fits. One whose size shows only as it comes takes more as
it grows; if the room is full then, it may overdraw, one image at a time: were all of them to
wait, none would ever end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """The bytes of all images on their way; one a run."""

    def __init__(self, size: int) -> None:
        self.size, self.used, self.most = size, 0, 0
        self.changed = asyncio.Condition()
        self.overdraft = asyncio.Lock()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Hold]:
        """A place for one image, given back at the end of the block."""
        held = Hold(self)
        try:
            yield held
        finally:
            await held.close()


class Hold:
    """What one image has taken."""

    def __init__(self, room: Room) -> None:
        self._room, self._taken, self._over = room, 0, False

    def fits(self, size: int) -> bool:
        """May it grow to `size` without waiting?"""
        more = size - self._taken
        return more <= 0 or self._over or self._room.used + more <= self._room.size

    async def grow(self, size: int) -> None:
        """Take room for `size` bytes in all."""
        room, more = self._room, size - self._taken
        if not self.fits(size):
            if self._taken:
                await room.overdraft.acquire()
                self._over = True
            else:
                async with room.changed:
                    await room.changed.wait_for(lambda: self.fits(min(size, room.size)))
        if more > 0:
            self._taken += more
            room.used += more
            room.most = max(room.most, room.used)

    async def close(self) -> None:
        """Give everything back."""
        room = self._room
        room.used -= self._taken
        self._taken = 0
        if self._over:
            self._over = False
            room.overdraft.release()
        async with room.changed:
            room.changed.notify_all()
