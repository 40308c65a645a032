"""Requests per minute: even spacing, and never more than the limit in a minute and a bit.

aiolimiter keeps the spacing: one request per 60/limit seconds, and where several go a second, a
second's worth at once at most, or the lateness of every timer would be lost for good. Spacing
alone lets more than the limit into a sliding minute. So a log of the last permits holds `limit` to any 60 s plus a pad. The pad is
what arrival times may differ by: whole seconds at servers that count in them, the network's
jitter, and our own delay from permit to socket (its p99 is followed as it is heard). A refusal
widens it: the service counts in a way that we do not know. When that does not help, the limit
itself is not what we were told (or others share it): then what went in the last minute is taken
for the limit, and a tenth is added for every calm ten minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from aiolimiter import AsyncLimiter

from pipeline.ratelimit.rules.base import MINUTE, Ask, Now, Outcome, Permit, Setup
from pipeline.verdict import Kind

#: Seconds in a minute; tests of real time make it shorter.
MINUTE_LENGTH = 60.0
#: Pad at the start, seconds.
PAD_START = 1.5
#: A server that counts in whole seconds sees a minute of up to 61 s; the rest is network jitter.
PAD_FLOOR = 1.3
PAD_CEILING = 6.0
#: A refusal widens the pad by so much; so long without one takes as much back.
PAD_STEP, PAD_CALM = 0.5, 600.0
#: Grown by so much in vain, the limit is doubted; and so regained when it is calm.
PAD_ENOUGH, REGAIN = 1.5, 1.1
#: Delays from permit to socket that the p99 is taken of, and how often it is.
DELAYS, DELAYS_EVERY = 200, 20


class Requests:
    """The rule `requests`."""

    idle = False

    def __init__(self, setup: Setup) -> None:
        self._log: deque[float] = deque()
        self._delays: deque[float] = deque(maxlen=DELAYS)
        self._heard = 0
        self._base, self._grown, self._grown_at = PAD_START, 0.0, 0.0
        #: When the spacing's bucket is empty.
        self.drained_at = float("-inf")
        self._lease = setup.lease
        self._told = setup.quota_limits.per_minute
        self._learnt = setup.quota_limits.learnt
        self._set(setup.quota_limits.per_minute)

    def _set(self, per_minute: float | None) -> None:
        self.per_minute = per_minute
        if per_minute is not None:
            self.count = max(1, int(per_minute))
            self._window = MINUTE_LENGTH if per_minute >= 1 else MINUTE_LENGTH / per_minute
            self.spacing = MINUTE_LENGTH / per_minute
            self.burst = max(1, int(1.0 / self.spacing))
            self._limiter = AsyncLimiter(self.burst, self.burst * self.spacing)

    def limit_is(self, limit: float) -> None:
        """The limit's size by the service's own word, or as it was learnt before."""
        if limit != self.per_minute:
            self._told = limit if self._told is None else max(limit, self._told)
            self._set(limit)

    @property
    def window(self) -> float:
        """Seconds in which at most `count` requests go: longer by what a permit may wait elsewhere."""
        return self._window + self.pad + self._lease

    @property
    def pad(self) -> float:
        return min(PAD_CEILING, self._base + self._grown)

    def opens_at(self, ask: Ask, now: Now) -> float:
        if self.per_minute is None:
            return now.mono
        at = self.drained_at - (self.burst - 1) * self.spacing
        while self._log and self._log[0] <= now.mono - self.window:
            self._log.popleft()
        if len(self._log) >= self.count:
            at = max(at, self._log[-self.count] + self.window)
        return at

    async def space(self) -> None:
        """Let aiolimiter keep the spacing: at once after `opens_at`, whose wait a stop can end."""
        await self._limiter.acquire()

    def take(self, permit: Permit, now: Now) -> None:
        if self.per_minute is None:
            return
        self._log.append(permit.at)
        # A microsecond more: the limiter's level must surely have leaked by then.
        self.drained_at = max(self.drained_at, now.mono) + self.spacing + 1e-6
        if self._grown and now.mono - self._grown_at > PAD_CALM:
            self._grown, self._grown_at = self._grown - PAD_STEP, now.mono
            if self._told is not None and self.per_minute < self._told:
                self._set(min(self._told, self.per_minute * REGAIN))

    def written(self, delay: float) -> None:
        """A request's last byte has gone to the socket, so many seconds after its permit."""
        self._delays.append(delay)
        self._heard += 1
        if self._heard % DELAYS_EVERY == 0:
            p99 = sorted(self._delays)[int(0.99 * (len(self._delays) - 1))]
            # Down slowly, up at once.
            aim = PAD_FLOOR + p99
            self._base = max(aim, self._base - 0.05)

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        guessed = self._learnt and self.per_minute is not None and outcome.kind is Kind.UPSTREAM
        if not (outcome.kind in MINUTE or guessed) or not outcome.fresh:
            return
        limit = outcome.verdict.limit if outcome.verdict else None
        if limit and (self.per_minute is None or limit < self.per_minute):
            self._told = float(limit)
            self._set(self._told)
        elif self.per_minute is not None and self._learnt:
            self._set(max(1.0, self.per_minute / 2))
        elif self.per_minute is not None and self._grown >= PAD_ENOUGH:
            passed = sum(1 for at in self._log if at > permit.at - MINUTE_LENGTH) - 1
            self._set(max(1.0, min(self.per_minute, float(passed))))
        self._grown = min(PAD_CEILING, self._grown + PAD_STEP)
        self._grown_at = now.mono

    def give_back(self, permit: Permit, now: Now) -> None:
        if self._log and self._log[-1] == permit.at:
            self._log.pop()
        elif permit.at in self._log:
            self._log.remove(permit.at)

    def facts(self, now: Now) -> Mapping[str, object]:
        if self.per_minute is None:
            return {"requests_per_minute": None, "last_minute": None, "pad": None}
        recent = sum(1 for at in self._log if at > now.mono - 60.0)
        return {
            "requests_per_minute": self.per_minute,
            "last_minute": recent,
            "pad": round(self.pad, 3),
        }
