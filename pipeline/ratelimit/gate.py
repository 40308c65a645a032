"""The one gate that every request passes: slot, day, tokens, spacing, then send at once.

Workers queue in the order in which they come (no large request starves, no worker is passed);
the one at the head asks every rule when it may go, waits, takes its reservation in the ledger
and leaves. Deciding is the rules' matter (`rules/`, pure), keeping is the ledger's; the gate
waits. A refusal pauses everybody once; `stop` ends every wait at once with `Stopped`.

It must never give a permit that is not yet in the ledger, and never lose one: what was sent is
counted even if no reply comes back, what was certainly not sent is given back.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.clock import Clock
from pipeline.errors import Stopped, StopReason
from pipeline.model import Limits, LimitTold
from pipeline.ratelimit.kept import Kept
from pipeline.ratelimit.ledger import Ledger
from pipeline.ratelimit.ledger_thread import LedgerThread
from pipeline.ratelimit.ledger_view import limit_with_room, names_of
from pipeline.ratelimit.limits import quota_limits_of
from pipeline.ratelimit.protocol import RequestGate
from pipeline.ratelimit.reasons import budget_spent, clocks_apart
from pipeline.ratelimit.rulebook import Rulebook
from pipeline.ratelimit.rules.base import LIMITED, NEVER, Ask, Now, Permit, Row, Rule, Setup
from pipeline.ratelimit.rules.circuit_breaker import CircuitBreaker
from pipeline.ratelimit.server_time import ServerTime, Times, Uptime, uptime_of
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.ratelimit.wait_queue import TICK, WaitQueue, Waker
from pipeline.verdict import Kind, Verdict

__all__ = ["Gate", "Permit", "open_gate"]

#: A commit that took longer moves the permit's time in the ledger to after it.
SLOW_COMMIT = 0.25
#: So many replies in a row whose `Date` is far from this machine's clock end the run: a limit a
#: day would be counted on the wrong days.
DENIED = 3

#: Of permits: no two have the same, as one cap of money may hold for several endpoints.
_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class _Shared:
    """What the gates of an endpoint have in common in one run; the end of the first one is the run's."""

    rules: Mapping[str, Rule]
    gates: list[Gate] = field(default_factory=list)


