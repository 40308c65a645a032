"""Money: this job stops before it has spent more than `quota.max_cost_usd`.

The very first request goes alone: its answer tells what a request costs. What is in flight counts
with its estimate until the service tells the price, an estimate by list prices as many times as
answers were dearer than theirs (a provider key of one's own is billed by other lists); an answer
that never came stays counted with it, as it may have been billed. Whoever gives no estimate is
taken to ask the dearest request so far.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.limits import QuotaLimits
from pipeline.ratelimit.rules.base import NEVER, SUCCESS, Ask, Now, Outcome, Permit, Setup
from pipeline.verdict import Kind

#: Without a price in the reply these may have been billed; a refusal is free.
BILLED = SUCCESS | {Kind.TRANSIENT, Kind.MALFORMED, None}


class Cost:
    """The rule `cost`."""

    def __init__(self, setup: Setup) -> None:
        self.limit = setup.quota_limits.max_cost_usd
        self.spent = setup.spent_usd
        self._flying: dict[int, float] = {}
        #: Of one request so far; None: nothing was answered yet.
        self._dearest: float | None = None
        #: How many times its estimate an answer has cost, at most.
        self._factor = 1.0

    @property
    def idle(self) -> bool:
        return self.limit is None

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        if self.limit is None:
            return now.mono
        reached = self.spent >= self.limit
        if self._dearest is None and self._flying:
            return NEVER
        cost = self._expected(ask.cost_usd)
        if not reached and self.spent + sum(self._flying.values()) + cost <= self.limit:
            return now.mono
        if self._flying and not reached:
            return NEVER  # what is in flight may turn out cheaper than estimated
        return StopReason(
            exit=Exit.LATER,
            message=f"cost cap reached: ${self.spent:.4f} of quota.max_cost_usd "
            f"${self.limit:g} spent and the next request may cost ${cost:.4f}; "
            "raise the cap to go on",
        )

    def take(self, permit: Permit, now: Now) -> None:
        if self.limit is not None:
            self._flying[permit.number] = self._expected(permit.cost_usd)

    def _expected(self, estimate: float) -> float:
        return estimate * self._factor or self._dearest or 0.0

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        estimate = self._flying.pop(permit.number, permit.cost_usd)
        if outcome.cost_usd is not None:
            self.spent += outcome.cost_usd
        elif outcome.kind in BILLED:
            self.spent += estimate
        if outcome.kind in SUCCESS:
            self._dearest = max(self._dearest or 0.0, outcome.cost_usd or 0.0)
            if outcome.cost_usd is not None and permit.cost_usd > 0:
                self._factor = max(self._factor, outcome.cost_usd / permit.cost_usd)

    def give_back(self, permit: Permit, now: Now) -> None:
        self._flying.pop(permit.number, None)

    def facts(self, now: Now) -> Mapping[str, object]:
        return {"cost_usd": None if self.idle else self.spent, "max_cost_usd": self.limit}


def cap_of(limit: float, spent_usd: float) -> Cost:
    """One cap for the gates of several endpoints."""
    return Cost(
        Setup(
            quota_limits=QuotaLimits(max_cost_usd=limit),
            patience=0.0,
            wait_when_spent=False,
            spent_usd=spent_usd,
            rng=random.Random(0),
        )
    )


__all__ = ["Cost", "cap_of"]
