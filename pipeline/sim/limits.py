"""The service's own windows: fixed and clock-aligned, sliding, or a token bucket."""

from __future__ import annotations

from collections import deque
from typing import Literal

Window = Literal["fixed", "sliding", "bucket"]


class Limit:
    """So many requests in so many seconds, as a server would count them."""

    def __init__(self, count: int, seconds: float, window: Window) -> None:
        self.count, self.seconds, self.window = count, seconds, window
        self._hits: deque[float] = deque()
        self._slot = -1
        self._used = 0
        self._level, self._at = float(count), 0.0

    def allows(self, now: float) -> bool:
        """Would one more request be within the limit? Counts nothing."""
        if self.window == "fixed":
            slot = int(now // self.seconds)
            if slot != self._slot:
                self._slot, self._used = slot, 0
            return self._used < self.count
        if self.window == "sliding":
            while self._hits and self._hits[0] <= now - self.seconds:
                self._hits.popleft()
            return len(self._hits) < self.count
        self._level = min(self.count, self._level + (now - self._at) * self.count / self.seconds)
        self._at = now
        return self._level >= 1

    def hit(self, now: float) -> None:
        """Count one request."""
        if self.window == "fixed":
            self._used += 1
        elif self.window == "sliding":
            self._hits.append(now)
        else:
            self._level -= 1

    def used(self, now: float) -> int:
        """Requests counted in the present window."""
        self.allows(now)
        if self.window == "fixed":
            return self._used
        return len(self._hits) if self.window == "sliding" else int(self.count - self._level)

    def resets_at(self, now: float) -> float:
        """When the window is free again, epoch seconds."""
        if self.window == "fixed":
            return (int(now // self.seconds) + 1) * self.seconds
        if self.window == "sliding" and self._hits:
            return self._hits[0] + self.seconds
        return now + self.seconds / self.count
