"""Requests in flight: additive growth, multiplicative cuts.

Only the service's limits shrink it (a slow or broken service is the circuit breaker's matter), once an
episode; it grows only while at least 80 % of it is used, or an idle hour would end in a burst.
Until the first cut it grows by one a success, as TCP's slow start does; and so it is released
after a pause: one request, then one more for each success.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.ratelimit.rules.base import LIMITED, NEVER, SUCCESS, Ask, Now, Outcome, Permit, Setup

#: So many at the start at most.
START = 32
CUT = 0.7
IN_USE = 0.8


class Concurrency:
    """The rule `concurrency`."""

    idle = False

    def __init__(self, setup: Setup) -> None:
        self.ceiling = setup.quota_limits.concurrency
        self.limit = float(min(self.ceiling, START))
        self.in_flight = 0
        self._cut_at: float | None = None
        #: Release after a pause; None = released.
        self._ramp: float | None = None

    @property
    def slots(self) -> int:
        return max(1, int(self.limit if self._ramp is None else min(self.limit, self._ramp)))

    def opens_at(self, ask: Ask, now: Now) -> float:
        return now.mono if self.in_flight < self.slots else NEVER

    def take(self, permit: Permit, now: Now) -> None:
        self.in_flight += 1

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        used = self.in_flight
        self.in_flight -= 1
        if outcome.kind in LIMITED:
            if outcome.fresh:
                self.limit = max(1.0, self.limit * CUT)
                self._cut_at, self._ramp = now.mono, 1.0
            return
        if outcome.kind not in SUCCESS:
            return
        if self._cut_at is not None and permit.at <= self._cut_at:
            return  # sent before the cut: says nothing about the limit since
        if self._ramp is not None:
            self._ramp = self._ramp + 1 if self._ramp + 1 < self.limit else None
        elif used >= IN_USE * self.limit:
            step = 1.0 if self._cut_at is None else 1.0 / self.limit
            self.limit = min(float(self.ceiling), self.limit + step)

    def give_back(self, permit: Permit, now: Now) -> None:
        self.in_flight -= 1

    def facts(self, now: Now) -> Mapping[str, object]:
        return {
            "concurrency": self.slots,
            "max_concurrency": self.ceiling,
            "in_flight": self.in_flight,
        }
