"""The gate of a worker and the quota actor, in one process: whatever lies between them may fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.distributed.calls import LEASE, Call, Opening, Reply, Setting
from pipeline.distributed.quota_actor import QuotaActor
from pipeline.distributed.remote_gate import RemoteOpener
from pipeline.errors import Exit, Stopped, StopReason
from pipeline.model import Limits
from pipeline.ratelimit.protocol import RequestGate
from pipeline.ratelimit.rules.base import Permit
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Kind, Scope, Verdict
from tests.support import virtual

ANSWERED = Verdict(kind=Kind.OK, scope=Scope.ITEM)


class Line:
    """The way to an actor, which may be cut, and the actor, which may begin anew."""

    def __init__(self, folder: Path, quota: QuotaSettings) -> None:
        self.setting = Setting(quota=quota, output="out", state=str(folder))
        self.clock = virtual.VirtualClock()
        self.cut = False
        #: Seconds that an answer is under way, at most.
        self.slow = 0.0
        self._rng = random.Random(1)
        self.begin()

    def begin(self) -> None:
        """A new actor on the same ledger, as after a crash."""
        self.actor = QuotaActor(self.setting, self.clock, random.Random(0))

    async def open(self, opening: Opening) -> Reply:
        return await self._through(self.actor.open(opening))

    async def call(self, call: Call) -> Reply:
        return await self._through(self.actor.call(call))

    async def _through(self, answer: Any) -> Reply:
        if self.cut:
            answer.close()
            raise ConnectionError("the line is cut")
        reply: Reply = await answer
        await self.clock.sleep(self._rng.uniform(0.0, self.slow))
        return reply

    @asynccontextmanager
    async def worker(
        self, name: str, limits: Limits, patience: float = 900.0
    ) -> AsyncIterator[RequestGate]:
        """The gate that a shard on this worker has."""
        opener = RemoteOpener(self, name, self.setting.quota, output="out", shards=4, timeout=60.0)
        async with opener(
            self.setting.quota,
            limits,
            account="account",
            model="m",
            output=f"out/{name}",
            patience=patience,
            clock=self.clock,
            rng=random.Random(name),
            state=Path(self.setting.state),
        ) as gate:
            yield gate


async def leave(gate: RequestGate) -> Permit:
    return await gate.permit(tokens=1)


def answered(gate: RequestGate, permit: Permit) -> None:
    gate.report(permit, ANSWERED, tokens=None, cost_usd=None, images=())


async def waits(task: asyncio.Task[Permit], seconds: float = 30.0) -> bool:
    await asyncio.wait([task], timeout=seconds)
    return not task.done()


def test_workers_share_one_limit(tmp_path: Path) -> None:
    """Three workers as fast as they may: no window holds more than the limit, however
    late permits arrive, and none is lost."""
    limit, each = 60, 40

    async def go() -> list[float]:
        line = Line(tmp_path, QuotaSettings(requests_per_minute=limit, concurrency=8))
        line.slow = 0.9 * LEASE
        used: list[float] = []

        async def work(gate: RequestGate) -> None:
            for _ in range(each):
                permit = await leave(gate)
                gate.written(permit)
                used.append(line.clock.monotonic())
                answered(gate, permit)

        async with AsyncExitStack() as stack:
            gates = [await stack.enter_async_context(line.worker(name, Limits())) for name in "abc"]
            await asyncio.gather(*map(work, gates))
        return sorted(used)

    used = virtual.run(go())

    assert len(used) == 3 * each
    for at, begin in enumerate(used[:-limit]):
        assert used[at + limit] - begin >= 60.0, "a window held one more than the limit"
    assert used[-1] - used[0] < 180.0


def test_what_is_under_way_counts_for_an_actor_that_begins_anew(tmp_path: Path) -> None:
    """Two places, both taken when the actor dies: a third request waits for one of them."""

    async def go() -> tuple[bool, bool]:
        line = Line(tmp_path, QuotaSettings(requests_per_minute=600, concurrency=2))
        async with line.worker("a", Limits()) as gate:
            first, _ = await leave(gate), await leave(gate)
            line.begin()
            third = asyncio.create_task(leave(gate))
            before = await waits(third)
            answered(gate, first)
            return before, await waits(third)

    assert virtual.run(go()) == (True, False)


def test_the_places_of_a_dead_worker_are_free_and_it_gets_no_more(tmp_path: Path) -> None:
    """`forget`: a worker that was only silent ends by itself."""

    async def go() -> tuple[bool, int, bool, StopReason | None]:
        line = Line(tmp_path, QuotaSettings(requests_per_minute=600, concurrency=1))
        async with line.worker("dead", Limits()) as dead, line.worker("alive", Limits()) as alive:
            await leave(dead)
            waiting = asyncio.create_task(leave(alive))
            before = await waits(waiting)
            freed = await line.actor.forget("dead")
            after = await waits(waiting)
            with pytest.raises(Stopped):
                await leave(dead)
            return before, freed, after, dead.reason

    before, freed, after, reason = virtual.run(go())

    assert (before, freed, after) == (True, 1, False)
    assert reason is not None
    assert reason.exit is Exit.HELD


def test_a_worker_without_an_actor_ends_after_its_patience(tmp_path: Path) -> None:
    """69: nobody could stop it otherwise. A line that is cut for less is waited for."""

    async def go() -> tuple[StopReason | None, StopReason | None]:
        line = Line(tmp_path, QuotaSettings(requests_per_minute=600))
        async with line.worker("a", Limits(), patience=300.0) as gate:
            line.cut = True
            await line.clock.sleep(200.0)
            early = gate.reason
            line.cut = False
            answered(gate, await leave(gate))
            line.cut = True
            await line.clock.sleep(400.0)
            return early, gate.reason

    early, late = virtual.run(go())

    assert early is None
    assert late is not None
    assert late.exit is Exit.SERVICE


def test_a_job_that_ends_ends_for_every_worker(tmp_path: Path) -> None:
    """One worker's refused key, or the driver's signal, reaches those that wait."""
    refused = StopReason(exit=Exit.KEY, message="the key is refused")

    async def go() -> StopReason | None:
        line = Line(tmp_path, QuotaSettings(requests_per_minute=600, concurrency=1))
        async with line.worker("a", Limits()) as one, line.worker("b", Limits()) as other:
            await leave(one)
            waiting = asyncio.create_task(leave(other))
            await asyncio.sleep(1.0)
            one.stop(refused)
            with pytest.raises(Stopped):
                await waiting
            return other.reason

    assert virtual.run(go()) == refused
