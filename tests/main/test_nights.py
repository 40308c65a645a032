"""Days of quota, as a user of a free key lives them, on a virtual clock."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.inputs import inspect_job
from pipeline.captioning.options import RunOptions
from pipeline.commands.service_status import service_status
from pipeline.config.job import load_job
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import PROFILES, Knobs
from pipeline.simulator.models import Model
from tests.support.checker import check_whole
from tests.support.environment import killed, run_job, world_of
from tests.support.virtual import VirtualClock, run

MODEL = "google/gemma-4-31b-it:free"
#: A service without limits of its own.
UNLIMITED = {"profile": "vllm", "base_url": "https://sim.example/v1", "model": MODEL}
FREE = replace(
    PROFILES["openrouter-2026-free"],
    upstream_quiet=None,
    latency=(0.5, 2.0),
    keys=("sk-or-v1-test",),
)


def job_of(folder: Path, rows: int, **sections: Any) -> Path:
    """A job over made-up URLs that the simulated service fetches itself."""
    urls = [f"https://images.example/{n}.jpg" for n in range(rows)]
    pq.write_table(pa.table({"url": urls}), folder / "urls.parquet")
    job = {
        "name": "nights",
        "manifest": {"path": str(folder / "urls.parquet")},
        "images": {"send": "url"},
        "endpoint": {
            "profile": "openrouter",
            "base_url": "https://sim.example/api/v1",
            "key_host": "sim.example",
            "model": MODEL,
        },
        "output": {"path": str(folder / "out")},
        **sections,
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder / "job.yaml"


def chats(simulator: Simulator) -> list[Any]:
    return [one for one in simulator.log if one.path == "/chat/completions"]


def test_500_captions_from_500_requests_and_the_next_day_goes_on(tmp_path: Path) -> None:
    """RPD 500, 1,500 rows: 75 each day with the instant, no row failed, the sum is exact."""
    job = job_of(tmp_path, 1_500)
    clock = VirtualClock()

    async def nights() -> list[dict[str, Any]]:
        knobs = replace(FREE, rpd=500, rpm=100)
        simulator = Simulator(knobs, seed=1, clock=clock)
        told = []
        for _ in range(3):
            told.append(await run_job(job, simulator, clock, state=tmp_path / "state"))
            assert {one.status for one in chats(simulator)} == {200}
            again = await run_job(job, simulator, clock, state=tmp_path / "state")
            if again["left"]:
                assert (again["exit_code"], again["requests"]) == (75, 0)
                await clock.sleep(86_400 - clock.now() % 86_400 + 5)
        assert len(chats(simulator)) == 1_500
        return told

    told = run(nights())
    assert [one["captioned"] for one in told] == [500, 1_000, 1_500]
    assert [one["requests"] for one in told] == [500, 500, 500]
    assert [one["exit_code"] for one in told] == [75, 75, 0]
    assert all(one["failed"] == 0 for one in told)
    assert told[0]["resume_after"] == "2026-11-24T00:00:05Z"
    assert "quota of 500 spent" in told[0]["reason"]
    assert len(check_whole(tmp_path / "out")) == 1_500


def test_a_day_that_grew_after_a_refusal_is_used_the_same_day(tmp_path: Path) -> None:
    """The service lowers its day to 10 and refuses; an hour later credit was bought, and its key says
    1,000: the day that a refusal called spent goes on, and `plan` says so beforehand."""
    job, clock = job_of(tmp_path, 60), VirtualClock()

    async def day() -> tuple[list[dict[str, Any]], list[int | None], list[int]]:
        simulator = Simulator(replace(FREE, rpd=20), seed=1, clock=clock)
        world = world_of(simulator, clock, state=tmp_path / "state")
        loaded = load_job(job, (), world.environ)
        endpoint = inspect_job(loaded, world.environ).endpoint
        first = asyncio.ensure_future(run_job(job, simulator, clock, state=tmp_path / "state"))
        await clock.sleep(20)
        simulator.turn(rpd=10)
        summaries, left = [await first], []
        for limit in (10, 1_000):
            await clock.sleep(3600)
            simulator.turn(rpd=limit)
            status = await service_status(loaded, endpoint, world, only_plan=True)
            left.append(status.today and status.today.left)
            summaries.append(await run_job(job, simulator, clock, state=tmp_path / "state"))
        return summaries, left, [one.status for one in chats(simulator)]

    summaries, left, statuses = run(day())
    assert [one["captioned"] for one in summaries] == [10, 10, 60]
    assert [one["exit_code"] for one in summaries] == [75, 75, 0]
    assert left[0] == 0
    assert left[1] is not None
    assert left[1] >= 980
    assert statuses.count(429) == 1


def test_the_pad_follows_the_delay_from_permit_to_socket(tmp_path: Path) -> None:
    """Requests that leave as soon as they may shrink the pad to what servers' seconds need."""
    job = job_of(tmp_path, 200)
    clock = VirtualClock()

    async def day() -> None:
        simulator = Simulator(replace(FREE, rpd=500, rpm=100), seed=1, clock=clock)
        await run_job(job, simulator, clock, state=tmp_path / "state")

    run(day())
    live = json.loads((tmp_path / "out/_state/live.json").read_text())
    assert live["quota"]["pad"] == pytest.approx(1.3)


