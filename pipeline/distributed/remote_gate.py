"""A rate limiter in another process: what captioning uses of a gate, as calls to the quota actor.

What has happened goes along with the next call for permits, and permits come as many at once as requests
wait for and may go now. While a call waits for permits what happens meanwhile is told by another. Whoever
has heard nothing of the actor for `patience` ends by itself: a worker that nobody can stop must not go on.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from pipeline.clock import Clock
from pipeline.distributed.calls import (
    LEASE,
    LONGEST_WAIT,
    Call,
    Dated,
    Ended,
    Event,
    LimitsHeard,
    Opening,
    Quota,
    Reply,
    Reported,
    Returned,
    State,
    Tripped,
    Written,
)
from pipeline.errors import Exit, Stopped, StopReason
from pipeline.model import Limits, LimitTold
from pipeline.ratelimit.gate import open_gate
from pipeline.ratelimit.limits import quota_limits_of
from pipeline.ratelimit.protocol import Circuit, RequestGate
from pipeline.ratelimit.rules.base import SUCCESS, Ask, Permit
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.ratelimit.split import split_limits
from pipeline.verdict import Verdict

#: Calls begin at least so far apart: a call costs some 5 ms of CPU, whatever goes along with it.
GATHER = 0.05
#: Requests in one call at most.
MOST = 256
#: Seconds between signs of life, and until an answer is overdue that waits for nothing.
BEAT, OVERDUE = 10.0, 30.0
#: Seconds until a call is made again that failed.
AGAIN = 0.5
#: Why a run ends that all have to end for. A signal, a full disk, a moved manifest are one worker's own.
_FOR_ALL = frozenset({Exit.KEY, Exit.SERVICE, Exit.LATER})


class _Circuit:
    """What the actor last said of outages, and what this worker has heard itself."""

    def __init__(self) -> None:
        self.last_success = float("-inf")
        self.is_open = self.suspicious = False

    @property
    def answered(self) -> bool:
        return self.last_success > float("-inf")

    def answered_since(self, monotonic: float) -> bool:
        return self.last_success >= monotonic


class RemoteGate:
    """Made by `RemoteOpener`; one a run and model with limits of its own."""

    def __init__(self, quota: Quota, opening: Opening, clock: Clock) -> None:
        self._quota, self._opening, self._clock = quota, opening, clock
        self._patience = opening.patience
        self._epoch = ""
        self._facts: dict[str, object] = {}
        self._circuit = _Circuit()
        self.reason: StopReason | None = None
        self.stopped = asyncio.Event()
        self._numbers = itertools.count(1)
        #: Ours -> as the actor calls it.
        self._flying: dict[int, Permit] = {}
        self._waiting: deque[tuple[Ask, asyncio.Future[Permit]]] = deque()
        self._events: list[Event] = []
        self._asked, self._told = asyncio.Event(), asyncio.Event()
        self._attaching = asyncio.Lock()
        self._answered_at = clock.monotonic()

    # What captioning uses

    @property
    def circuit(self) -> Circuit:
        return self._circuit

    async def permit(self, *, tokens: int, cost_usd: float = 0.0) -> Permit:
        while True:
            if self.reason is not None:
                raise Stopped(self.reason.message)
            place: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
            self._waiting.append((Ask(tokens, cost_usd), place))
            self._asked.set()
            try:
                permit = await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled() and place.exception() is None:
                    self.give_back(place.result())
                raise
            if self._clock.monotonic() - permit.at <= LEASE:
                return permit
            self.give_back(permit)

    def written(self, permit: Permit) -> None:
        if (theirs := self._flying.get(permit.number)) is not None:
            self._tell(Written(theirs.number, self._clock.monotonic() - permit.at))

    def report(
        self,
        permit: Permit,
        verdict: Verdict | None,
        *,
        tokens: int | None,
        cost_usd: float | None,
        images: Sequence[str],
    ) -> None:
        theirs = self._flying.pop(permit.number, None)
        if theirs is None:
            return
        amiss = verdict is None or verdict.kind not in SUCCESS
        if not amiss:
            self._circuit.last_success = self._clock.monotonic()
        keys = tuple(images) if amiss else ()
        self._tell(Reported(theirs.number, verdict, tokens, cost_usd, keys))

    def give_back(
        self, permit: Permit, verdict: Verdict | None = None, *, images: Sequence[str] = ()
    ) -> None:
        if (theirs := self._flying.pop(permit.number, None)) is not None:
            self._tell(Returned(theirs.number, verdict, tuple(images)))

    def heard_date(self, date: float, permit: Permit) -> None:
        if (theirs := self._flying.get(permit.number)) is not None:
            self._tell(Dated(theirs.number, date))

    def heard_limits(self, limits: Sequence[LimitTold]) -> None:
        if limits:
            self._tell(LimitsHeard(tuple(limits)))

    def trip(self, message: str, wait: float) -> None:
        self._circuit.is_open = True
        self._tell(Tripped(message, wait))

    def stop(self, reason: StopReason) -> None:
        if self.reason is None and reason.exit in _FOR_ALL:
            self._tell(Ended(reason))
        self._end(reason)

    def snapshot(self) -> dict[str, object]:
        return {**self._facts, "in_flight": len(self._flying), "queued": len(self._waiting)}

    # The calls

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._told.set()

    def _end(self, reason: StopReason) -> None:
        if self.reason is None:
            self.reason = reason
            self.stopped.set()
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_exception(Stopped(self.reason.message))

    async def lend(self) -> None:
        """Ask for permits while somebody waits for them."""
        began = float("-inf")
        while True:
            await self._asked.wait()
            await self._clock.sleep(began + GATHER - self._clock.monotonic())
            began = self._clock.monotonic()
            while self._waiting and self._waiting[0][1].done():
                self._waiting.popleft()
            asks = tuple(ask for ask, _ in itertools.islice(self._waiting, MOST))
            if not asks:
                self._asked.clear()
                continue
            reply = await self._say(asks)
            # Sent at the earliest when the call had been under way for as long as the permits took.
            at = began + reply.waited
            for permit in reply.permits:
                self._give(permit, at)

    def _give(self, permit: Permit, at: float) -> None:
        ours = permit._replace(number=next(self._numbers), at=at)
        self._flying[ours.number] = permit
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_result(ours)
                return
        self.give_back(ours)

    async def tell(self) -> None:
        """Tell what goes along with no call for permits; say now and then that this worker lives."""
        while True:
            try:
                async with asyncio.timeout(BEAT):
                    await self._told.wait()
                    await self._clock.sleep(GATHER)
            except TimeoutError:
                await self._say()
                continue
            if self._events:
                await self._say()
            self._told.clear()

    async def _say(self, asks: tuple[Ask, ...] = ()) -> Reply:
        """A call of the actor, with the events since the last one; repeated until it is answered, as
        long as somebody waits for permits."""
        events, self._events = self._events, []
        while True:
            epoch = self._epoch
            call = Call(self._opening.worker, self._opening.model, epoch, tuple(events), asks)
            reply = await self._answer_to(self._quota.call(call))
            if reply is not None and reply.state.epoch == epoch:
                self._hear(reply.state)
                return reply
            if reply is not None:
                await self.attach(epoch)
            if self._epoch != epoch:
                events = _without_permits(events)
            elif reply is not None or not asks or self.reason is not None:
                break
        self._events[:0] = events
        return Reply(State(epoch))

    async def attach(self, known: str = "") -> None:
        """Open the gate at the actor, and go on with what is under way. known: the epoch that is over."""
        async with self._attaching:
            if self._epoch != known:
                return  # the other call has done it
            ours = list(self._flying)
            opening = self._opening._replace(flying=tuple(self._flying[n] for n in ours))
            reply = await self._answer_to(self._quota.open(opening))
            if reply is None:
                return
            self._epoch = reply.state.epoch
            self._events = _without_permits(self._events)
            for number, permit in zip(ours, reply.permits, strict=False):
                if number in self._flying:
                    self._flying[number] = permit
                else:  # it has ended meanwhile
                    self._tell(Reported(permit.number, None, None, None, ()))
            self._hear(reply.state)

    async def beat(self) -> None:
        """Say now and then that this worker lives, which asks for no permit."""
        while True:
            await self._clock.sleep(BEAT)
            call = Call(self._opening.worker, self._opening.model, "")
            if (reply := await self._answer_to(self._quota.call(call))) is not None:
                self._hear(reply.state)

    async def _answer_to(self, answer: Awaitable[Reply]) -> Reply | None:
        """The actor's answer, or None; after `patience` without one the run ends."""
        try:
            async with asyncio.timeout(LONGEST_WAIT + OVERDUE):
                reply = await answer
        except Exception as error:  # noqa: BLE001 - whatever the transport raises
            silent = self._clock.monotonic() - self._answered_at
            if silent > self._patience:
                message = f"no answer of the quota actor for {silent / 60:.0f} min ({type(error).__name__})"
                self._end(StopReason(exit=Exit.SERVICE, message=message))
            await self._clock.sleep(AGAIN)
            return None
        self._answered_at = self._clock.monotonic()
        return reply

    def _hear(self, state: State) -> None:
        circuit = self._circuit
        circuit.is_open, circuit.suspicious = state.is_open, state.suspicious
        if state.success_age is not None:
            heard = self._clock.monotonic() - state.success_age
            circuit.last_success = max(circuit.last_success, heard)
        if state.facts is not None:
            self._facts = state.facts
        if state.reason is not None:
            self._end(state.reason)

    async def close(self) -> None:
        """Say what is left to say, once."""
        if self._events:
            await self._say()


