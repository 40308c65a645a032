"""The circuit breaker: many attempts over several images without a success are an outage.

While the circuit is open one probe goes, after 30 s, then after twice as long, up to 5 min; any
sign of life closes it again. After `patience` without a success the run ends, with nothing marked
as failed. One bad image is no outage, so several images must be involved, unless the service says
that it is full; limits are none either, they are waits.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.rules.base import (
    DAY,
    MINUTE,
    NEVER,
    SUCCESS,
    Ask,
    Now,
    Outcome,
    Permit,
    Setup,
)
from pipeline.verdict import FATAL, OPEN, Kind

#: Attempts without a success, and images among them, that open the circuit.
ATTEMPTS, IMAGES = 20, 5
PROBE_FIRST, PROBE_GROWTH, PROBE_CEILING = 30.0, 2.0, 300.0
#: Failures of the service, not of an image.
FAILURES = frozenset({Kind.TRANSIENT, Kind.EMPTY, Kind.MALFORMED, None})
LIMITS = MINUTE | DAY
#: Attempts in a row without a success that make an outage likely enough to ask a control: where
#: there were answers before, and where there were none.
SUSPICIOUS, SUSPICIOUS_FIRST = 10, 5


class CircuitBreaker:
    """The rule `weather`, as the files on disk call it."""

    idle = False

    def __init__(self, setup: Setup) -> None:
        self._patience = setup.patience
        self._rng = setup.rng
        self.last_success = float("-inf")
        self._failed = 0
        self._images: set[str] = set()
        #: Of the first failure since the last success.
        self._since: float | None = None
        self._probe_at: float | None = None
        self._probe_wait = PROBE_FIRST
        #: Number of the permit that probes.
        self._probe: int | None = None
        self._over: StopReason | None = None
        #: Open because the service refuses everything, not because it does not answer.
        self._refusing = False
        self._last_error = ""
        #: Did the last failure say that the service is full?
        self._full = False

    @property
    def answered(self) -> bool:
        """Was anybody answered in this run?"""
        return self.last_success > float("-inf")

    def answered_since(self, monotonic: float) -> bool:
        """Was anybody answered since then?"""
        return self.last_success >= monotonic

    @property
    def suspicious(self) -> bool:
        """Have several images failed in a row, though not enough of them to call it an outage?"""
        least = SUSPICIOUS if self.answered else SUSPICIOUS_FIRST
        return not self.is_open and self._failed >= least and len(self._images) > 1

    def trip(self, now: Now, message: str, wait: float) -> None:
        """The service refuses what it answered before: only probes go, the first after `wait`."""
        if not self.is_open:
            self._refusing = True
            self._since = now.mono
            self._last_error = message
            self._next_probe(now, wait)

    @property
    def is_open(self) -> bool:
        """Is it an outage?"""
        return self._probe_at is not None

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        if self._probe_at is None:
            return now.mono
        if self._over is not None:
            return self._over
        return self._probe_at if self._probe is None else NEVER

    def take(self, permit: Permit, now: Now) -> None:
        if self._probe_at is not None:
            self._probe = permit.number

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        probe = permit.number == self._probe
        if probe:
            self._probe = None
        if outcome.kind in SUCCESS:
            self.last_success = now.mono
            self._close()
        elif outcome.kind in FAILURES:
            self._full = outcome.verdict is not None and outcome.verdict.busy
            self.failed(outcome.images, now, message=_error_of(outcome), probe=probe)
        elif outcome.kind is Kind.UPSTREAM:
            # The gateway lives, its provider does not: says nothing while the circuit is closed.
            if probe:
                self.failed(outcome.images, now, message=_error_of(outcome), probe=True)
        elif self._refusing and outcome.kind in OPEN | FATAL:
            if probe:
                self.failed(outcome.images, now, message=_error_of(outcome), probe=True)
        elif self.is_open and (probe or outcome.kind not in LIMITS):
            # About one image or one limit: the service is there.
            self._close()

    def failed(self, images: object, now: Now, *, message: str, probe: bool = False) -> None:
        """One more attempt without a success."""
        self._failed += 1
        self._last_error = message
        if self._since is None:
            self._since = now.mono
        if len(self._images) < IMAGES and isinstance(images, (list, tuple)):
            self._images.update(images)
        if self._probe_at is None:
            if self._failed >= ATTEMPTS and (self._full or len(self._images) >= IMAGES):
                self._next_probe(now, PROBE_FIRST)
            else:
                return
        elif probe:
            self._next_probe(now, min(PROBE_CEILING, self._probe_wait * PROBE_GROWTH))
        if now.mono - self._since >= self._patience:
            minutes = (now.mono - self._since) / 60
            self._over = StopReason(
                exit=Exit.SERVICE,
                message=f"outage: no usable answer for {minutes:.0f} min "
                f"({self._failed} attempts); last: {message}",
            )

    def _next_probe(self, now: Now, wait: float) -> None:
        assert self._since is not None
        self._probe_wait = wait
        # Up to a tenth late, so that several runs do not probe together; and once at the end.
        at = now.mono + wait * (1.0 + 0.1 * self._rng.random())
        self._probe_at = max(now.mono, min(at, self._since + self._patience))

    def _close(self) -> None:
        self._failed, self._since, self._probe_at, self._over = 0, None, None, None
        self._refusing = False
        self._images.clear()

    def give_back(self, permit: Permit, now: Now) -> None:
        if permit.number == self._probe:
            self._probe = None

    def facts(self, now: Now) -> Mapping[str, object]:
        return {
            "weather": "closed" if self.is_open else "open",
            "circuit": "open" if self.is_open else "closed",
            "failed_in_a_row": self._failed,
            "last_error": self._last_error if self.is_open else None,
            "next_probe": now.wall + self._probe_at - now.mono if self._probe_at else None,
        }


def _error_of(outcome: Outcome) -> str:
    if outcome.verdict is None:
        return "no reply"
    return outcome.verdict.message or outcome.verdict.kind.value
