"""Tokens per minute: a bucket of our own, as a large request must not starve.

aiolimiter wakes the smallest waiter first; here the gate's FIFO order decides, and this rule
only says when the request at its head may go. Like requests, tokens are spaced evenly (a bucket
that leaks at limit/60 and must be empty) and held to the limit in a padded sliding minute.
A request is charged by its estimate, and settled by what the service counted: the difference
is refunded, or charged after the event. What is larger than the limit is charged as the limit,
or it could never go.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.ratelimit.rules.base import MINUTE, Ask, Now, Outcome, Permit, Setup
from pipeline.ratelimit.rules.requests import PAD_START, PAD_STEP

WINDOW = 60.0


class Tokens:
    """The rule `tokens`."""

    def __init__(self, setup: Setup) -> None:
        self.limit = setup.quota_limits.tokens_per_minute
        self._pad = PAD_START
        #: number -> (permit time, tokens), in permit order.
        self._log: dict[int, tuple[float, int]] = {}
        self._sum = 0
        self._level, self._leaked_at = 0.0, 0.0

    def limit_is(self, limit: int) -> None:
        """The limit's size by the service's own word."""
        self.limit = limit

    def _cost(self, tokens: int) -> int:
        assert self.limit is not None
        return min(max(0, tokens), self.limit)

    def _forget(self, now: float) -> None:
        """Drop what has left the window, let the bucket leak."""
        assert self.limit is not None
        while self._log:
            number = next(iter(self._log))
            at, tokens = self._log[number]
            if at > now - WINDOW - self._pad:
                break
            del self._log[number]
            self._sum -= tokens
        leak = (now - self._leaked_at) * self.limit / 60.0
        self._level, self._leaked_at = max(0.0, self._level - leak), now

    @property
    def idle(self) -> bool:
        return self.limit is None

    def opens_at(self, ask: Ask, now: Now) -> float:
        if self.limit is None:
            return now.mono
        self._forget(now.mono)
        # A millionth of a token: leaking to exactly zero is a matter of rounding.
        opens = now.mono if self._level < 1e-6 else now.mono + self._level * 60.0 / self.limit
        excess = self._sum + self._cost(ask.tokens) - self.limit
        for at, tokens in self._log.values():
            if excess <= 0:
                break
            excess -= tokens
            opens = max(opens, at + WINDOW + self._pad)
        return opens

    def take(self, permit: Permit, now: Now) -> None:
        if self.limit is None:
            return
        tokens = self._cost(permit.tokens)
        self._log[permit.number] = (permit.at, tokens)
        self._sum += tokens
        self._level += tokens

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        if self.limit is None:
            return
        if outcome.kind in MINUTE and outcome.fresh:
            self._pad += PAD_STEP
        if outcome.tokens is not None:
            self._settle(permit, outcome.tokens, now)

    def give_back(self, permit: Permit, now: Now) -> None:
        if self.limit is not None:
            self._settle(permit, 0, now)

    def _settle(self, permit: Permit, tokens: int, now: Now) -> None:
        """Charge what was really used, at the time of the permit."""
        self._forget(now.mono)
        entry = self._log.get(permit.number)
        if entry is None:
            return
        at, estimate = entry
        actual = self._cost(tokens)
        self._log[permit.number] = (at, actual)
        self._sum += actual - estimate
        self._level = max(0.0, self._level + actual - estimate)

    def facts(self, now: Now) -> Mapping[str, object]:
        return {"tokens_per_minute": self.limit}