class RemoteOpener:
    """Opens the gate of a shard: at the actor where a limit is shared, else its own part of what is not."""

    def __init__(
        self,
        quota: Quota,
        worker: str,
        whole: QuotaSettings,
        *,
        output: str,
        shards: int,
        timeout: float,
    ) -> None:
        """whole: `quota:` of the job, not of the shard; output: the job's; timeout: of a request."""
        self._quota, self._worker, self._whole = quota, worker, whole
        self._output, self._shards, self._timeout = output, shards, timeout

    @asynccontextmanager
    async def __call__(
        self,
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
        beside: RequestGate | None = None,
    ) -> AsyncIterator[RequestGate]:
        opening = Opening(
            worker=self._worker,
            model=model,
            limits=limits,
            account=account or "",
            patience=patience,
            timeout=self._timeout,
            beside=beside is not None,
        )
        remote = RemoteGate(self._quota, opening, clock)
        if account is not None and quota_limits_of(self._whole, limits).shared:
            async with _served(remote, remote):
                yield remote
            return
        part: AbstractAsyncContextManager[RequestGate] = open_gate(
            settings,
            split_limits(limits, self._shards, hosts=False),
            account=account,
            model=model,
            output=self._output,
            patience=patience,
            clock=clock,
            rng=rng,
            state=state,
            spent_usd=spent_usd,
            beside=beside,
        )
        async with part as gate, _served(remote, gate):
            yield gate


@asynccontextmanager
async def _served(remote: RemoteGate, gate: RequestGate) -> AsyncIterator[None]:
    """The calls of a gate run inside the block. gate: what the job goes through, which the actor may end."""
    if gate is remote:
        await remote.attach()
        work = [remote.lend(), remote.tell()]
    else:
        work = [remote.beat(), _ended_by(remote, gate)]
    calls = [asyncio.create_task(call) for call in work]
    try:
        yield
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await remote.close()


async def _ended_by(remote: RemoteGate, gate: RequestGate) -> None:
    await remote.stopped.wait()
    assert remote.reason is not None
    gate.stop(remote.reason)


def _without_permits(events: Sequence[Event]) -> list[Event]:
    """What is left to tell an actor that has never heard of the permits: they stay spent."""
    return [event for event in events if isinstance(event, LimitsHeard | Tripped | Ended)]
