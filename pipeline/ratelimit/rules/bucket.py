"""Requests a day as a continuous bucket: no midnight, one request comes back each day / limit.

So Groq counts: the wait of its refusals is (used + asked - limit) / limit x window. Kept as one
instant of the service's clock, at which the bucket will be empty again (the "theoretical arrival
time" of the generic cell rate algorithm, ITU-T I.371): a request adds day / limit to it, and may go
while it is less than a day ahead. Where there is a ledger the truth is there, as for days.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.days import resume_words
from pipeline.ratelimit.rules.base import Ask, Now, Outcome, Permit, Setup

DAY = 86_400.0
#: A request that comes back sooner is waited for also where a spent day ends the run.
PACED = 900.0


def left_of(per_day: float, empty_at: float, low: float) -> int:
    """Requests that a bucket has at this instant of the service's clock."""
    room = DAY - max(0.0, empty_at - low)
    return max(0, int(room / DAY * per_day + 1e-6))


class Bucket:
    """The rule `bucket`."""

    def __init__(self, setup: Setup) -> None:
        self.per_day: float | None = setup.quota_limits.bucket
        self._wait = setup.wait_when_spent
        #: When the bucket is empty, epoch seconds of the service's clock.
        self.empty_at = float("-inf")

    @property
    def idle(self) -> bool:
        return self.per_day is None

    @property
    def interval(self) -> float:
        """Seconds that one request takes to come back; 0 where there is no bucket."""
        return 0.0 if self.per_day is None else DAY / self.per_day

    def left(self, low: float) -> int:
        """Requests that may go at this instant of the service's clock."""
        return 0 if self.per_day is None else left_of(self.per_day, self.empty_at, low)

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        if self.per_day is None:
            return now.mono
        wait = self.empty_at + self.interval - DAY - now.low
        if wait <= 0:
            return now.mono
        if self._wait or self.interval <= PACED:
            return now.mono + wait
        resume = now.wall + wait
        message = f"quota of {self.per_day:g} a day spent, {resume_words(resume)}"
        return StopReason(exit=Exit.LATER, message=message, resume_after=resume)

    def take(self, permit: Permit, now: Now) -> None:
        if permit.row is None and self.per_day is not None:
            self.empty_at = max(self.empty_at, now.low) + self.interval

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        pass

    def give_back(self, permit: Permit, now: Now) -> None:
        self.empty_at -= self.interval

    def limit_is(self, limit: int, used: int, now: Now) -> None:
        """The service's own count: a limit that changed, others that ask too."""
        self.per_day = float(limit)
        self.empty_at = max(self.empty_at, now.low + used * self.interval)

    def facts(self, now: Now) -> Mapping[str, object]:
        if self.per_day is None:
            return {}
        left = self.left(now.low)
        return {
            "used": int(self.per_day) - left,
            "limit": int(self.per_day),
            "left": left,
            "resets_at": now.wall + max(0.0, self.empty_at - now.low),
            "window": "bucket",
        }
