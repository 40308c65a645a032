"""Requests per minute against strict servers of every kind, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pipeline.model import Limits
from pipeline.ratelimit.gate import open_gate
from pipeline.ratelimit.settings import QuotaSettings
from tests.ratelimit.gates import Opener
from tests.ratelimit.servers import SERVERS, Traffic, crowd
from tests.support.virtual import VirtualClock, run


def drive(server: str, per_minute: int, minutes: float, seed: int) -> Traffic:
    async def main() -> Traffic:
        clock, rng = VirtualClock(start=1_795_392_000.0 + 3600 + 17.3 * seed), random.Random(seed)
        async with open_gate(
            QuotaSettings(concurrency=16),
            Limits(requests_per_minute=per_minute),
            account=None,
            model="m",
            output="out",
            patience=900.0,
            clock=clock,
            rng=rng,
            state=Path("unused"),
        ) as gate:
            return await crowd(
                gate,
                SERVERS[server](per_minute),
                clock=clock,
                rng=rng,
                until=minutes * 60,
                workers=16,
            )

    return run(main())


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("seed", range(3))
def test_no_server_of_any_kind_refuses_and_the_minute_is_used(server: str, seed: int) -> None:
    """600 a minute, latencies of 200 to 800 ms: no refusal, and 97 % used in the last minute."""
    traffic = drive(server, 600, 5, seed)

    last = max(traffic.arrivals)
    used = sum(1 for at in traffic.arrivals if at > last - 60)
    assert traffic.refused == 0
    assert used >= 0.97 * 600


@pytest.mark.parametrize("server", SERVERS)
def test_two_processes_share_the_minute(server: str, quick_folder: Path) -> None:
    """Two gates on one ledger: together never refused, and together they use the minute."""

    async def main() -> tuple[int, list[float]]:
        clock, rng = VirtualClock(), random.Random(2)
        open_ = Opener(
            state=quick_folder,
            clock=clock,
            limits=Limits(requests_per_minute=60),
            settings=QuotaSettings(concurrency=16),
        )
        one_server, until = SERVERS[server](60), 190.0
        async with (
            open_.gate(1) as one,
            open_.gate(2, output="other") as two,
            asyncio.TaskGroup() as group,
        ):
            crowds = [
                group.create_task(crowd(gate, one_server, clock=clock, rng=rng, until=until))
                for gate in (one, two)
            ]
        traffic = [task.result() for task in crowds]
        assert min(len(one.arrivals) for one in traffic) > 50
        arrivals = [at for one in traffic for at in one.arrivals]
        return sum(one.refused for one in traffic), arrivals

    refused, arrivals = run(main())
    last = max(arrivals)
    assert refused == 0
    assert sum(1 for at in arrivals if at > last - 60.0) >= 0.95 * 60


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("per_minute", [1, 4, 20])
def test_small_limits_are_kept_and_used_too(server: str, per_minute: int) -> None:
    """At the free tier's 20 a minute (and less) nothing is refused over an hour."""
    traffic = drive(server, per_minute, 60, 5)

    assert traffic.refused == 0
    assert traffic.done >= 0.96 * 60 * per_minute
