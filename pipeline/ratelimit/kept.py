"""A gate's place in the ledger: what it writes there, and when that is news."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.ratelimit.ledger_thread import LedgerThread
from pipeline.ratelimit.ledger_view import Names
from pipeline.ratelimit.rules.base import DAY, LIMITED, Now, Outcome, Permit
from pipeline.ratelimit.rules.daily import DayView
from pipeline.ratelimit.server_time import ServerTime
from pipeline.verdict import Scope

#: The service's clock is written down again when it moved by so much (seconds).
CLOCK_NEWS = 0.5


@dataclass(slots=True, kw_only=True)
class Kept:
    """One a gate that has a ledger."""

    ledger: LedgerThread
    names: Names
    #: What is known of limits, as the ledger has it.
    learned: dict[str, float] = field(default_factory=dict)
    #: Bounds of the service's clock against uptime, as the ledger has them.
    _clock: tuple[float, float] = (float("-inf"), float("inf"))

    def clock(self, now: Now, server: ServerTime) -> None:
        """Write down what the service's clock is thought to be, when that is news."""
        low, high = now.low - now.uptime, now.high - now.uptime
        if abs(low - self._clock[0]) + abs(high - self._clock[1]) > CLOCK_NEWS:
            self._clock = (low, high)
            self.ledger.pending.clock = (replace(server), now.low)

    def record(self, permit: Permit, outcome: Outcome, view: DayView, paused_until: float) -> None:
        """What came of a permit; at once where others must hear it. paused_until: an uptime."""
        pending, verdict = self.ledger.pending, outcome.verdict
        if verdict is None:
            return
        if permit.row is not None:
            pending.answered.append(permit.row)
        if verdict.kind not in LIMITED:
            return
        pending.refused.append(permit.days)
        scope = self.names.account if verdict.scope is Scope.ACCOUNT else self.names.model
        if verdict.kind in DAY:
            pending.holds[scope] = (view.hold_until, view.hold_limit)
        else:
            pending.pauses[scope] = paused_until
        self.ledger.write_soon()

    def returned(self, permit: Permit, interval: float) -> None:
        """Nothing was sent. interval: seconds that the request took of a bucket."""
        if permit.row is not None:
            self.ledger.pending.returned.append((permit.row, permit.days))
            self.ledger.pending.unfilled += interval

    def remember(self, learned: Mapping[str, float], empty_at: float | None) -> None:
        """What was learnt of limits, when that is news: at once, as there may be no later request to be
        written with; when a bucket is empty."""
        pending = self.ledger.pending
        if learned != self.learned:
            self.learned = dict(learned)
            pending.learned.update(learned)
            self.ledger.write_soon()
        if empty_at is not None:
            pending.learned["empty_at"] = empty_at
