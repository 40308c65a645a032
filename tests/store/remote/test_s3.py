"""An output in a bucket: the real command against a real S3 service, over a socket that may lie."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import OutputError
from pipeline.store.remote import filesystem as stores
from pipeline.store.remote.filesystem import ObjectStore, Store, store_of
from pipeline.store.remote.verify import check_shared
from pipeline.store.store import Checkpoint, open_checkpoint
from tests.store.remote.buckets import (
    BUCKET,
    CircuitBreaker,
    bad_weather,
    environ,
    login,
    proxy,
    records_in,
    s3,
)
from tests.support.checker import check_whole
from tests.support.command import pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of
from tests.support.small_run import derive, failed, key, reply, sent


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    """One S3 service for all tests here; each has its own prefix."""
    with s3() as port:
        yield port


def store_at(address: str, port: int) -> Store:
    with environ(login(port)):
        store = store_of(address)
        store.sizes("captions")  # the driver looks at the environment when it first connects
        return store


def test_a_whole_job_in_a_bucket_killed_and_gone_on(service: int, tmp_path: Path) -> None:
    """`kill -9` half-way and run again: every image once in the bucket, what was answered before
    is not asked again; status, plan, verify, export and a second host behave as with a folder."""
    rows, flight = 60, 4
    address = f"s3://{BUCKET}/whole"
    images = folder_of(tmp_path, rows)
    env = {**login(service), "CAPTION_PIPELINE_STATE": str(tmp_path / "one")}
    other = {**env, "CAPTION_PIPELINE_STATE": str(tmp_path / "two")}
    with simulator(tmp_path, "latency=[0.02, 0.05]", "rpm=null") as server:
        quota = {"requests_per_minute": None, "concurrency": flight}
        job = write_job(
            tmp_path, server.base, images, quota=quota, output={"path": address + "/"}
        )  # fmt: skip
        process = start("run", job, env=env)
        until(lambda: len(server.answered()) >= rows // 2)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        before = len(server.answered())
        ended = pipeline("run", job, "--json", env=env)
        asked = len(server.answered())
        refused = {
            name: pipeline(*words, env=other)
            for name, words in {
                "run": ("run", job),
                "status": ("status", job),
                "plan": ("plan", job),
                "verify": ("verify", job, "--repair"),
                "export": ("export", job, tmp_path / "never.csv"),
            }.items()
        }
        status = pipeline("status", job, "--json", env=env)
        plan = pipeline("plan", job, "--json", env=env)
        check = pipeline("check", job, env=env)
        verified = pipeline("verify", job, env=env)
        exported = pipeline("export", job, tmp_path / "captions.csv", env=env)
        silent = len(server.asked())
        taken = pipeline("run", job, "--json", "--take-over", env=other)
        late = pipeline("run", job, env=env)
        assert len(server.asked()) == silent

    assert before < rows, "the kill came too late to prove anything"
    assert ended.code == 0, ended.err
    assert asked - rows <= flight
    assert ended.summary["output"] == address
    assert ended.summary["dataset"] == f"{address}/dataset.parquet"
    store = store_at(address, service)
    assert len(records_in(store, tmp_path)) == rows
    assert store.sizes("").keys() == {"dataset.parquet"}
    assert store.sizes("_state").keys() == {"owner.json"}
    for name, one in refused.items():
        assert one.code == 76, (name, one.err)
        assert "--take-over" in one.err
        assert len(one.err.strip().splitlines()) == 1, one.err
    codes = [one.code for one in (status, plan, check, verified, exported)]
    assert codes == [0] * 5, [one.err + one.out for one in (status, plan, check, verified)]
    assert (status.summary["output"], status.summary["captions"]) == (address, rows)
    assert (taken.code, taken.summary["requests"]) == (0, 0), taken.err
    assert late.code == 76


def test_a_bucket_that_is_not_there_is_one_line(service: int, tmp_path: Path) -> None:
    """73 before anything is asked, in one line that names the output."""
    images = folder_of(tmp_path, 2)
    env = login(service)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images, output={"path": "s3://nowhere-at-all/x"})
        ended = pipeline("run", job, "--quiet", env=env)
        job = write_job(tmp_path, server.base, images, output={"path": "ftp://host/x"})
        unknown = pipeline("run", job, "--quiet", env=env)
        silent = server.asked()

    assert (ended.code, unknown.code, silent) == (73, 78, [])
    assert "s3://nowhere-at-all/x" in ended.err
    assert len(ended.err.strip().splitlines()) == 1, ended.err


async def work(checkpoint: Checkpoint, rng: random.Random, seen: set[int]) -> None:
    """Settle some of 30 images, one way or another; publish now and then."""
    for _ in range(rng.randint(2, 4)):
        for number in rng.sample(range(30), rng.randint(1, 8)):
            if checkpoint.state(key(number)) == "ok":
                continue
            if rng.random() < 0.3 and checkpoint.state(key(number)) is None:
                await checkpoint.settle([failed(number)])
            else:
                await checkpoint.reply(sent([number], 1), reply([number]))
            seen.add(number)
        await checkpoint.finish()


@dataclass
class Way:
    """The way to the service: what it does to a request is turned while it is in use."""

    weather: CircuitBreaker

    def __call__(self, method: str, path: str) -> str | None:
        return self.weather(method, path)


def calm(_method: str, _path: str) -> str | None:
    return None


def under(store: Store, prefix: str) -> Any:
    """The same store, further down: a new connection for each schedule would take most time."""
    assert isinstance(store, ObjectStore)
    deeper = copy.copy(store)
    deeper.shown, deeper._root = f"{store.shown}/{prefix}", f"{store._root}/{prefix}"
    return deeper


def one_schedule(folder: Path, seed: int, way: Way, store: Store, clear: Store) -> None:
    """Random work under random faults, cut off by outages, then once more in good weather."""
    rng, seen = random.Random(seed), set[int]()
    polled: list[int] = []

    async def session(number: int) -> None:
        weather, left = bad_weather(rng, rng.choice([0.1, 0.3, 0.5])), rng.randint(5, 60)
        outage = number == 0 and rng.random() < 0.5

        def storm(method: str, path: str) -> str | None:
            nonlocal left
            left -= 1
            return "cut" if outage and left < 0 else weather(method, path)

        way.weather = storm
        try:
            async with open_checkpoint(
                folder, derive=derive, clock=SystemClock(), store=store
            ) as checkpoint:
                await work(checkpoint, rng, seen)
        finally:
            way.weather = calm

    async def poll() -> None:
        while True:
            polled.append(len(await asyncio.to_thread(records_in, clear, folder)))
            await asyncio.sleep(0.05)  # leaves the service some time for the run

    async def main() -> None:
        reader = asyncio.create_task(poll())
        for number in range(2):
            with contextlib.suppress(OutputError):
                await session(number)
        async with open_checkpoint(
            folder, derive=derive, clock=SystemClock(), store=clear
        ) as checkpoint:
            assert all(checkpoint.state(key(number)) for number in seen)
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader

    asyncio.run(main())
    here = check_whole(folder)
    assert here.keys() == {key(number) for number in seen}
    assert records_in(clear, folder) == here
    assert check_shared(folder, clear) == []
    assert polled, "nobody looked"


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow at once, and only ours count: the driver would hide most faults from us."""
    import s3fs

    monkeypatch.setattr(stores, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.faults
@pytest.mark.parametrize("schedules", [8, pytest.param(1000, marks=pytest.mark.weekly)])
def test_random_faults_lose_nothing_and_show_no_key_twice(
    service: int, tmp_path: Path, schedules: int
) -> None:
    """500, 503, 409, 412, answers that are lost after the work was done, cut and slow links, and
    outages: what was acknowledged is in the bucket at the end, exactly once, as it is here."""
    way, address = Way(calm), f"s3://{BUCKET}/storm-{schedules}"
    clear = store_at(address, service)
    with proxy(service, way) as (port, happened):
        store = store_at(address, port)
        for seed in range(schedules):
            one_schedule(
                tmp_path / str(seed), seed, way, under(store, str(seed)), under(clear, str(seed))
            )

    counts = {name: happened.count(name) for name in sorted(set(happened))}
    print(f"{schedules} schedules, faults that happened: {json.dumps(counts)}")
    assert set(counts) == {"500", "503", "409", "412", "lost", "cut", "slow"}


@pytest.mark.usefixtures("_hasty")
def test_an_outage_stops_no_asking_and_is_caught_up_with(service: int, tmp_path: Path) -> None:
    """While the bucket is away answers are kept here; when it is back they are put. Ending in
    the outage is 73 and loses nothing."""
    away = False
    address = f"s3://{BUCKET}/outage"
    clear = store_at(address, service)

    async def session(store: Any, number: int) -> None:
        nonlocal away
        async with open_checkpoint(
            tmp_path / "one", derive=derive, clock=SystemClock(), store=store
        ) as checkpoint:
            away = number == 2
            await checkpoint.reply(sent([number], 1), reply([number]))
            if away:
                with pytest.raises(OutputError, match="cannot be reached"):
                    await checkpoint.finish()
            assert checkpoint.trouble is None

    with proxy(service, lambda *_: "cut" if away else None) as (port, _):
        asyncio.run(session(store_at(address, port), 1))
        with pytest.raises(OutputError):
            asyncio.run(session(store_at(address, port), 2))
    assert records_in(clear, tmp_path).keys() == {key(1)}
    asyncio.run(session(clear, 3))
    assert records_in(clear, tmp_path).keys() == {key(1), key(2), key(3)}
