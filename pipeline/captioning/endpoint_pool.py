"""Several endpoints as one: each request goes where quota is left now.

Cheapest first, then the one whose window closes soonest, as what is left of it then is lost. Each
endpoint keeps a gate, a client and a captioner of its own, so that a refusal, an outage or a dead key
takes only itself out: its images come back here and go elsewhere. The run ends when all have closed;
then their reasons are one, with each instant to go on and the earliest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from pipeline.aio import first, set_within
from pipeline.captioning.ask import Captioner
from pipeline.captioning.request_result import RequestResult
from pipeline.errors import Exit, Stopped, StopReason
from pipeline.model import Item, Request
from pipeline.ratelimit.rules.base import NEVER, Ask, Permit
from pipeline.ratelimit.wait_queue import WaitQueue

if TYPE_CHECKING:
    from pipeline.ratelimit.gate import Gate

#: Seconds after which all are looked at again whatever happened: another process may have changed
#: what the ledger holds.
LOOK_AGAIN = 5.0
#: Of several reasons the last of these that there is: what time cures comes before what it does not.
_WEIGHT = (Exit.SERVICE, Exit.KEY, Exit.LATER)


class RunGate(Protocol):
    """Ends a run, and knows why it ended: the gate of its only endpoint, or the pool of several."""

    @property
    def reason(self) -> StopReason | None: ...
    @property
    def stopped(self) -> asyncio.Event: ...
    def stop(self, reason: StopReason) -> None: ...
    def snapshot(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One endpoint on its way through the run."""

    name: str
    captioner: Captioner
    gate: Gate


class _Leave(NamedTuple):
    """A permit, and whose it is."""

    lane: Lane
    gate: Gate
    permit: Permit