def test_a_free_day_of_50_requests_is_1600_captions(tmp_path: Path) -> None:
    """RPD 50, RPM 20, packs of 32, nothing refused: none on the wrong image."""
    job = job_of(tmp_path, 2_000, packing={"images_per_request": 32})
    clock = VirtualClock()

    async def day() -> tuple[dict[str, Any], list[Any]]:
        simulator = Simulator(FREE, seed=1, clock=clock)
        told = await run_job(job, simulator, clock, state=tmp_path / "state")
        return told, chats(simulator)

    told, asked = run(day())
    assert (told["captioned"], told["requests"], told["exit_code"]) == (1_600, 50, 75)
    assert len(asked) == 50
    truth = {image["url"]: image["caption"] for one in asked for image in one.images}
    for record in check_whole(tmp_path / "out").values():
        assert record["caption"] == truth[record["image"]]
    assert pq.read_table(tmp_path / "out/dataset.parquet").num_rows == 2_000


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.weekly) for n in range(2, 13))]
)
def test_free_days_with_refused_images_and_kills(tmp_path: Path, seed: int) -> None:
    """RPD 50, packs of 32, 1 % of 2,400 images refused: the first day is fresh packs alone, each later
    night goes on with the search where the one before left it, also after `kill -9`."""
    job = job_of(tmp_path, 2_400, packing={"images_per_request": 32})
    urls = [f"https://images.example/{seed}/{n}.jpg" for n in range(2_400)]
    pq.write_table(pa.table({"url": urls}), tmp_path / "urls.parquet")
    clock, chance = VirtualClock(), random.Random(seed)

    async def nights() -> tuple[list[dict[str, Any]], int, list[Any]]:
        simulator = Simulator(replace(FREE, refused=0.01), seed=seed, clock=clock)
        told, kills = list[dict[str, Any]](), 0
        while not told or told[-1]["left"]:
            if told:
                task = asyncio.create_task(run_job(job, simulator, clock, state=tmp_path / "state"))
                await clock.sleep(chance.uniform(5, 150))
                kills += await killed(task, tmp_path)
            told.append(await run_job(job, simulator, clock, state=tmp_path / "state"))
            await clock.sleep(86_400 - clock.now() % 86_400 + 5)
        return told, kills, chats(simulator)

    told, kills, asked = run(nights())
    bad = {r["image"] for r in check_whole(tmp_path / "out").values() if r["status"] == "failed"}
    packs = [set(urls[at : at + 32]) for at in range(0, 1_600, 32)]
    groups = Counter(tuple(image["url"] for image in one.images) for one in asked)
    repeated = groups.total() - len(groups)

    print(
        f"seed {seed}: {[one['captioned'] for one in told]} captioned, {len(bad)} refused, "
        f"{len(asked)} requests, {kills} kills, {repeated} requests repeated"
    )
    assert told[0]["captioned"] == 32 * sum(not pack & bad for pack in packs)
    assert told[-1]["captioned"] + len(bad) == 2_400
    assert all(groups[(url,)] for url in bad)
    assert repeated <= 2 * kills  # what was in flight
    assert len(asked) <= 255


