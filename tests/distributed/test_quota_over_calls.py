"""What the quota actor and its workers keep together: a limit at strict servers, and a cost cap, while calls take time and the actor is killed."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.distributed.calls import LEASE, Call, Opening, Reply, Setting
from pipeline.distributed.quota_actor import QuotaActor
from pipeline.distributed.remote_gate import RemoteGate, RemoteOpener
from pipeline.errors import Exit, Stopped
from pipeline.model import Limits
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Kind, Verdict
from tests.ratelimit.servers import SERVERS, Traffic, crowd, most_in_window
from tests.support.virtual import VirtualClock, run

OK = Verdict(kind=Kind.OK)
#: A limit that all workers share, so that they ask the actor, and that none of these tests reaches.
PLENTY = 60_000


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is some: a lease is a commit."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


class Cluster:
    """An actor, which may die, and a way to it that takes up to `way` seconds in each direction."""

    def __init__(self, folder: Path, cap: float | None = None, **limits: Any) -> None:
        self.folder, self.clock, self.limits = folder, VirtualClock(), Limits(**limits)
        self.rng, self.way, self.calls = random.Random(7), 0.0, 0
        self.settings = QuotaSettings(concurrency=16, max_cost_usd=cap)
        self.actor: QuotaActor | None = None
        self.born()

    def born(self) -> None:
        setting = Setting(
            quota=self.settings, output=str(self.folder / "out"), state=str(self.folder)
        )
        self.actor = QuotaActor(setting, self.clock)

    async def open(self, opening: Opening) -> Reply:
        return await self._send("open", opening)

    async def call(self, call: Call) -> Reply:
        return await self._send("call", call)

    async def _send(self, method: str, message: object) -> Reply:
        self.calls += 1
        actor = self.actor
        await self.clock.sleep(self.rng.uniform(0, self.way))
        if actor is None:
            raise ConnectionError("no actor")
        answer = await getattr(actor, method)(pickle.loads(pickle.dumps(message)))
        await self.clock.sleep(self.rng.uniform(0, self.way))
        if self.actor is not actor:
            raise ConnectionError("it died")
        reply: Reply = pickle.loads(pickle.dumps(answer))
        return reply

    @asynccontextmanager
    async def gate(self, worker: str) -> AsyncIterator[RemoteGate]:
        opener = RemoteOpener(
            self, worker, self.settings, output=str(self.folder / "out"), shards=2, timeout=60
        )
        async with opener(
            self.settings,
            self.limits,
            account="account",
            model="m",
            output="of the shard",
            patience=120.0,
            clock=self.clock,
            rng=self.rng,
            state=Path("unused"),
        ) as gate:
            assert isinstance(gate, RemoteGate)
            yield gate


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("per_minute", [60, 600])
def test_two_workers_keep_one_limit_and_use_it(server: str, per_minute: int, folder: Path) -> None:
    """Strict servers of every kind refuse nothing, though calls take up to 0.4 s, and the actor is
    killed in the middle."""

    async def main() -> list[Traffic]:
        cluster = Cluster(folder, requests_per_minute=per_minute)
        cluster.way = 0.2
        clock, strict, until = cluster.clock, SERVERS[server](per_minute), 190.0
        async with cluster.gate("a") as a, cluster.gate("b") as b, asyncio.TaskGroup() as group:
            crowds = [
                group.create_task(
                    crowd(gate, strict, clock=clock, rng=cluster.rng, until=until)  # type: ignore[arg-type]
                )
                for gate in (a, b)
            ]
            await clock.sleep(95)
            cluster.actor = None
            await clock.sleep(1)
            cluster.born()
        return [task.result() for task in crowds]

    traffic = run(main())
    arrivals = [at for each in traffic for at in each.arrivals]

    assert sum(each.refused for each in traffic) == 0
    assert most_in_window(arrivals) <= per_minute
    assert min(len(each.arrivals) for each in traffic) > 0.5 * per_minute
    assert sum(1 for at in arrivals if at > max(arrivals) - 60) >= 0.8 * per_minute


def test_a_permit_that_was_long_on_its_way_is_not_used(folder: Path) -> None:
    """It goes back, and the request waits for another one."""

    async def main() -> None:
        cluster = Cluster(folder, requests_per_minute=600)
        clock = cluster.clock
        async with cluster.gate("a") as gate:
            before, cluster.way = cluster.calls, 2 * LEASE
            permit = await gate.permit(tokens=1)
            assert clock.monotonic() - permit.at <= LEASE
            assert cluster.calls > before + 1
            cluster.way = 0.0
            gate.report(permit, OK, tokens=1, cost_usd=0.0, images=())
            await clock.sleep(15)
            assert cluster.actor is not None
            assert (await cluster.actor.facts())["quota"]["in_flight"] == 0

    run(main())


@pytest.mark.parametrize("deaths", [0, 1])
def test_what_shards_have_spent_counts_once(folder: Path, deaths: int) -> None:
    """0.6 of 1 dollar, in parts that are not joined: 0.3 more may go, 0.5 may not; also at an actor that
    was begun anew after they were spent."""
    book = folder / "out/shards/00000/requests"

    async def main() -> None:
        cluster = Cluster(folder, cap=1.0, requests_per_minute=PLENTY)
        if not deaths:
            spend(book)
        async with cluster.gate("a") as gate:
            gate.give_back(await gate.permit(tokens=1, cost_usd=0.3))
            if deaths:
                spend(book)
                cluster.born()
                await cluster.clock.sleep(30)
            gate.give_back(await gate.permit(tokens=1, cost_usd=0.3))
            with pytest.raises(Stopped):
                await gate.permit(tokens=1, cost_usd=0.5)
            assert gate.reason is not None
            assert gate.reason.exit is Exit.LATER

    run(main())


def spend(book: Path) -> None:
    book.mkdir(parents=True)
    pq.write_table(pa.table({"cost_usd": [0.4, 0.2]}), book / "part-00000001.parquet")
