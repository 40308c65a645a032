"""A server with so many seats: who comes late waits, and who finds the queue full is sent off."""

from __future__ import annotations

import heapq


class Seats:
    """Places reckoned by time alone: a request is given its waiting time when it comes."""

    def __init__(self) -> None:
        self._free_at: list[float] = []
        self._starts: list[float] = []

    def take(self, now: float, took: float, slots: int, queue: int | None) -> float | None:
        """Seconds to wait for a seat that is then held for `took`; None: the queue is full."""
        while self._starts and self._starts[0] <= now:
            heapq.heappop(self._starts)
        while self._free_at and self._free_at[0] <= now:
            heapq.heappop(self._free_at)
        start = now
        if len(self._free_at) >= slots:
            if queue is not None and len(self._starts) >= queue:
                return None
            # Seats beyond `slots` may be left from before the knob was turned down.
            while len(self._free_at) >= slots:
                start = heapq.heappop(self._free_at)
            heapq.heappush(self._starts, start)
        heapq.heappush(self._free_at, start + took)
        return start - now
