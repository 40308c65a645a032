"""Rules by themselves: set-ups, instants, permits and outcomes to feed them with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pipeline.ratelimit.limits import QuotaLimits
from pipeline.ratelimit.rules.base import Ask, Counts, Now, Outcome, Permit, Rule, Setup
from pipeline.verdict import Kind, Scope, Verdict

#: 2026-11-23 12:00:00 UTC.
NOON = 1_795_435_200.0


def setup(**limits: Any) -> Setup:
    """A rule's set-up with these limits, and otherwise the defaults."""
    return Setup(
        quota_limits=QuotaLimits(**limits),
        patience=900.0,
        wait_when_spent=False,
        spent_usd=0.0,
        rng=random.Random(1),
    )


def at(mono: float, *, start: float = NOON) -> Now:
    """An instant at which all clocks agree."""
    return Now(mono, mono, start + mono, start + mono, start + mono)


class Play:
    """One rule, played by hand: asks, takes and reports on given instants."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._number = 0

    def opens(self, mono: float, *, tokens: int = 100, cost: float = 0.0) -> Any:
        return self.rule.opens_at(Ask(tokens, cost), at(mono))

    def take(self, mono: float, *, tokens: int = 100, cost: float = 0.0) -> Permit:
        self._number += 1
        days = ("2026-11-23",)
        permit = Permit(self._number, mono, mono, tokens, cost, days, None)
        if isinstance(self.rule, Counts):
            self.rule.take(permit, at(mono))
        return permit

    def report(
        self,
        permit: Permit,
        mono: float,
        kind: Kind | None = Kind.OK,
        *,
        fresh: bool = True,
        images: Sequence[str] = ("x",),
        tokens: int | None = None,
        cost: float | None = None,
        **verdict: Any,
    ) -> None:
        said = None if kind is None else Verdict(kind=kind, scope=Scope.MODEL, **verdict)
        outcome = Outcome(said, kind, tokens, cost, images, fresh)
        self.rule.report(permit, outcome, at(mono))

    def once(self, mono: float, kind: Kind | None = Kind.OK, **more: Any) -> None:
        """A permit and its outcome at the same instant."""
        self.report(self.take(mono), mono, kind, **more)