@dataclass(frozen=True, slots=True)
class _Line:
    """Those who wait for leave: in a queue where no endpoint has to write anything for it, else one
    after the other."""

    queue: WaitQueue[Request, _Leave]
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class EndpointPool:
    """Made by `wiring.open_run` for a job with several endpoints; one a run. Not thread-safe."""

    def __init__(self) -> None:
        self._lanes: list[Lane] = []
        #: Whose limits first questions count in, at each endpoint.
        self._gates: list[Gate] = []
        #: A line for first questions and one for second ones, whose model may have limits of its own.
        self._lines = {
            second: _Line(WaitQueue(self._leave, lambda leave: leave.gate.give_back(leave.permit)))
            for second in (False, True)
        }
        self._closed: set[str] = set()
        self.reason: StopReason | None = None
        #: Why second questions are left to the next run.
        self.reason_left: StopReason | None = None
        self.stopped = asyncio.Event()

    def open(self, lanes: Sequence[Lane]) -> None:
        """Take these endpoints, once."""
        self._lanes = list(lanes)
        self._gates = [lane.gate for lane in self._lanes]
        for lane in self._lanes:
            lane.gate.on_change = self._changed

    def _changed(self) -> None:
        for line in self._lines.values():
            line.changed.set()
            line.queue.changed()

    # Requests

    async def settle(self, request: Request) -> RequestResult:
        """Take one request to its end, at one endpoint or after it at another."""
        whole, audits = request, tuple[Item, ...]()
        for attempt in count():
            try:
                lane, _, permit = await self._permit(request)
            except Stopped:
                break
            result = await lane.captioner.settle(request, permit, attempt)
            if not (result.undone or audits) and request is whole:
                return result
            audits += result.audits
            if not result.undone:
                return replace(result, request=whole, audits=audits)
            request = replace(request, items=result.undone)
        return RequestResult(request=whole, audits=audits)

    async def _permit(self, request: Request) -> _Leave:
        """The first endpoint that may be asked now. Raises Stopped when none ever may again."""
        captioner = self._lanes[0].captioner
        if (full := captioner.checkpoint.full()) is not None:
            self.stop(StopReason(exit=full.exit_code, message=str(full), resume_after=None))
        if captioner.checkpoint.crowded:
            await captioner.checkpoint.room()
        line = self._lines[request.form == "second"]
        if all(gate.at_once for gate in self._gates_of(request)):
            return await line.queue.wait(request)
        async with line.turn:
            while True:
                line.changed.clear()
                wait = LOOK_AGAIN
                for lane, gate, ask in self._ranked(request):
                    try:
                        leave = await gate.try_permit(ask)
                    except Stopped:
                        self._close(lane)
                        wait = 0.0
                        continue
                    if not isinstance(leave, float):
                        return _Leave(lane, gate, leave)
                    wait = min(wait, leave)
                await set_within(line.changed, max(0.01, wait))

    def _leave(self, request: Request) -> _Leave | float:
        """The same where no endpoint has to write anything, at once or after so many seconds."""
        wait = NEVER
        for lane, gate, ask in self._ranked(request):
            try:
                leave = gate.leave(ask)
            except Stopped:
                self._close(lane)
                wait = 0.0
                continue
            if not isinstance(leave, float):
                return _Leave(lane, gate, leave)
            wait = min(wait, leave)
        return wait

    def _ranked(self, request: Request) -> list[tuple[Lane, Gate, Ask]]:
        """Those that are open and what they are asked, the best first: cheapest, then the one whose
        window ends soonest. Raises Stopped when none ever will be."""
        ranked, gates = [], self._gates_of(request)
        for at, (lane, gate) in enumerate(zip(self._lanes, gates, strict=True)):
            if lane.gate.reason is not None:
                self._close(lane)
            elif gate.reason is None:
                ranked.append((lane.captioner.cost_of(request), gate.closes_at(), at))
        if self.reason is not None:
            raise Stopped(self.reason.message)
        if not ranked:
            # Of a second question to a model with limits of its own, everywhere.
            ended = [
                (lane.name, lane.gate.reason or gate.reason)
                for lane, gate in zip(self._lanes, gates, strict=True)
            ]
            self.reason_left = joined(ended)
            raise Stopped(self.reason_left.message)
        ranked.sort()
        tokens = request.tokens_in + request.tokens_out
        return [(self._lanes[at], gates[at], Ask(tokens, cost)) for cost, _, at in ranked]

    def _gates_of(self, request: Request) -> list[Gate]:
        """Whose limits the request counts in, at each endpoint: another model's may be its own."""
        if request.form != "second":
            return self._gates
        return [cast("Gate", lane.captioner.gate_of(request)) for lane in self._lanes]

    # The end

    def _close(self, lane: Lane) -> None:
        """An endpoint has ended; with the last one the run has."""
        reason = lane.gate.reason
        if lane.name in self._closed or reason is None:
            return
        self._closed.add(lane.name)
        if self.reason is None:
            lane.captioner.progress.event(f"{lane.name}: {reason.message}")
        if reason.exit not in _WEIGHT:
            self.stop(reason)  # the disk, the manifest, a signal: everybody's
        elif len(self._closed) == len(self._lanes) and self.reason is None:
            self.reason = joined([(each.name, each.gate.reason) for each in self._lanes])
            self.stopped.set()

    def stop(self, reason: StopReason) -> None:
        """End the run at every endpoint. The first reason stays."""
        if self.reason is None:
            self.reason = reason
            self.stopped.set()
        for lane in self._lanes:
            lane.gate.stop(reason)

    def snapshot(self) -> dict[str, object]:
        """The state of all limits: sums, and each endpoint's own under `endpoints`."""
        each = {lane.name: lane.gate.snapshot() for lane in self._lanes}
        whole = dict[str, object]()
        for name in ("used", "refused", "unknown", "in_flight", "queued"):
            whole[name] = sum(v for facts in each.values() if isinstance(v := facts.get(name), int))
        for name in ("limit", "left"):  # where one has none the sum has none
            known = [v for facts in each.values() if isinstance(v := facts.get(name), int)]
            whole[name] = sum(known) if len(known) == len(each) else None
        resets = [
            value for facts in each.values() if isinstance(value := facts.get("resets_at"), float)
        ]
        whole["resets_at"] = min(resets) if resets else None
        return {**whole, "endpoints": each}

    # What the source of requests asks of all endpoints together

    def released(self) -> list[Item]:
        """Images that an outage had refused, and those to be asked a second time; of an endpoint that
        ended, all that were open."""
        items = []
        for lane in self._lanes:
            if lane.gate.reason is not None:
                lane.captioner.attribution.release()
            items += lane.captioner.attribution.released()
            items += lane.captioner.second.released()
        return items

    async def finish(self) -> None:
        """Nothing else is left to ask: settle what is open."""
        for lane in self._lanes:
            await lane.captioner.attribution.finish(lane.captioner)

    async def arise(self) -> None:
        """Wait until an answer becomes doubtful, at any endpoint."""
        await first(*(lane.captioner.doubts.arise() for lane in self._lanes))

    async def again(self, *, last: bool = False) -> list[Item]:
        """The images of answers that became doubtful."""
        return [
            item for lane in self._lanes for item in await lane.captioner.doubts.again(last=last)
        ]

    def remember(self, earlier: Callable[[], Awaitable[Item | None]]) -> None:
        """Where each endpoint finds a picture that was captioned before."""
        for lane in self._lanes:
            lane.captioner.attribution.earlier = earlier


@dataclass(frozen=True, slots=True)
class OneEndpoint:
    """The same for a job with one endpoint."""

    captioner: Captioner

    @property
    def reason_left(self) -> StopReason | None:
        return self.captioner.second.reason

    async def settle(self, request: Request) -> RequestResult:
        return await self.captioner.settle(request)

    def released(self) -> list[Item]:
        return [*self.captioner.attribution.released(), *self.captioner.second.released()]

    async def finish(self) -> None:
        await self.captioner.attribution.finish(self.captioner)

    async def arise(self) -> None:
        await self.captioner.doubts.arise()

    async def again(self, *, last: bool = False) -> list[Item]:
        return await self.captioner.doubts.again(last=last)

    def remember(self, earlier: Callable[[], Awaitable[Item | None]]) -> None:
        self.captioner.attribution.earlier = earlier


def joined(reasons: Sequence[tuple[str, StopReason | None]]) -> StopReason:
    """The reasons of all endpoints as one: 75 where one of them can go on later, with each instant in
    words and the earliest as `resume_after`."""
    known = [(name, reason) for name, reason in reasons if reason is not None]
    heaviest = max((reason.exit for _, reason in known), key=_WEIGHT.index)
    instants = [
        reason.resume_after
        for _, reason in known
        if reason.exit is heaviest and reason.resume_after is not None
    ]
    return StopReason(
        exit=heaviest,
        message="; ".join(f"{name}: {reason.message}" for name, reason in known),
        resume_after=min(instants) if instants else None,
    )


__all__ = ["EndpointPool", "Lane", "OneEndpoint", "RunGate", "joined"]
