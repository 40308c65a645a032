"""All rules of one gate together: the latest answer counts, and each is told everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.errors import StopReason
from pipeline.model import LimitTold
from pipeline.ratelimit.limits import JOB_FILE, remembered
from pipeline.ratelimit.reservations import ReservationRequest
from pipeline.ratelimit.rules import RULES
from pipeline.ratelimit.rules.backoff import Backoff
from pipeline.ratelimit.rules.base import (
    LIMITED,
    Ask,
    Counts,
    Now,
    Outcome,
    Permit,
    Rule,
    Setup,
)
from pipeline.ratelimit.rules.bucket import DAY as DAY_SECONDS
from pipeline.ratelimit.rules.bucket import Bucket
from pipeline.ratelimit.rules.circuit_breaker import CircuitBreaker
from pipeline.ratelimit.rules.concurrency import Concurrency
from pipeline.ratelimit.rules.daily import Daily
from pipeline.ratelimit.rules.requests import Requests
from pipeline.ratelimit.rules.tokens import WINDOW as MINUTE_SECONDS
from pipeline.ratelimit.rules.tokens import Tokens
from pipeline.verdict import Verdict

#: Seconds by which a bucket's end has moved; answers take as long on their way, clocks differ by less.
MOVED = 10.0
#: What answers tell, by the ledger's names.
TOLD = ("per_minute", "tokens_per_minute", "bucket")
#: Rules about the endpoint or the job, whatever model is asked.
COMMON = ("concurrency", "weather", "cost")


class Rulebook:
    """The rules by name; four of them the gate also knows by themselves."""

    def __init__(self, setup: Setup, common: Mapping[str, Rule]) -> None:
        """common: the rules `COMMON` of another model's book; none: the first book has its own."""
        rules: dict[str, Rule] = {name: rule(setup) for name, rule in RULES.items()}
        rules.update(common)
        self.common = {name: rules[name] for name in COMMON}
        self._all = tuple(rules.values())
        self._per_job = setup.quota_limits.per_job
        requests, daily = rules["requests"], rules["daily"]
        circuit, pauses = rules["weather"], rules["pauses"]
        assert isinstance(requests, Requests)
        assert isinstance(daily, Daily)
        assert isinstance(circuit, CircuitBreaker)
        assert isinstance(pauses, Backoff)
        self.requests, self.daily, self.circuit, self.pauses = requests, daily, circuit, pauses
        bucket, tokens, slots = rules["bucket"], rules["tokens"], rules["concurrency"]
        assert isinstance(bucket, Bucket)
        assert isinstance(tokens, Tokens)
        assert isinstance(slots, Concurrency)
        self.bucket, self._tokens, self._slots = bucket, tokens, slots
        self._limits = setup.quota_limits
        own = {name for name, source in self._limits.sources.items() if source == JOB_FILE}
        self._own_minute = "requests_per_minute" in own
        self._own_tokens = "tokens_per_minute" in own
        #: When the day is as new, as the first answer that told it said.
        self._end: float | None = None
        #: Limits as answers told them, by the ledger's names.
        self._told: dict[str, float] = {}
        #: When the last episode of refusals began.
        self._episode = float("-inf")
        self.awake()

    def awake(self) -> None:
        """Which rules have something to say; again, when a limit becomes known."""
        self._each = tuple(rule for rule in self._all if not rule.idle)
        self._counting = tuple(rule for rule in self._each if isinstance(rule, Counts))
        #: Is there a day, or a bucket?
        self.ends = self.bucket.per_day is not None or self.daily.limit is not None

    @property
    def full(self) -> bool:
        """Is no slot free, so that nothing goes before a report, whatever the other rules say?"""
        return self._slots.in_flight >= self._slots.slots

    def hear(self, limit: LimitTold, now: Now) -> None:
        """A limit as the service tells it: its size, what it is, and what is used of it."""
        if limit.unit == "tokens":
            if limit.window == MINUTE_SECONDS:
                self._told["tokens_per_minute"] = limit.limit
                if not self._own_tokens or limit.limit < (self._tokens.limit or 0):
                    self._tokens.limit_is(limit.limit)
        elif limit.window == MINUTE_SECONDS:
            self._told["per_minute"] = limit.limit
            if not self._own_minute or limit.limit < (self.requests.per_minute or 0):
                self.requests.limit_is(limit.limit)
        elif limit.window == DAY_SECONDS:
            used = limit.limit - limit.remaining
            if self.bucket.per_day is not None or self._refills(limit, now):
                self._told["bucket"] = limit.limit
                self.daily.limit_is(None)
                self.bucket.limit_is(limit.limit, used + max(0, self.daily.in_flight - 1), now)
            else:
                self.daily.limit_is(limit.limit)
        self.awake()

    def _refills(self, limit: LimitTold, now: Now) -> bool:
        """Is this day a bucket? By its formula, which a clock's window meets by chance once a day; but
        the end of that stays where it is, while a bucket's moves with each request."""
        if limit.reset is None:
            return False
        end = now.low + limit.reset
        if self._end is None:
            self._end = end
        moved = (end - self._end) % limit.window
        return limit.is_bucket and MOVED < moved < limit.window - MOVED

    def closes_at(self, now: Now) -> float:
        """Monotonic time at which what is left of a day, or of a bucket, begins to be lost."""
        if self.bucket.per_day is not None:
            return now.mono + max(0.0, self.bucket.empty_at - now.low)
        return now.mono + self.daily.end(now) - now.low

    def learned(self) -> dict[str, float]:
        """What is worth remembering of the limits."""
        known: dict[str, float | None] = {}
        if self._limits.per_day is None and self.bucket.per_day is None:
            known["per_day"] = self.daily.told_limit
        if self._limits.learnt:
            known["per_minute"] = self.requests.per_minute
        return self._told | {name: float(v) for name, v in known.items() if v is not None}

    def remember(self, learned: Mapping[str, float], now: Now) -> None:
        """Take in what was learnt before, of this run or an earlier one."""
        limits = remembered(self._limits, learned)
        self.bucket.empty_at = max(self.bucket.empty_at, learned.get("empty_at", 0.0))
        self.bucket.per_day, self._tokens.limit = limits.bucket, limits.tokens_per_minute
        if limits.per_day is not None and limits.per_day != self._limits.per_day:
            self.daily.limit_is(limits.per_day)
        if limits.per_minute is not None:
            self.requests.limit_is(limits.per_minute)
        if self._limits.announced:
            self._told = {name: learned[name] for name in TOLD if name in learned}
        self.awake()

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        """When `ask` may go, by all rules."""
        latest = 0.0
        for rule in self._each:
            at = rule.opens_at(ask, now)
            if isinstance(at, StopReason):
                return at
            if at > latest:
                latest = at
        return latest

    def take(self, permit: Permit, now: Now) -> None:
        for rule in self._counting:
            rule.take(permit, now)

    def report(
        self, permit: Permit, verdict: Verdict | None, spent: tuple[int | None, float | None],
        images: Sequence[str], now: Now,
    ) -> Outcome:  # fmt: skip
        """Tell every rule; `spent` is tokens and dollars as the service counts them."""
        kind = None if verdict is None else verdict.kind
        fresh = kind in LIMITED and permit.at > self._episode
        if fresh:
            self._episode = now.mono
        outcome = Outcome(verdict, kind, *spent, images, fresh)
        for rule in self._each:
            rule.report(permit, outcome, now)
        if kind in LIMITED:
            self.awake()
        return outcome

    def give_back(
        self, permit: Permit, verdict: Verdict | None, images: Sequence[str], now: Now
    ) -> None:
        """Nothing was sent; if it was tried (a verdict), the circuit breaker hears of it."""
        for rule in self._each:
            if verdict is not None and rule is self.circuit:
                rule.report(permit, Outcome(verdict, verdict.kind, None, None, images, False), now)
            else:
                rule.give_back(permit, now)

    def room(self, asks: Sequence[Ask], now: Now) -> int:
        """How many of these may go now, one after the other, when the first may: tried and undone."""
        if len(asks) == 1 or self._tokens.limit is not None or self.circuit.is_open:
            return 1
        drained, tried = self.requests.drained_at, list[Permit]()
        for ask in asks:
            at = self.opens_at(ask, now)
            if isinstance(at, StopReason) or at > now.mono:
                break
            days, number = self.daily.days(now), -1 - len(tried)
            tried.append(Permit(number, now.mono, now.uptime, *ask, days, None))
            self.take(tried[-1], now)
        for permit in reversed(tried):
            self.give_back(permit, None, (), now)
        self.requests.drained_at = drained
        return len(tried)

    def claim(self, now: Now, many: int = 1) -> ReservationRequest:
        """What to ask of the ledger for so many requests."""
        requests = self.requests
        paced = requests.per_minute is not None
        return ReservationRequest(
            days=self.daily.days(now),
            uptime=now.uptime,
            wall=now.wall,
            low=now.low,
            count=requests.count if paced else 0,
            window=requests.window if paced else 0.0,
            spacing=requests.spacing if paced else 0.0,
            burst=requests.burst if paced else 1,
            interval=self.bucket.interval,
            per_day=self.daily.limit,
            per_job=self._per_job,
            many=many,
        )

    def facts(self, now: Now) -> dict[str, object]:
        facts: dict[str, object] = {}
        for rule in self._all:
            facts.update(rule.facts(now))
        return facts
