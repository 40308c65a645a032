"""Loading images while the places that they come from may be out.

An image that cannot be had because its folder, its host or this machine is in trouble waits and is
tried again (`images/outage.py` decides); what still waits when `endpoint.patience` is over is left
for the next run, never failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from pipeline.captioning.arrivals import AlreadyAsked
from pipeline.captioning.fresh_first import FreshFirst
from pipeline.captioning.select import Candidate, Selection
from pipeline.clock import Clock
from pipeline.errors import Exit, ImageError, SourceUnavailable, StopReason
from pipeline.images.load import Arrived, Images
from pipeline.images.outage import MACHINE, MOST_WAITING, Outages
from pipeline.model import Image
from pipeline.store.keys import KeyMap


class Sources:
    """The images of a run, and the candidates that wait for them."""

    def __init__(
        self,
        images: Images,
        *,
        patience: float,
        clock: Clock,
        stopped: asyncio.Event,
        event: Callable[[str], None],
        fresh_first: FreshFirst,
    ) -> None:
        """event: tells the user one line. fresh_first: says which rows are left until all others were
        read."""
        self._images, self._clock, self._stopped, self._event = images, clock, stopped, event
        self._outages: Outages[Candidate] = Outages(patience)
        #: Keys of candidates that wait for their place and are not remembered themselves.
        self._more = KeyMap()
        self._fresh_first = fresh_first
        #: Candidates handed out to be loaded and not yet done with.
        self._under_way = 0
        self._changed = asyncio.Event()

    async def candidates(self, selection: Selection) -> AsyncGenerator[list[Candidate], None]:
        """The rows, without those whose place is out, which come back when it is.

        Of those that wait above `MOST_WAITING`, the rows are read once more at the end, and then those
        of packs that were refused and wait for all others.
        """
        rows = selection.candidates()
        while True:
            async with aclosing(rows):
                async for candidates in rows:
                    yield self._ready(self._fresh_first.ready(candidates))
                    async for waiting in self._back(self._holds):
                        yield waiting
            async for waiting in self._back(lambda: self._outages.waiting or self._under_way):
                yield waiting
            if not len(self._more):
                self._more = self._fresh_first.later()
            if not len(self._more) or self._stopped.is_set():
                return
            keys, self._more = self._more, KeyMap()
            rows = selection.again(keys)

    def _holds(self) -> bool:
        """Is it of no use to read on, or would too much be held in memory?"""
        if self._outages.waiting > 2 * MOST_WAITING:
            return True
        machine_out = self._outages.open_place(MACHINE) is not None
        return machine_out and bool(self._outages.waiting or self._under_way)

    async def _back(self, wanted: Callable[[], object]) -> AsyncGenerator[list[Candidate], None]:
        """Candidates that may be tried now, and, while `wanted` says so, those that follow."""
        if waiting := self._due():
            yield waiting
        while wanted() and not self._stopped.is_set():
            if waiting := self._due():
                yield waiting
            elif wanted():
                await self._wait()

    def begins(self) -> None:
        """A candidate is handed out to be loaded."""
        self._under_way += 1

    def ends(self) -> None:
        """That candidate is done with, or waits."""
        self._under_way -= 1
        self._changed.set()

    async def load(
        self, candidate: Candidate, *, inline: bool, arrived: Arrived | None = None
    ) -> Image | None:
        """The image of a candidate; None: it waits for its place. ImageError: its own fault;
        AlreadyAsked by `arrived`."""
        (row, key), now = candidate, self._clock.monotonic
        try:
            image = await self._images.load(row.image, inline=inline, arrived=arrived)
        except SourceUnavailable as trouble:
            place = trouble.place
            out, overloaded = self._outages.open_place(place), self._outages.overloaded(place)
            error = self._outages.failed(trouble, candidate, key, now())
            if out is None and self._outages.open_place(place):
                self._event(
                    f"circuit open: {place}: {trouble.message}; its images wait until it is back"
                )
            elif not overloaded and self._outages.overloaded(place):
                self._event(
                    f"overloaded: {place}: {trouble.message}; it gives other images, so these are "
                    "tried again"
                )
            if error is not None:
                raise error from None
            return None
        except (ImageError, AlreadyAsked):
            self._succeeded(candidate)
            raise
        self._succeeded(candidate)
        return image

    def leaves(self, trouble: SourceUnavailable, key: bytes) -> bool:
        """Is an image that was asked by URL, and whose bytes cannot be had now, left for the next
        run, as its place is out? Else it fails by itself."""
        out = self._outages.noted(trouble, key, self._clock.monotonic())
        if out:
            self._outages.leave(f"{trouble.place}: {trouble.message}")
        return out

    def reason(self) -> StopReason | None:
        """Why images were left, if any were."""
        if not self._outages.left:
            return None
        count = sum(self._outages.left.values())
        why = max(self._outages.left, key=self._outages.left.__getitem__)
        return StopReason(
            exit=Exit.LATER,
            message=f"{count:,} images were left, their source is unavailable ({why}); run again "
            "when it is back",
        )

    def _succeeded(self, candidate: Candidate) -> None:
        row, key = candidate
        places = set(self._images.places_of(row.image)[:1]) - {MACHINE}
        for place in self._outages.succeeded(places, key):
            self._event(f"circuit closed: {place} is back")

    def _ready(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those whose place is not out; the others wait."""
        if not self._outages.any_open:
            return candidates
        ready, now = [], self._clock.monotonic()
        for candidate in candidates:
            row, key = candidate
            place = self._outages.open_place(*self._images.places_of(row.image))
            if place is None:
                ready.append(candidate)
            elif self._outages.waiting < MOST_WAITING:
                self._outages.put_off(place, candidate, now)
            else:
                self._more.set(key.hex(), "")
        return ready

    def _due(self) -> list[Candidate]:
        if not self._outages.waiting:
            return []
        return self._outages.due(self._clock.monotonic(), lambda candidate: candidate[1])

    async def _wait(self) -> None:
        """Until something has changed, or the next one may be tried."""
        self._changed.clear()
        due = self._outages.next_due()
        wait = None if due is None else max(0.01, due - self._clock.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._changed.wait()
