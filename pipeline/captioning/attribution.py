"""Whose fault a refusal is: the image's or the service's.

A service that has crashed, lost its key for a moment or was set up wrongly answers each image with
an error that may as well be about that image. So a refusal stays open until something tells: an
answer to any request that was sent after it makes it the image's own; when several are open, a
control is asked, a picture that was captioned before. If the control is refused too it is an
outage: the gate closes, and the open images are asked again when it is over. An image is never
failed on the word of a service that answers nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.captioning.interpret import ReplyOutcome
from pipeline.clock import Clock, micros
from pipeline.errors import Exit, Stopped, StopReason
from pipeline.model import Item, Record, Request, Sent
from pipeline.ratelimit.rules.base import LIMITED, SUCCESS
from pipeline.ratelimit.rules.circuit_breaker import PROBE_FIRST
from pipeline.service.preflight import confirms
from pipeline.verdict import Kind, Verdict

if TYPE_CHECKING:
    from pipeline.captioning.progress import Progress
    from pipeline.ratelimit.protocol import RequestGate
    from pipeline.service.client import Client
    from pipeline.service.endpoint import Endpoint


class Captioner(Protocol):
    """What is needed of the captioner to ask a control and to settle what it decides."""

    @property
    def client(self) -> Client: ...
    @property
    def gate(self) -> RequestGate: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def progress(self) -> Progress: ...
    def body(self, request: Request) -> bytes: ...
    async def keep(self, items: Sequence[Item], records: Sequence[Record]) -> None: ...
    async def ask(
        self, request: Request, body: bytes, attempt: int
    ) -> tuple[Sent, ReplyOutcome]: ...


#: Refusals open at once that make a control worth its request.
ROW = 5
#: So many images of a job in which nothing was ever answered, all refused with the same words,
#: leave no image failed.
SHARED = 3
#: Probes after a fatal answer where there were others before, and seconds before the first.
FATAL_PROBES, FATAL_WAIT = 2, 10.0
#: The service looked at the picture, or at how much there is of it.
_ABOUT_IMAGE = frozenset({Kind.IMAGE_REJECTED, Kind.TOO_LARGE, Kind.TOO_LONG, Kind.NO_ROOM})
#: Times that a control waits for a limit.
_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A refusal whose cause is not known yet."""

    item: Item
    record: Record
    #: Microseconds since the epoch.
    at: int


