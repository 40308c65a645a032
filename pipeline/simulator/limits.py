"""The service's own windows: fixed and clock-aligned, sliding, or a token bucket.

Built to be what a server might do, not what a client hopes: a fixed window forgets everything
at its edge, a sliding one nothing before its time, a bucket lets a full burst through at once.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from pipeline.simulator.knobs import Knobs, Window

DAY, MINUTE = 86_400.0, 60.0
Span = Literal["minute", "day", "tokens"]
_SPANS: tuple[Span, ...] = ("day", "minute", "tokens")


class Limit:
    """So much in so many seconds, as a server would count it."""

    def __init__(self, seconds: float, window: Window, zone: str = "UTC") -> None:
        self.seconds, self.window, self.zone = seconds, window, zone
        self._hits: deque[tuple[float, float]] = deque()
        self._used = 0.0
        self._start, self._end = 0.0, 0.0
        self._at = 0.0

    def used(self, now: float, count: int) -> float:
        """How much of the window at `now` is taken."""
        if self.window == "fixed":
            if not self._start <= now < self._end:
                self._start, self._end = self._edges(now)
                self._used = 0.0
        elif self.window == "sliding":
            while self._hits and self._hits[0][0] <= now - self.seconds:
                self._used -= self._hits.popleft()[1]
        else:
            leaked = max(0.0, now - self._at) * count / self.seconds
            self._used, self._at = max(0.0, self._used - leaked), now
        return self._used

    def allows(self, now: float, count: int, amount: float = 1) -> bool:
        """Would this much more be within the limit? Counts nothing."""
        return self.used(now, count) + amount <= count + 1e-9

    def hit(self, now: float, count: int, amount: float = 1) -> None:
        """Count this much."""
        self.used(now, count)
        self._used += amount
        if self.window == "sliding":
            self._hits.append((now, amount))

    def resets_at(self, now: float, count: int, amount: float = 1) -> float:
        """When there is room for this much again, epoch seconds."""
        used = self.used(now, count)
        if self.window == "fixed":
            return self._end
        if self.window == "sliding" and self._hits:
            return self._hits[0][0] + self.seconds
        return now + max(0.0, used + amount - count) / max(1, count) * self.seconds

    def _edges(self, now: float) -> tuple[float, float]:
        """The clock-aligned window around `now`; a day begins at midnight in its zone."""
        if self.seconds != DAY or self.zone == "UTC":
            start = now // self.seconds * self.seconds
            return start, start + self.seconds
        zone = ZoneInfo(self.zone)
        today = datetime.fromtimestamp(now, zone).date()
        first = datetime.combine(today, time(), zone)
        last = datetime.combine(today + timedelta(days=1), time(), zone)
        return first.timestamp(), last.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """A limit, as it stands, or as it refuses."""

    of: Literal["account", "endpoint"]
    span: Span
    count: int
    resets_at: float
    used: float = 0.0


class Meters:
    """All windows of one service: the account's and each endpoint's."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str, Span], Limit] = {}

    def full(self, knobs: Knobs, account: str, slug: str, now: float, tokens: int) -> Full | None:
        """The first limit that has no room for one more request of so many tokens."""
        for of, span, count, limit in self._over(knobs, account, slug):
            amount = tokens if span == "tokens" else 1
            if not limit.allows(now, count, amount):
                resets = limit.resets_at(now, count, amount)
                used = limit.used(now, count)
                return Full(of=of, span=span, count=count, resets_at=resets, used=used)
        return None

    def standing(self, knobs: Knobs, account: str, slug: str, now: float) -> list[Full]:
        """Every limit as it stands, for services that tell on each answer."""
        return [
            Full(
                of=of,
                span=span,
                count=count,
                resets_at=limit.resets_at(now, count),
                used=limit.used(now, count),
            )
            for of, span, count, limit in self._over(knobs, account, slug)
        ]

    def count(
        self, knobs: Knobs, account: str, slug: str, now: float, tokens: int, *, over: bool
    ) -> None:
        """Count one request; `over`: it was refused by a limit, so only fixed windows see it."""
        for _, span, count, limit in self._over(knobs, account, slug):
            if not over or (limit.window == "fixed" and span != "tokens"):
                limit.hit(now, count, tokens if span == "tokens" else 1)

    def used_today(self, knobs: Knobs, account: str, now: float) -> int:
        """Requests of the account's day."""
        limit = self._limits.get(("account", account, "day"))
        return 0 if limit is None else int(limit.used(now, knobs.rpd or 0))

    def _over(
        self, knobs: Knobs, account: str, slug: str
    ) -> Iterator[tuple[Literal["account", "endpoint"], Span, int, Limit]]:
        """The limits that hold for a request, the day's first."""
        if knobs.limits_on == "all" or slug.endswith(":free"):
            account_counts = knobs.rpd, knobs.rpm, knobs.tpm
            for span, count in zip(_SPANS, account_counts, strict=True):
                if count is not None:
                    yield "account", span, count, self._limit(knobs, "account", account, span)
        endpoint_counts = knobs.endpoint_rpd, knobs.endpoint_rpm, knobs.endpoint_tpm
        for span, count in zip(_SPANS, endpoint_counts, strict=True):
            if count is not None:
                whose = f"{account}\0{slug}"
                yield "endpoint", span, count, self._limit(knobs, "endpoint", whose, span)

    def _limit(self, knobs: Knobs, of: str, whose: str, span: Span) -> Limit:
        name = (of, whose, span)
        if name not in self._limits:
            if span == "day":
                self._limits[name] = Limit(DAY, knobs.day_window, knobs.day_zone)
            else:
                self._limits[name] = Limit(MINUTE, knobs.window)
        return self._limits[name]


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
