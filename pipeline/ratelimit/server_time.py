"""What the service's clock shows, as an interval that holds the truth.

Days are counted on the service's clock, and this machine's may be wrong or be set while we run.
So the wall clock is believed only until the first `Date` header: from then on the service's
time is kept against a clock that nobody can set (seconds since boot, sleep included). If the
wall clock is set before that, nobody knows which of the two was right: the interval then holds
both, requests count for every day that it touches, and a new day starts only when all of it is
past midnight. It must never guess: a wrong guess near midnight is a day over its limit.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary, ref

from pipeline.clock import Clock, SystemClock
from pipeline.ratelimit.rules.base import Now

#: A wall clock that moves by more than this against the boot clock was set, not slewed.
JUMP = 1.0
#: A `Date` further off than this is not a clock but a mistake.
ABSURD = 36 * 3600.0


@dataclass(frozen=True, slots=True)
class Uptime:
    """A clock that cannot be set, shared by all processes of one boot."""

    seconds: Callable[[], float]
    #: Names the boot: seconds of different boots do not compare.
    boot: str


def system_uptime() -> Uptime:
    """Seconds since boot with sleep counted (CLOCK_MONOTONIC stops in sleep on Linux)."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # No boot id on this system: the boot instant in whole minutes tells boots apart.
        boot = f"boot-{(time.time() - time.clock_gettime(clock)) // 60:.0f}"
    return Uptime(partial(time.clock_gettime, clock), boot)


#: Loops whose time is not the machine's, each a boot of its own.
_LOOPS: WeakKeyDictionary[asyncio.AbstractEventLoop, Uptime] = WeakKeyDictionary()


def uptime_of(clock: Clock) -> Uptime:
    """The boot clock of the machine, or that of the loop that a virtual clock lives on."""
    if isinstance(clock, SystemClock):
        return system_uptime()
    loop = asyncio.get_running_loop()
    if loop not in _LOOPS:
        weak = ref(loop)
        _LOOPS[loop] = Uptime(lambda: _time_of(weak), f"loop-{os.getpid()}-{time.monotonic_ns()}")
    return _LOOPS[loop]


def _time_of(loop: ref[asyncio.AbstractEventLoop]) -> float:
    alive = loop()
    assert alive is not None
    return alive.time()


@dataclass(slots=True)
class ServerTime:
    """Bounds of (service's clock - uptime), and of what they rest on."""

    low: float
    high: float
    #: Wall clock - uptime when last seen.
    wall: float
    #: A `Date` header was heard: the wall clock no longer matters.
    record_result: bool = False
    #: Replies in a row whose `Date` is far from the wall clock.
    denied: int = 0

    @classmethod
    def trusting(cls, wall: float, uptime: float) -> ServerTime:
        """Nothing known but the wall clock."""
        offset = wall - uptime
        return cls(low=offset, high=offset, wall=offset)

    def observe(self, wall: float, uptime: float) -> None:
        """Follow a slewed wall clock; meet a clock that was set with doubt."""
        offset = wall - uptime
        moved = offset - self.wall
        if moved == 0.0:
            return
        self.wall = offset
        if self.record_result:
            return
        if abs(moved) <= JUMP:
            self.low += moved
            self.high += moved
        else:
            self.low = min(self.low, offset)
            self.high = max(self.high, offset)

    def heard_date(self, date: float, sent: float, received: float) -> bool:
        """Take in a `Date` header (whole seconds) of a reply; times are uptimes. True: news.

        The service wrote it after `sent` and before `received`, and cut off the fraction.
        """
        low, high = date - received, date + 1.0 - sent
        if abs(low - self.wall) > ABSURD or low > high:
            self.denied += 1
            return False
        self.denied = 0
        if self.record_result and low <= self.high and high >= self.low:
            # Agrees with what is known: the intersection is narrower.
            low, high = max(low, self.low), min(high, self.high)
        news = not self.record_result or abs(low - self.low) > 0.5 or abs(high - self.high) > 0.5
        self.low, self.high, self.record_result = low, high, True
        return news

    def bounds(self, uptime: float) -> tuple[float, float]:
        """Earliest and latest that the service's clock may show now."""
        return self.low + uptime, self.high + uptime


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """All clocks of one gate, read together."""

    clock: Clock
    uptime: Uptime
    server: ServerTime

    def now(self) -> Now:
        """This instant on each of them."""
        uptime, wall = self.uptime.seconds(), self.clock.now()
        server = self.server
        server.observe(wall, uptime)
        return Now(self.clock.monotonic(), uptime, wall, server.low + uptime, server.high + uptime)
