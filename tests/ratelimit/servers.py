"""Strict services to test against, and workers that ask them: each counts in its own way.

A server gets the true arrival time of a request and says whether it is within the limit. It
shares no code with the gate.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.errors import Stopped
from pipeline.ratelimit.gate import Gate
from pipeline.verdict import Kind, Scope, Verdict
from tests.support.virtual import VirtualClock

OK = Verdict(kind=Kind.OK)


class Server(Protocol):
    """Takes a request at `at`; True: within the limit."""

    def take(self, at: float) -> bool: ...


@dataclass
class Fixed:
    """Clock-aligned minutes, as OpenRouter's captured resets show."""

    limit: int
    counts: dict[int, int] = field(default_factory=dict)

    def take(self, at: float) -> bool:
        minute = math.floor(at / 60)
        self.counts[minute] = self.counts.get(minute, 0) + 1
        return self.counts[minute] <= self.limit


@dataclass
class Sliding:
    """At most `limit` in any 60 s; refused requests count too."""

    limit: int
    log: deque[float] = field(default_factory=deque)

    def take(self, at: float) -> bool:
        while self.log and self.log[0] <= at - 60:
            self.log.popleft()
        self.log.append(at)
        return len(self.log) <= self.limit


@dataclass
class Quantised:
    """A sliding minute in whole seconds: up to 61 s long."""

    limit: int
    log: deque[int] = field(default_factory=deque)

    def take(self, at: float) -> bool:
        second = math.floor(at)
        while self.log and self.log[0] < second - 60:
            self.log.popleft()
        self.log.append(second)
        return len(self.log) <= self.limit


@dataclass
class Bucket:
    """A token bucket of `limit`, filled at limit/60 a second."""

    limit: int
    level: float = 0.0
    last: float = 0.0

    def take(self, at: float) -> bool:
        self.level = max(0.0, self.level - (at - self.last) * self.limit / 60)
        self.last = at
        self.level += 1
        return self.level <= self.limit


SERVERS: dict[str, Callable[[int], Server]] = {
    "fixed": Fixed,
    "sliding": Sliding,
    "quantised": Quantised,
    "bucket": Bucket,
}


@dataclass
class Traffic:
    """What workers did to a server."""

    arrivals: list[float] = field(default_factory=list)
    refused: int = 0
    done: int = 0


async def work(
    gate: Gate,
    server: Server,
    traffic: Traffic,
    *,
    clock: VirtualClock,
    rng: random.Random,
    until: float = math.inf,
) -> None:
    """One worker: permit, a way of 50 to 400 ms to the server, as long a way back."""
    while clock.monotonic() < until:
        try:
            permit = await gate.permit(tokens=100)
        except Stopped:
            return
        delay = rng.uniform(0.2, 0.8)
        way = delay * rng.uniform(0.1, 0.5)
        await clock.sleep(way)
        gate.written(permit)
        at = clock.now()
        traffic.arrivals.append(at)
        accepted = server.take(at)
        await clock.sleep(delay - way)
        if accepted:
            traffic.done += 1
            gate.report(permit, OK, tokens=100, cost_usd=0.0, images=["x"])
        else:
            traffic.refused += 1
            verdict = Verdict(kind=Kind.ACCOUNT_MINUTE, scope=Scope.ACCOUNT)
            gate.report(permit, verdict, tokens=None, cost_usd=None, images=["x"])


async def crowd(
    gate: Gate,
    server: Server,
    *,
    clock: VirtualClock,
    rng: random.Random,
    until: float = math.inf,
    workers: int = 8,
) -> Traffic:
    """So many workers until the gate stops or the time is over."""
    traffic = Traffic()
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work(gate, server, traffic, clock=clock, rng=rng, until=until))
    return traffic


def most_in_window(arrivals: list[float], window: float = 60.0) -> int:
    """The fullest half-open window of that length."""
    arrivals = sorted(arrivals)
    most, start = 0, 0
    for end, at in enumerate(arrivals):
        while arrivals[start] <= at - window:
            start += 1
        most = max(most, end - start + 1)
    return most