@pytest.mark.parametrize(("refused", "least"), [(0.01, 10.0), (0.005, 14.0)])
def test_captions_a_request_when_some_images_are_refused(
    tmp_path: Path, refused: float, least: float
) -> None:
    """Packs of 32 at 1 % refused images: at least 10 captions a request; at 0.5 %: 14."""
    job = job_of(tmp_path, 6_400, packing={"images_per_request": 32}, quota={"concurrency": 4})
    clock = VirtualClock()

    async def all_at_once() -> dict[str, Any]:
        knobs = Knobs(models=(Model(id=MODEL),), refused=refused, latency=(0.5, 2.0))
        simulator = Simulator(knobs, seed=2, clock=clock)
        return await run_job(job, simulator, clock, state=tmp_path / "state", options=None)

    told = run(all_at_once())
    told_captions = told["captioned"] / told["requests"]
    assert told["left"] > 0 or told_captions >= least
    assert told_captions >= least
    failed = [r for r in check_whole(tmp_path / "out").values() if r["status"] == "failed"]
    assert all(record["error_code"] == "safety" for record in failed)


def test_a_storm_of_upstream_refusals_spends_at_most_a_tenth_of_the_day(tmp_path: Path) -> None:
    """Refused calls count towards the day: after 10 % of it the run stops with 75, none failed."""
    job = job_of(tmp_path, 300)
    clock = VirtualClock()

    async def storm() -> tuple[dict[str, Any], int]:
        knobs = replace(FREE, rpd=200, faulty=1.0, faults=("upstream_429",))
        simulator = Simulator(knobs, seed=1, clock=clock)
        told = await run_job(job, simulator, clock, state=tmp_path / "state")
        return told, len(chats(simulator))

    told, asked = run(storm())
    assert told["exit_code"] == 75
    assert told["failed"] == 0
    assert 1 <= asked <= 20


@pytest.mark.parametrize("concurrency", [1, 8])
def test_an_outage_of_three_hours_fails_no_image(tmp_path: Path, concurrency: int) -> None:
    """Down in the middle, patience long enough: every image captioned in the end."""
    job = job_of(
        tmp_path, 200, endpoint={**UNLIMITED, "patience": "6h"}, quota={"concurrency": concurrency}
    )
    clock = VirtualClock()

    async def outage() -> dict[str, Any]:
        knobs = Knobs(models=(Model(id=MODEL),), latency=(1.0, 3.0), outage=(20.0, 20.0 + 3 * 3600))
        simulator = Simulator(knobs, seed=1, clock=clock)
        told = await run_job(job, simulator, clock, state=tmp_path / "state")
        probes = [one for one in chats(simulator) if one.fault == "outage"]
        assert probes
        assert len(probes) < 100
        return told

    told = run(outage())
    assert (told["captioned"], told["failed"], told["exit_code"]) == (200, 0, 0)


def test_an_outage_longer_than_patience_ends_with_69_and_fails_nothing(tmp_path: Path) -> None:
    """Rows stay unsettled; the next run goes on."""
    job = job_of(tmp_path, 100, endpoint=UNLIMITED)
    clock = VirtualClock()

    async def outage() -> tuple[dict[str, Any], dict[str, Any]]:
        knobs = Knobs(models=(Model(id=MODEL),), latency=(1.0, 3.0), outage=(10.0, 5 * 3600.0))
        simulator = Simulator(knobs, seed=1, clock=clock)
        first = await run_job(job, simulator, clock, state=tmp_path / "state")
        await clock.sleep(6 * 3600)
        return first, await run_job(job, simulator, clock, state=tmp_path / "state")

    first, second = run(outage())
    assert (first["exit_code"], first["failed"]) == (69, 0)
    assert 0 < first["captioned"] < 100
    assert (second["exit_code"], second["captioned"]) == (0, 100)


def test_the_cost_cap_holds_over_all_runs_of_a_job(tmp_path: Path) -> None:
    """quota.max_cost_usd: 75 before more is spent, and the next run starts from what was spent."""
    paid = {
        **UNLIMITED,
        "profile": "openrouter",
        "key_host": "sim.example",
        "model": "google/gemini-2.5-flash",
        "allow_paid": True,
    }
    job = job_of(tmp_path, 100, endpoint=paid, quota={"max_cost_usd": 0.006, "concurrency": 2})
    clock = VirtualClock()

    async def runs() -> list[dict[str, Any]]:
        knobs = replace(PROFILES["openrouter-paid"], keys=("sk-or-v1-test",))
        simulator = Simulator(knobs, seed=1, clock=clock)
        return [await run_job(job, simulator, clock, state=tmp_path / "state") for _ in range(2)]

    first, second = run(runs())
    assert first["exit_code"] == second["exit_code"] == 75
    assert 0 < first["cost_usd"] <= 0.006
    assert first["captioned"] < 100
    assert first["cost_usd"] + second["cost_usd"] <= 0.006
    assert "max_cost_usd" in first["reason"]