class Gate:
    """Made by `open_gate`; one a run, and one beside it for each other model with its own limits."""

    def __init__(self, setup: Setup, times: Times, kept: Kept | None, shared: _Shared) -> None:
        self._times, self._kept, self.shared = times, kept, shared
        self.shared.gates.append(self)
        self._rules = Rulebook(setup, self.shared.rules)
        self.shared.rules = self._rules.common
        self._flying: dict[int, Permit] = {}
        self._turn = asyncio.Lock()
        self._queued = 0
        self._line = WaitQueue(self.leave, self.give_back)
        self._waker = Waker(times.clock)
        #: Called when anything has changed that may let a request go.
        self.on_change: Callable[[], None] | None = None
        #: Why the run is ending, once it is.
        self.reason: StopReason | None = None
        #: Set together with `reason`.
        self.stopped = asyncio.Event()
        #: What the user should hear once.
        self.notices: list[str] = []

    async def begin(self, limits: Limits) -> None:
        """Take in what the ledger and the service know already; a spent day ends the run now."""
        now, daily = self._times.now(), self._rules.daily
        days = daily.days(now)
        used_today = limits.used_today if len(days) == 1 else None
        if self._kept is not None:
            ledger = self._kept.ledger
            view, daily.unknown = await ledger.look(days, used_today, limit_with_room(limits))
            daily.learned(view)
            self._rules.remember(view.learned, now)
            self._kept.learned = self._rules.learned()
            ledger.tell(self.notices)
            self._kept.clock(now, self._times.server)
        elif used_today is not None:
            daily.view.used[days[0]] = used_today
        end = self._rules.opens_at(Ask(0, 0.0), self._times.now())
        if isinstance(end, StopReason):
            self.stop(end)

    # Before the request

    async def permit(self, *, tokens: int, cost_usd: float = 0.0) -> Permit:
        """Wait for leave to send one request; send it at once. First come, first served.

        Raises Stopped when the run is ending (`reason` says why), OutputError when the ledger
        cannot be written.
        """
        ask = Ask(tokens, cost_usd)
        if self.at_once and not self._queued:
            # A limit a minute that becomes known while somebody waits is kept by its rule.
            return await self._line.wait(ask)
        return (await self.permits([ask]))[0]

    async def permits(self, asks: Sequence[Ask]) -> list[Permit]:
        """As many permits as may go at once, at least one; with a ledger in one transaction."""
        self._queued += 1
        try:
            async with self._turn:
                return await self._head(asks)
        finally:
            self._queued -= 1

    @property
    def at_once(self) -> bool:
        """Does a permit need nothing written and no spacing?"""
        return self._kept is None and self._rules.requests.per_minute is None

    def leave(self, ask: Ask) -> Permit | float:
        """A permit that needs nothing written, or seconds until there may be one. Raises Stopped."""
        if self._rules.full and (self.shared.gates[0].reason or self.reason) is None:
            return NEVER
        now = self._times.now()
        if (opens := self._opens_at(ask, now)) > now.mono:
            return opens - now.mono
        return self._take(ask, now, self._rules.daily.days(now), None)

    async def _head(self, asks: Sequence[Ask]) -> list[Permit]:
        """The head of the queue: nobody else is in here."""
        while True:
            now = self._times.now()
            until = self._opens_at(asks[0], now)
            if until <= now.mono:
                permits = await self._given(asks, now)
                if isinstance(permits, list):
                    return permits
                until = permits
            if until > 0.0:
                await self._waker.wait(until)

    async def _given(self, asks: Sequence[Ask], now: Now) -> list[Permit] | float:
        """Permits, of which the first may go now; see `_reserve`."""
        if self._kept is not None:
            return await self._reserve(asks[: self._rules.room(asks, now)], now, self._kept)
        if self._rules.requests.per_minute is not None:
            await self._rules.requests.space()
            now = self._times.now()
        return [self._take(asks[0], now, self._rules.daily.days(now), None)]

    async def try_permit(self, ask: Ask) -> Permit | float:
        """A permit if there is one now, else seconds after which it makes sense to ask again; who
        waits in the queue goes first. Raises Stopped, OutputError."""
        if self.at_once:
            return self.leave(ask)
        now = self._times.now()
        opens = self._opens_at(ask, now)
        if opens > now.mono or self._turn.locked():
            return max(TICK, opens - now.mono)
        async with self._turn:
            permits = await self._given([ask], now)
        return (
            permits[0] if isinstance(permits, list) else max(TICK, permits - self._times.now().mono)
        )

    def closes_at(self) -> float:
        """Monotonic time at which what is left now begins to be lost: its day ends, or its bucket is
        full; infinite where nothing is counted."""
        return self._rules.closes_at(self._times.now()) if self._rules.ends else NEVER

    def _opens_at(self, ask: Ask, now: Now) -> float:
        """When `ask` may go. Raises Stopped when the run is ending, or ends now."""
        reason = self.shared.gates[0].reason or self.reason
        if reason is None:
            at = self._rules.opens_at(ask, now)
            if not isinstance(at, StopReason):
                return at
            self.stop(reason := at)
        raise Stopped(reason.message)

    async def _reserve(self, asks: Sequence[Ask], now: Now, kept: Kept) -> list[Permit] | float:
        """Permits that are in the ledger, or the monotonic time to wait for; 0: look at the rules."""
        kept.clock(now, self._times.server)
        ledger, claim = kept.ledger, self._rules.claim(now, len(asks))
        grant = await ledger.reserve(claim)
        ledger.tell(self.notices)
        self._rules.daily.learned(grant.view)
        if claim.interval:
            self._rules.bucket.empty_at = grant.view.learned.get("empty_at", 0.0)
        asked, now = now, self._times.now()
        if grant.rows:
            if self.reason is not None or self._rules.pauses.until > now.mono:
                ledger.pending.returned += [(row, claim.days) for row in grant.rows]
                return 0.0
            if self._rules.requests.per_minute is not None:
                for _ in grant.rows:
                    await self._rules.requests.space()
            if now.uptime - asked.uptime > SLOW_COMMIT:
                ledger.pending.late += [(row, now.uptime) for row in grant.rows]
            pairs = zip(asks, grant.rows, strict=False)
            permits = [self._take(ask, now, claim.days, row) for ask, row in pairs]
            return [self._count_also(permit, now) for permit in permits]
        if grant.paused_until is not None:
            self._rules.pauses.hold(now.mono + grant.paused_until - now.uptime, now)
        elif grant.wait_until is not None:
            return now.mono + grant.wait_until - now.uptime
        return 0.0

    def _take(self, ask: Ask, now: Now, days: tuple[str, ...], row: Row | None) -> Permit:
        permit = Permit(next(_NUMBERS), now.mono, now.uptime, *ask, days, row)
        self._rules.take(permit, now)
        self._flying[permit.number] = permit
        return permit

    def _changed(self) -> None:
        for gate in self.shared.gates:
            gate.wake()

    def wake(self) -> None:
        """Let waiting requests look at the rules again."""
        if self.on_change is not None:
            self.on_change()
        self._line.changed()
        self._waker.wake()

    # After the request

    def written(self, permit: Permit, delay: float | None = None) -> None:
        """The request has gone to the socket, so many seconds after its permit; None: just now."""
        if self._rules.requests.per_minute is not None:
            late = self._times.clock.monotonic() - permit.at if delay is None else delay
            self._rules.requests.written(late)

    def attach(self, permit: Permit) -> Permit:
        """Go on with one that an earlier gate gave out and that is still under way."""
        ask = Ask(permit.tokens, permit.cost_usd)
        return self._take(ask, self._times.now(), permit.days, permit.row)

    def report(
        self,
        permit: Permit,
        verdict: Verdict | None,
        *,
        tokens: int | None,
        cost_usd: float | None,
        images: Sequence[str],
    ) -> None:
        """What came of a permit; None = no reply came, and the request stays spent."""
        flying = self._flying.pop(permit.number, None)
        if flying is None:
            return
        now = self._times.now()
        outcome = self._rules.report(flying, verdict, (tokens, cost_usd), images, now)
        if self._kept is not None:
            paused = self._rules.pauses.until - now.mono + now.uptime
            self._kept.record(flying, outcome, self._rules.daily.view, paused)
            if outcome.kind in LIMITED:
                self._remember()
        if verdict is not None and verdict.kind is Kind.BUDGET:
            self.stop(budget_spent(verdict, now))
        self._changed()

    def give_back(
        self, permit: Permit, verdict: Verdict | None = None, *, images: Sequence[str] = ()
    ) -> None:
        """It is certain that nothing was sent. With a verdict, that is one more sign of an outage."""
        flying = self._flying.pop(permit.number, None)
        if flying is None:
            return
        self._rules.give_back(flying, verdict, images, self._times.now())
        if self._kept is not None:
            self._kept.returned(flying, self._rules.bucket.interval)
        self._changed()

    def heard_limits(self, limits: Sequence[LimitTold]) -> None:
        """Limits as the headers of an answer, just received and not yet reported, tell them."""
        now = self._times.now()
        for limit in limits:
            self._rules.hear(limit, now)
        self._remember()
        self._changed()

    def _remember(self) -> None:
        """Keep what was learnt of limits, when that is news."""
        if self._kept is not None:
            bucket = self._rules.bucket
            empty_at = None if bucket.per_day is None else bucket.empty_at
            self._kept.remember(self._rules.learned(), empty_at)

    def heard_date(self, date: float, permit: Permit) -> None:
        """The `Date` header (epoch s) of the reply to `permit`, just received."""
        server = self._times.server
        if not server.heard_date(date, permit.uptime, self._times.uptime.seconds()):
            if server.denied >= DENIED and self._kept is not None:
                self.stop(clocks_apart(self._times.clock.now(), date))
            return
        now = self._times.now()
        for flying in list(self._flying.values()):
            self._count_also(flying, now)
        self._changed()

    def _count_also(self, permit: Permit, now: Now) -> Permit:
        """A request in flight may count on another day than we thought when it was reserved."""
        age = now.uptime - permit.uptime
        then = now._replace(low=now.low - age, high=now.high - age)
        more = tuple(day for day in self._rules.daily.days(then) if day not in permit.days)
        if more:
            permit = self._flying[permit.number] = permit._replace(days=permit.days + more)
            self._rules.daily.count(more, 1)
            if self._kept is not None:
                self._kept.ledger.pending.also.extend(more)
        return permit

    # The run's end, and looking in

    def stop(self, reason: StopReason) -> None:
        """End the run, or beside another gate what goes through this one: every waiting `permit`
        raises Stopped now. The first reason stays."""
        if self.reason is None:
            self.reason = reason
            self.stopped.set()
            self._changed()

    @property
    def circuit(self) -> CircuitBreaker:
        """What is known of outages."""
        return self._rules.circuit

    def trip(self, message: str, wait: float) -> None:
        """An outage: from now on only probes go, the first after so many seconds."""
        self._rules.circuit.trip(self._times.now(), message, wait)

    def snapshot(self) -> dict[str, object]:
        """The state of all limits, for progress and status. Instants are epoch seconds."""
        return {**self._rules.facts(self._times.now()), "queued": self._queued + len(self._line)}


