"""What `_state` keeps, through whole runs: logs of 30 runs and 50 MB, bodies of failed attempts for
14 days and 200 MB at most."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.simulator.core import Simulator
from pipeline.store.bodies import read_bodies
from pipeline.store.runs import read_runs
from tests.main.test_nights import FREE, job_of
from tests.support.environment import run_job
from tests.support.virtual import VirtualClock, run

DAY = 86_400
MB = 1_000_000


def big(path: Path, size: int, age: float) -> Path:
    """A file of so many bytes (no blocks are written), so many seconds old."""
    path.touch(mode=0o600)
    os.truncate(path, size)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def test_the_logs_of_30_runs(tmp_path: Path) -> None:
    """The 33rd run takes away the logs of the first three, and of no other."""
    job, clock = job_of(tmp_path, 3), VirtualClock()

    async def runs() -> None:
        for _ in range(33):
            await run_job(job, Simulator(FREE, seed=1, clock=clock), clock, state=tmp_path / "s")
            await clock.sleep(60)

    run(runs())
    ids = [one["run_id"] for one in read_runs(tmp_path / "out")]
    assert len(set(ids)) == 33, "what runs were is kept for good"
    logs = {path.stem for path in (tmp_path / "out/_state/logs").iterdir()}
    assert logs == set(ids[-30:])


def test_50_mb_of_logs(tmp_path: Path) -> None:
    """Of logs of 30 MB each the newest stays."""
    job, clock = job_of(tmp_path, 3), VirtualClock()
    logs = tmp_path / "out/_state/logs"
    logs.mkdir(parents=True)
    old = [big(logs / f"{name}.log", 30 * MB, age) for name, age in (("a", 300), ("b", 200))]

    async def one() -> None:
        await run_job(job, Simulator(FREE, seed=1, clock=clock), clock, state=tmp_path / "s")

    run(one())
    assert [path.exists() for path in old] == [False, True]
    assert len(list(logs.iterdir())) == 2


def bodies(folder: Path) -> list[bytes]:
    return [body for _, body in read_bodies(folder / "out/_state/bodies")]


def test_bodies_of_failed_attempts_stay_for_14_days(tmp_path: Path) -> None:
    """Readable after 13 days, gone after 15; what was captioned at once is never there."""
    job, clock = job_of(tmp_path, 40), VirtualClock()
    found: list[int] = []

    async def runs() -> list[Any]:
        knobs = replace(FREE, refused=0.3, rpd=None)
        service = Simulator(knobs, seed=1, clock=clock)
        told = [await run_job(job, service, clock, state=tmp_path / "s")]
        for days in (0, 13, 2):
            await clock.sleep(days * DAY)
            await run_job(job, service, clock, state=tmp_path / "s")
            found.append(len(bodies(tmp_path)))
        return told

    (told,) = run(runs())
    assert 0 < told["failed"] < 40
    assert found == [told["failed"], told["failed"], 0]


def test_200_mb_of_bodies(tmp_path: Path) -> None:
    """The oldest go first, until the rest is small enough; the folder is the owner's alone."""
    job, clock = job_of(tmp_path, 40), VirtualClock()
    held = tmp_path / "out/_state/bodies"
    held.mkdir(parents=True)
    names = ("20261120T000000Z-000000000001", "20261121T000000Z-000000000002")
    old = [big(held / name, 120 * MB, 0) for name in names]

    async def one() -> None:
        knobs = replace(FREE, refused=0.3, rpd=None)
        await run_job(job, Simulator(knobs, seed=1, clock=clock), clock, state=tmp_path / "s")

    run(one())
    assert [path.exists() for path in old] == [False, True]
    assert sum(path.stat().st_size for path in held.iterdir()) <= 200 * MB
    assert len(list(held.iterdir())) >= 2
    assert {path.stat().st_mode & 0o777 for path in held.iterdir()} == {0o600}
    assert held.stat().st_mode & 0o777 == 0o700