def test_a_price_is_never_paid_unasked(tmp_path: Path) -> None:
    """A priced model at preflight, or a reply that cost money: 77, with the price and the remedy."""
    endpoint = {**UNLIMITED, "profile": "openrouter", "key_host": "sim.example"}
    priced = job_of(tmp_path, 20, endpoint={**endpoint, "model": "google/gemini-2.5-flash"})
    clock = VirtualClock()

    async def go(job: Path, **knobs: Any) -> tuple[dict[str, Any], int]:
        simulator = Simulator(replace(FREE, **knobs), seed=1, clock=clock)
        told = await run_job(job, simulator, clock, state=tmp_path / "state")
        return told, len(chats(simulator))

    told, asked = run(go(priced))
    assert (told["exit_code"], asked) == (77, 0)
    assert "allow_paid" in told["reason"]
    rerouted = job_of(tmp_path, 20, endpoint=endpoint, output={"path": str(tmp_path / "other")})
    told, asked = run(go(rerouted, rerouted_after=3))
    assert told["exit_code"] == 77
    assert asked <= 3 + 8
    assert "charged" in told["reason"]


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_a_dead_service_gets_few_requests_from_a_small_job(tmp_path: Path, rows: int) -> None:
    """Too few images to tell an outage from bad images: each is tried its five times and once
    more at the end, then fails as server_error, and the next run asks again by itself."""
    job = job_of(tmp_path, rows, endpoint=UNLIMITED)
    clock = VirtualClock()

    async def runs() -> tuple[list[dict[str, Any]], int]:
        knobs = Knobs(models=(Model(id=MODEL),), latency=(0.1, 0.3), outage=(0.0, 3_600.0))
        simulator = Simulator(knobs, seed=1, clock=clock)
        first = await run_job(job, simulator, clock, state=tmp_path / "state")
        sent = len(chats(simulator))
        await clock.sleep(3_700)
        return [first, await run_job(job, simulator, clock, state=tmp_path / "state")], sent

    (first, second), sent = run(runs())
    assert sent <= 6 * rows
    assert (first["exit_code"], first["failed"]) == (75, rows)
    assert (second["exit_code"], second["captioned"]) == (0, rows)


def test_a_night_that_begins_in_an_outage_waits_for_its_end(tmp_path: Path) -> None:
    """A job that has worked before: within `patience` it goes on; past it 69, nothing failed. A
    first run says at once that nobody is there."""
    paced = {"requests_per_minute": None, "requests_per_day": None}
    endpoint = {**UNLIMITED, "profile": "openrouter", "key_host": "sim.example", "patience": "2h"}
    job = job_of(tmp_path, 30, endpoint=endpoint, quota=paced)
    clock = VirtualClock()

    async def night(hours: float, limit: int | None = None) -> tuple[dict[str, Any], float]:
        knobs = replace(FREE, rpm=None, rpd=None, outage=(0.0, hours * 3600), outage_all=True)
        simulator = Simulator(knobs, seed=1, clock=clock)
        began = clock.monotonic()
        options = RunOptions(limit=limit)
        told = await run_job(job, simulator, clock, state=tmp_path / "state", options=options)
        return told, clock.monotonic() - began

    async def nights() -> list[tuple[dict[str, Any], float]]:
        return [await night(1), await night(0, 10), await night(5), await night(1)]

    (first, at_once), (some, _), (gave_up, waited), (last, _) = run(nights())
    assert (first["exit_code"], first["left"]) == (69, 30)
    assert at_once < 60
    assert (some["exit_code"], some["captioned"]) == (0, 10)
    assert (gave_up["exit_code"], gave_up["failed"], gave_up["requests"]) == (69, 0, 0)
    assert 2 * 3600 <= waited < 2.1 * 3600
    assert (last["exit_code"], last["captioned"]) == (0, 30)
