"""How many bytes of one kind (images, answers) may be in memory at once.

What is of known size waits until it fits. What shows its size only as it comes takes more as it
grows; if the budget is used up then, it may overdraw, one at a time: were all of them to wait,
none would ever end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class MemoryBudget:
    """The bytes of all that is on its way."""

    def __init__(self, size: int) -> None:
        self.size, self.used, self.most = size, 0, 0
        self.changed = asyncio.Condition()
        self.overdraft = asyncio.Lock()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Lease]:
        """A lease for one, given back at the end of the block."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            await lease.close()


class Lease:
    """What one has taken."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self._taken, self._over = budget, 0, False

    def fits(self, size: int) -> bool:
        """May it grow to `size` without waiting?"""
        more = size - self._taken
        return more <= 0 or self._over or self._budget.used + more <= self._budget.size

    async def grow(self, size: int) -> None:
        """Take `size` bytes in all."""
        budget, more = self._budget, size - self._taken
        if not self.fits(size):
            if self._taken:
                await budget.overdraft.acquire()
                self._over = True
            else:
                async with budget.changed:
                    await budget.changed.wait_for(lambda: self.fits(min(size, budget.size)))
        if more > 0:
            self._taken += more
            budget.used += more
            budget.most = max(budget.most, budget.used)

    async def close(self) -> None:
        """Give everything back."""
        budget = self._budget
        budget.used -= self._taken
        self._taken = 0
        if self._over:
            self._over = False
            budget.overdraft.release()
        async with budget.changed:
            budget.changed.notify_all()
