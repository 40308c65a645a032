"""Loading images while the places that they come from may be out.

An image that cannot be had because its folder, its host or this machine is in trouble waits and is
tried again (`images/outage.py` decides); what still waits when `endpoint.patience` is over is left
for the next run, never failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from pipeline.captioning.select import Candidate
from pipeline.clock import Clock
from pipeline.errors import Exit, ImageError, SourceUnavailable, StopReason
from pipeline.images.load import Images
from pipeline.images.outage import MOST_WAITING, Outages
from pipeline.model import Image


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
    ) -> None:
        """event: tells the user one line."""
        self._images, self._clock, self._stopped, self._event = images, clock, stopped, event
        self._outages: Outages[Candidate] = Outages(patience)
        #: Candidates handed out to be loaded and not yet done with.
        self._under_way = 0
        self._changed = asyncio.Event()

    async def candidates(
        self, rows: AsyncGenerator[list[Candidate], None]
    ) -> AsyncGenerator[list[Candidate], None]:
        """The rows, without those whose place is out, which come back when it is."""
        async for candidates in rows:
            yield [candidate for candidate in candidates if not self._put_off(candidate)]
            if waiting := self._due():
                yield waiting
            while self._outages.waiting > MOST_WAITING and not self._stopped.is_set():
                if waiting := self._due():
                    yield waiting
                elif self._outages.waiting > MOST_WAITING:
                    await self._wait()
        while (self._outages.waiting or self._under_way) and not self._stopped.is_set():
            if waiting := self._due():
                yield waiting
            elif self._outages.waiting or self._under_way:
                await self._wait()

    def begins(self) -> None:
        """A candidate is handed out to be loaded."""
        self._under_way += 1

    def ends(self) -> None:
        """That candidate is done with, or waits."""
        self._under_way -= 1
        self._changed.set()

    async def load(self, candidate: Candidate, *, inline: bool) -> Image | None:
        """The image of a candidate; None: it waits for its place. ImageError: its own fault."""
        (row, key), now = candidate, self._clock.monotonic
        try:
            image = await self._images.load(row.image, inline=inline)
        except SourceUnavailable as trouble:
            out = self._outages.open_place(trouble.place)
            error = self._outages.failed(trouble, candidate, key, now())
            if out is None and self._outages.open_place(trouble.place):
                self._event(
                    f"circuit open: {trouble.place}: {trouble.message}; its images wait until it "
                    "is back"
                )
            if error is not None:
                raise error from None
            return None
        except ImageError:
            self._succeeded(candidate)
            raise
        self._succeeded(candidate)
        return image

    def leaves(self, trouble: SourceUnavailable) -> bool:
        """Is an image that was asked by URL, and whose bytes cannot be had now, left for the next
        run, as its place is out? Else it fails by itself."""
        out = self._outages.noted(trouble, self._clock.monotonic())
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
        places = self._images.host_of(row.image)
        for place in self._outages.succeeded(places, key):
            self._event(f"circuit closed: {place} is back")

    def _put_off(self, candidate: Candidate) -> bool:
        if not self._outages.any_open:
            return False
        place = self._outages.open_place(*self._images.places_of(candidate[0].image))
        if place is not None:
            self._outages.put_off(place, candidate, self._clock.monotonic())
        return place is not None

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
