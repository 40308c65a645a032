"""The line of those who wait for a slot, tokens or the end of an outage: nothing has to be written for
them and nothing spaced, so that the head of the line is let in by whoever made room, without
being woken in vain."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.clock import Clock
from pipeline.errors import Stopped

#: What is asked for, and the leave that is given.
_Ask = TypeVar("_Ask")
_Leave = TypeVar("_Leave")

#: Longest sleep before the clocks are looked at again: wall clocks are set, machines sleep.
LOOK_AGAIN = 60.0
#: Shortest sleep: timers may fire a little early, which must not become a busy loop.
TICK = 0.001


class WaitQueue(Generic[_Ask, _Leave]):
    """First come, first served."""

    def __init__(
        self, leave: Callable[[_Ask], _Leave | float], give_back: Callable[[_Leave], None]
    ) -> None:
        """leave: leave to go, or seconds until there may be one (infinite: not before a report);
        raises Stopped."""
        self._leave, self._give_back = leave, give_back
        self._places: deque[tuple[_Ask, asyncio.Future[_Leave]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        #: `admit` is about to be called.
        self._called = False

    def __len__(self) -> int:
        return len(self._places)

    async def wait(self, ask: _Ask) -> _Leave:
        """Leave to go, in turn: at once if nobody waits and nothing is in the way. Raises Stopped."""
        if not self._places:
            leave = self._leave(ask)
            if not isinstance(leave, float):
                return leave
            self._look_again(leave)
        place: asyncio.Future[_Leave] = asyncio.get_running_loop().create_future()
        self._places.append((ask, place))
        try:
            return await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.exception() is None:
                self._give_back(place.result())
            self.admit()
            raise

    def changed(self) -> None:
        """There may be room. Answers land many at a time: it is looked at once for all of them."""
        if self._places and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self.admit)

    def admit(self) -> None:
        """Let in as many from the head of the line as may go now."""
        self._called = False
        while self._places:
            ask, place = self._places[0]
            if place.done():  # its worker was cancelled
                self._places.popleft()
                continue
            try:
                leave = self._leave(ask)
            except Stopped as stopped:
                self._send_away(str(stopped))
                return
            if isinstance(leave, float):
                self._look_again(leave)
                return
            self._places.popleft()
            place.set_result(leave)

    def _send_away(self, why: str) -> None:
        """The run is ending: nobody may go any more."""
        for _, place in self._places:
            if not place.done():
                place.set_exception(Stopped(why))
        self._places.clear()

    def _look_again(self, seconds: float) -> None:
        """Admit again in so many seconds; if they are infinite, only a report can change that."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not math.isinf(seconds):
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(TICK, min(LOOK_AGAIN, seconds)), self.admit)


class Waker:
    """Of the only one who waits where something has to be written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self, until: float) -> None:
        """Wait for a monotonic time, or for anything that may have changed it."""
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = None
        if not math.isinf(until):
            delay = min(LOOK_AGAIN, until - self._clock.monotonic())
            timer = loop.call_later(max(TICK, delay), self.wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """It is time to look again."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


__all__ = ["TICK", "WaitQueue", "Waker"]
