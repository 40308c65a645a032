"""Between the images that come and the requests that go: the pool, made asynchronous.

`captioning/pack.py` decides what travels together; here is only the waiting. The stream ends when no
image is left, nothing is in flight that might come back, and the pool is empty, or as soon as
the run is ending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

from pipeline.aio import end
from pipeline.captioning.endpoint_pool import EndpointPool, OneEndpoint
from pipeline.captioning.pack import Pool
from pipeline.captioning.request_result import RequestResult
from pipeline.captioning.suspects import Suspects
from pipeline.model import Item, Request

#: What follows the last images.
_END: list[Item] = []


class RequestSource:
    """Requests for the workers, built from fresh images and from what came back."""

    def __init__(
        self,
        items: AsyncGenerator[list[Item], None],
        pool: Pool,
        asked: EndpointPool | OneEndpoint,
        *,
        stopped: asyncio.Event,
        suspects: Suspects,
    ) -> None:
        self._items = items
        self._pool = pool
        self._asked = asked
        self._stopped = stopped
        self._suspects = suspects
        self._in_flight = 0
        self._ended = False
        #: The next images, while they are waited for.
        self._coming: asyncio.Future[list[Item]] | None = None
        self._changed = asyncio.Event()

    async def requests(self) -> AsyncGenerator[Request, None]:
        """Yield requests; a full one as soon as there is one, a short one only at the end.

        Closes the images' own stream when it ends, so that nothing is loaded any more.
        """
        async with aclosing(self._items), self._leaving():
            while not self._stopped.is_set():
                self._changed.clear()
                idle = self._ended and self._in_flight == 0
                request = self._pool.take(ended=self._ended, idle=idle)
                if request is not None:
                    self._in_flight += 1
                    yield request
                elif not self._ended and not self._pool.holding:
                    await self._more()
                elif self._ended and self._in_flight == 0:
                    await self._asked.finish()
                    if self._back():
                        continue
                    if not await self._ask_again(last=True) and not self._changed.is_set():
                        return
                else:
                    await self._changed.wait()

    async def _more(self) -> None:
        """Wait for images, or until something comes back: that goes again without them."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self._items, _END))
            self._coming.add_done_callback(lambda _: self._changed.set())
        if not self._coming.done():
            await self._changed.wait()
        if self._coming.done():
            items, self._coming = self._coming.result(), None
            self._ended = items is _END
            for item in items:
                self._pool.add(item)

    @asynccontextmanager
    async def _leaving(self) -> AsyncIterator[None]:
        """At the end, no longer wait for images."""
        try:
            yield
        finally:
            if self._coming is not None:
                await end(self._coming)

    def settling(
        self, settle: Callable[[Request], Awaitable[RequestResult]]
    ) -> Callable[[Request], Awaitable[None]]:
        """`settle`, with what it leaves over given back to the pool."""

        async def act(request: Request) -> None:
            try:
                end = await settle(request)
                self._pool.done(end.request, end.left, end.decision, end.verdict)
                for item in end.audits:
                    self._pool.audit(item)
                self._back()
                if self._suspects.unwritten:
                    await asyncio.to_thread(self._suspects.write)
            finally:
                self._in_flight -= 1
                self._changed.set()

        return act

    def _back(self) -> bool:
        """Put images that an outage had refused, and those to be asked a second time, into the
        pool, if any."""
        items = self._asked.released()
        for item in items:
            self._pool.add(item)
        return bool(items)

    async def keep_asking_again(self) -> None:
        """Put the images of answers that become doubtful back into the pool, until cancelled."""
        while True:
            await self._asked.arise()
            self._in_flight += 1
            self._changed.set()
            try:
                await self._ask_again()
            finally:
                self._in_flight -= 1
                self._changed.set()

    async def _ask_again(self, *, last: bool = False) -> bool:
        items = await self._asked.again(last=last)
        for item in items:
            self._pool.add(item)
        return bool(items)

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        while self._in_flight:
            self._changed.clear()
            await self._changed.wait()
