"""A refusal holds its scope back, once an episode, until the told time or by an own backoff.

A burst of refusals for requests that were sent before the first of them is one episode: it
neither doubles the backoff nor starts the pause again (a told instant may still extend it).
The provider's shared pool (`upstream`) says nothing about our pace and has a backoff of its own;
where no day is at stake its patience is the endpoint's.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.rules.base import MINUTE, SUCCESS, Ask, Now, Outcome, Permit, Setup
from pipeline.verdict import Kind

#: First own backoff, its growth and ceiling, when the service tells no time.
MINUTE_FIRST, MINUTE_CEILING = 20.0, 61.0
UPSTREAM_FIRST, UPSTREAM_CEILING, UPSTREAM_CEILING_DAILY = 2.0, 60.0, 300.0
GROWTH = 2.0
#: A told reset that is past by no more has just been: so long a pause is enough.
JUST_PASSED, AFTER_RESET = 10.0, 1.0
#: Told waits beyond these are not believed.
MINUTE_FURTHEST, UPSTREAM_FURTHEST = 300.0, 3600.0


class Backoff:
    """The rule `pauses`."""

    idle = False

    def __init__(self, setup: Setup) -> None:
        self._rng = setup.rng
        self._patience = setup.patience
        self._daily = setup.quota_limits.daily is not None
        self.until = float("-inf")
        self._begun = float("-inf")
        self._step = 0
        #: First upstream refusal since the last success.
        self._upstream_since: float | None = None
        self._over: StopReason | None = None

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        return self.until if self._over is None else self._over

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        kind = outcome.kind
        if kind in SUCCESS:
            if permit.at > self._begun:
                self._step, self._upstream_since = 0, None
            return
        if kind not in MINUTE and kind is not Kind.UPSTREAM:
            return
        stated = self._told(outcome, now)
        if outcome.fresh:
            self._begun = now.mono
            self._step += 1
            wait = self._own(kind) if stated is None else stated
            jitter = self._rng.uniform(0.2, 0.5 + 0.05 * wait)
            self.until = max(self.until, now.mono + wait + jitter)
        elif stated is not None and now.mono + stated > self.until:
            self.until = now.mono + stated + self._rng.uniform(0.2, 0.5)
        if kind is Kind.UPSTREAM:
            self._mind_patience(outcome, now)

    def _told(self, outcome: Outcome, now: Now) -> float | None:
        """Seconds that the service asked for, if they make sense."""
        verdict = outcome.verdict
        assert verdict is not None
        wait = verdict.wait
        if verdict.until is not None:
            wait = verdict.until - now.low
            if -JUST_PASSED < wait <= 0:
                wait = AFTER_RESET
        furthest = UPSTREAM_FURTHEST if outcome.kind is Kind.UPSTREAM else MINUTE_FURTHEST
        return wait if wait is not None and 0.0 < wait <= furthest else None

    def _own(self, kind: Kind | None) -> float:
        if kind is Kind.UPSTREAM:
            ceiling = UPSTREAM_CEILING_DAILY if self._daily else UPSTREAM_CEILING
            wait = min(ceiling, UPSTREAM_FIRST * GROWTH ** min(self._step - 1, 20))
            return wait * (0.5 + 0.5 * self._rng.random())
        return min(MINUTE_CEILING, MINUTE_FIRST * GROWTH ** min(self._step - 1, 20))

    def _mind_patience(self, outcome: Outcome, now: Now) -> None:
        if self._upstream_since is None:
            self._upstream_since = now.mono
        waited = now.mono - self._upstream_since
        # With a daily limit the tenth of the day that refusals may spend decides instead.
        if not self._daily and waited >= self._patience:
            message = outcome.verdict.message if outcome.verdict else ""
            self._over = StopReason(
                exit=Exit.SERVICE,
                message=f"the model's provider has been refusing for {waited / 60:.0f} min: {message}",
            )

    def hold(self, until: float, now: Now) -> None:
        """Another process on this account was told to wait; do not come back all together."""
        late = self._rng.uniform(0.0, 0.5 + 0.05 * (until - now.mono))
        self.until = max(self.until, until + late)

    def give_back(self, permit: Permit, now: Now) -> None:
        pass

    def facts(self, now: Now) -> Mapping[str, object]:
        left = self.until - now.mono
        return {"paused_until": now.wall + left if left > 0 else None}