@asynccontextmanager
async def open_gate(
    settings: QuotaSettings,
    limits: Limits,
    *,
    account: str | None,
    model: str,
    output: str,
    patience: float,
    clock: Clock,
    rng: random.Random,
    state: Path,
    spent_usd: float = 0.0,
    uptime: Uptime | None = None,
    beside: RequestGate | None = None,
    lease: float = 0.0,
    cost: Rule | None = None,
) -> AsyncIterator[Gate]:
    """The gate of one endpoint. `account`: hash of base URL and key; None: no ledger at all.

    spent_usd: what this job has spent before; state: folder of the ledger; beside: the run's first
    gate, where this is one of another model; lease: seconds that a permit may be on its way to
    another process; cost: the cap of money that several endpoints share. Raises OutputError.
    """
    uptime = uptime or uptime_of(clock)
    shared = beside.shared if isinstance(beside, Gate) else _Shared({"cost": cost} if cost else {})
    quota_limits = quota_limits_of(settings, limits)
    setup = Setup(
        quota_limits=quota_limits,
        patience=patience,
        wait_when_spent=settings.when_spent == "wait",
        spent_usd=spent_usd,
        rng=rng,
        lease=lease,
    )
    if account is None or not quota_limits.shared:
        server = ServerTime.trusting(clock.now(), uptime.seconds())
        gate = Gate(setup, Times(clock=clock, uptime=uptime, server=server), None, shared)
        await gate.begin(limits)
        yield gate
        return
    names = names_of(account, model, output, limits)
    with ThreadPoolExecutor(1, thread_name_prefix="ledger") as thread:
        loop = asyncio.get_running_loop()
        ledger = await loop.run_in_executor(thread, Ledger, state, names, uptime, clock.now())
        kept = LedgerThread(ledger, thread)
        try:
            times = Times(clock=clock, uptime=uptime, server=await kept.clock())
            gate = Gate(setup, times, Kept(ledger=kept, names=names), shared)
            await gate.begin(limits)
            yield gate
        finally:
            await kept.close()