class Attribution:
    """One a run. Not thread-safe."""

    def __init__(self) -> None:
        #: A picture that was captioned, of this run or, by `earlier`, of one before.
        self.control: Item | None = None
        self.earlier: Callable[[], Awaitable[Item | None]] | None = None
        #: When the control was last answered, on the loop's clock.
        self.proven_at = float("-inf")
        self._open: dict[str, _Open] = {}
        self._released: list[Item] = []
        self._lock = asyncio.Lock()
        self._fatal, self._fatal_at = 0, 0

    def released(self) -> list[Item]:
        """Images of refusals that proved to be the service's, to be asked again."""
        items, self._released = self._released, []
        return items

    def release(self) -> None:
        """The service is asked no more: what was open is for another one."""
        self._released += [refusal.item for refusal in self._open.values()]
        self._open.clear()

    async def answered(self, captioner: Captioner, sent: Sent, item: Item) -> None:
        """A caption came: what was refused before its request left is the images' own fault."""
        self.control, self._fatal = item, 0
        if self._open:
            before = [key for key, refusal in self._open.items() if refusal.at <= sent.at]
            await self._settle(captioner, before)

    async def refused(
        self, captioner: Captioner, item: Item, record: Record, verdict: Verdict
    ) -> None:
        """An image was refused alone: settle it, or leave it open."""
        circuit = captioner.gate.circuit
        if circuit.is_open:
            # It says nothing: only when a control is answered may it be the image again.
            self._released.append(item)
            await self.service_answers(captioner)
        elif verdict.kind in _ABOUT_IMAGE and circuit.answered:
            await captioner.keep([item], [record])
        else:
            at = micros(captioner.clock.now())
            self._open[item.asked.key] = _Open(item=item, record=record, at=at)
            if len(self._open) >= ROW:
                await self._decide(captioner, verdict.message)

    async def finish(self, captioner: Captioner) -> None:
        """Nothing else is left to ask: settle what is open."""
        if not self._open or captioner.gate.reason is not None:
            return
        if await self._decide(captioner, "") is not None or not self._open:
            return
        messages = {refusal.record.error for refusal in self._open.values()}
        if not captioner.gate.circuit.answered and len(self._open) >= SHARED and len(messages) == 1:
            message = (
                f"the service has refused all {len(self._open)} images with the same words "
                f"({messages.pop()}): are endpoint.model, params and extra_body right?"
            )
            captioner.gate.stop(StopReason(exit=Exit.SERVICE, message=message))
        else:
            await self._settle(captioner, list(self._open))

    async def suspect(self, captioner: Captioner) -> None:
        """Several images failed in a row: a control tells early whether it is an outage."""
        async with self._lock:
            if captioner.gate.circuit.suspicious:
                await self._control_answers(captioner)

    async def service_answers(self, captioner: Captioner) -> bool | None:
        """Is the service well? None when there is nothing to ask it with."""
        asked = captioner.clock.monotonic()
        async with self._lock:
            if self.proven_at >= asked:
                return True  # another worker asked meanwhile
            return await self._control_answers(captioner)

    async def blames_service(
        self, captioner: Captioner, verdict: Verdict, request: Request, before: float
    ) -> bool:
        """An outage fails no image: attempts are used up, but since the last one but one (`before`)
        nobody was answered. Such images are parked until all others are done; then a control tells,
        or, where nothing was ever answered, only an outage that many images have shown speaks for
        them, and the few that are left otherwise fail, with a code that the next run asks again."""
        passing = verdict.kind is Kind.TRANSIENT or verdict.systemic
        if not passing or captioner.gate.circuit.answered_since(before):
            return False
        if not request.parked:
            return True
        answers = await self.service_answers(captioner)
        return captioner.gate.circuit.is_open if answers is None else not answers

    def lasting(self, captioner: Captioner, images: int, before: float) -> None:
        """The same error each time, while others were answered: the next run gets it too."""
        if max(self.proven_at, captioner.gate.circuit.last_success) >= before:
            captioner.progress.counters.lasting += images

    async def may_recover(self, captioner: Captioner, verdict: Verdict, sent: Sent) -> bool:
        """May a fatal answer pass? With the same key and model others were answered: `/key` or
        `/models`, which are free, are asked, then after a pause the service, once or twice."""
        if verdict.final or not captioner.gate.circuit.answered:
            return False
        async with self._lock:
            if sent.at <= self._fatal_at:
                return True  # it left before the first of them: nothing new
            self._fatal_at = micros(captioner.clock.now())
            if not self._fatal and await confirms(captioner.client, captioner.endpoint, verdict):
                return False
            self._fatal += 1
            if self._fatal > FATAL_PROBES:
                return False
            self._fatal_at = micros(captioner.clock.now())
            captioner.gate.trip(verdict.message, FATAL_WAIT)
            return True

    async def _decide(self, captioner: Captioner, message: str) -> bool | None:
        """Ask the control, and act on its answer; None when there is none."""
        async with self._lock:
            if not self._open:
                return True
            keys = list(self._open)
            answers = await self._control_answers(captioner)
            if answers:
                await self._settle(captioner, keys)
            elif answers is False:
                captioner.gate.trip(message, PROBE_FIRST)
                self._released += [refusal.item for refusal in self._open.values()]
                self._open.clear()
            return answers

    async def _settle(self, captioner: Captioner, keys: Sequence[str]) -> None:
        settled = [refusal for key in keys if (refusal := self._open.pop(key, None)) is not None]
        await captioner.keep(
            [refusal.item for refusal in settled], [refusal.record for refusal in settled]
        )

    async def _control_answers(self, captioner: Captioner) -> bool | None:
        """Ask the control once more. None: there is none, or the run is ending."""
        if self.control is None and self.earlier is not None:
            self.control, self.earlier = await self.earlier(), None
        if self.control is None:
            return None
        request = Request(items=(self.control,), form="audit", tokens_in=0, tokens_out=0)
        body = captioner.body(request)
        for attempt in range(1, _TRIES + 1):
            try:
                _, outcome = await captioner.ask(request, body, attempt)
            except Stopped:
                return None
            if outcome.verdict.kind in SUCCESS:
                self.proven_at = captioner.clock.monotonic()
                return True
            if outcome.verdict.kind not in LIMITED:
                return False
        return None
