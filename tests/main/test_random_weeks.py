"""A random week, reproducible by its seed: seven nights of a free key on a virtual clock.

Drawn: the manifest and how it changes, packs, concurrency, quota, latency, faults, lies, refused
images, an outage, nights that are cut off in the middle, options. After each night the checker
that `verify` uses looks at the output; the service's own log is the ground truth. A last quiet
run must then finish the job.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.options import RunOptions
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from pipeline.store.verify import check_output
from tests.main.test_nights import FREE, MODEL, UNLIMITED, chats, job_of
from tests.support import weekly
from tests.support.checker import check_whole, published
from tests.support.environment import run_job
from tests.support.virtual import VirtualClock, run

DAY = 86_400.0
LIES = ("drop", "repeat", "zero_based", "cut", "prose", "one_object", "fences", "comma", "extra")


@dataclass(slots=True)
class Week:
    """One seed's world."""

    seed: int
    folder: Path
    rng: random.Random = field(init=False)
    knobs: Knobs = field(init=False)
    sections: dict[str, Any] = field(init=False)
    urls: list[str] = field(init=False)
    #: Images that may have been in flight whenever a night was cut off.
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.rng = rng = random.Random(f"week {self.seed}")
        per_day = rng.choice([6, 12, 25, 50])
        outage = rng.choice([None, (at := rng.uniform(0, 6 * DAY), at + rng.uniform(60, 4 * 3600))])
        self.knobs = replace(
            FREE,
            rpd=per_day,
            window=rng.choice(["fixed", "sliding"]),
            latency=(fast := rng.uniform(0.1, 2), fast + rng.uniform(0, 20)),
            faulty=rng.choice([0.0, 0.0, 0.05, 0.3]),
            lying=rng.choice([0.0, 0.0, 0.1]),
            lies=LIES,
            refused=rng.choice([0.0, 0.0, 0.05]),
            outage=outage,
        )
        self.sections = {
            "packing": {
                "images_per_request": rng.choice([1, 1, 4, 8, "auto"]),
                "audit": rng.choice([0, 0, 0.2]),
            },
            "quota": {
                "requests_per_day": per_day,
                "concurrency": rng.choice([1, 2, 8]),
                "when_spent": "stop",
            },
        }
        self.urls = [f"https://images.example/{n}.jpg" for n in range(rng.randrange(5, 90))]

    @property
    def honest(self) -> bool:
        """Does the service answer what it is asked, apart from refusing images?"""
        return not (self.knobs.faulty or self.knobs.lying or self.knobs.outage)

    def change_manifest(self) -> None:
        """Rows come, go and move."""
        rng = self.rng
        first = len(self.urls) + 1_000 * rng.randrange(1, 1_000)
        self.urls += [f"https://images.example/{first + n}.jpg" for n in range(rng.randrange(8))]
        for _ in range(rng.randrange(4)):
            if len(self.urls) > 1:
                self.urls.pop(rng.randrange(len(self.urls)))
        if rng.random() < 0.3:
            rng.shuffle(self.urls)
        if rng.random() < 0.3:
            self.urls.append(rng.choice(self.urls))
        pq.write_table(pa.table({"url": self.urls}), self.folder / "urls.parquet")


def live(week: Week) -> None:
    """Seven nights and a quiet one."""
    job = job_of(week.folder, 1, **week.sections)
    clock, rng, output = VirtualClock(), week.rng, week.folder / "out"

    async def night(simulator: Simulator, options: RunOptions, ends: float | None) -> Any:
        """One run, perhaps cut off after so many seconds as by a second Ctrl-C."""
        seed = rng.randrange(1 << 30)
        coroutine = run_job(
            job, simulator, clock, state=week.folder / "state", options=options, seed=seed
        )
        task = asyncio.ensure_future(coroutine)
        if ends is not None:
            await asyncio.wait([task], timeout=ends)
            if not task.done():
                task.cancel()
                week.in_flight += week.sections["quota"]["concurrency"]
                with suppress(asyncio.CancelledError):
                    await task
                return None
        return await task

    async def seven() -> Simulator:
        simulator = Simulator(week.knobs, seed=week.seed, clock=clock)
        for number in range(7):
            await clock.sleep(max(0.0, number * DAY + rng.uniform(5, DAY / 2) - clock.monotonic()))
            week.change_manifest()
            options = RunOptions(
                limit=rng.choice([None, None, None, 5]), retry_failed=rng.random() < 0.1
            )
            ends = rng.choice([None, None, rng.uniform(0.0, 200.0)])
            told = await night(simulator, options, ends)
            assert not check_output(output)
            if told is not None:
                assert told["exit_code"] in (0, 1, 75, 69), told
                assert told["captioned"] + told["failed"] + told["left"] == told["images"]
                assert told["images"] == len(set(week.urls))
        return simulator

    simulator = run(seven(), seed=week.seed)
    judge(week, simulator, output)


def judge(week: Week, simulator: Simulator, output: Path) -> None:
    """The promises that the service's log can tell about."""
    asked = chats(simulator)
    truth = {image["url"]: image["caption"] for one in asked for image in one.images}
    records = published(output)
    assert all(r["caption"] in (None, truth[str(r["image"])]) for r in records.values())

    # Never above the limit: the service's own meter refused nothing.
    own = [one for one in asked if one.status == 429 and one.fault is None]
    assert not own
    days = Counter(int(one.at // DAY) for one in asked)
    assert max(days.values(), default=0) <= (week.knobs.rpd or 0)

    # The book has each request that came back, and no more than were sent.
    book = pq.read_table(output / "requests").num_rows if days else 0
    assert len(asked) - week.in_flight <= book <= len(asked)

    # Nothing answered is asked again, but what was in flight at a cut.
    if week.honest and not week.sections["packing"]["audit"] and not week.knobs.refused:
        size = week.sections["packing"]["images_per_request"]
        again = Counter(i["url"] for one in asked if one.status == 200 for i in one.images)
        twice = sum(count - 1 for count in again.values())
        assert twice <= week.in_flight * (64 if size == "auto" else size)

    # A failure is data: each has a reason, and an outage alone fails no image.
    failed = [record for record in records.values() if record["status"] == "failed"]
    assert all(record["error_code"] and record["error"] for record in failed)
    if not week.knobs.faulty and not week.knobs.lying and week.knobs.outage is None:
        assert {record["error_code"] for record in failed} <= {"safety", "refused"}

    # A quiet service lets it be finished.
    job = json.loads((week.folder / "job.yaml").read_text())
    job["quota"]["requests_per_day"] = 10_000
    job["endpoint"] = UNLIMITED  # the same model elsewhere: the captions stay what they are
    (week.folder / "job.yaml").write_text(json.dumps(job))
    quiet = Knobs(models=(Model(id=MODEL),), latency=(0.1, 0.2))
    clock = VirtualClock(1_795_392_000.0 + 9 * DAY)

    async def last() -> Any:
        simulator = Simulator(quiet, seed=week.seed, clock=clock)
        options = RunOptions(retry_failed=True)
        return await run_job(
            week.folder / "job.yaml", simulator, clock, state=week.folder / "new", options=options
        )

    told = run(last())
    assert (told["exit_code"], told["left"], told["failed"]) == (0, 0, 0), told
    assert len({str(r["image"]) for r in check_whole(output).values()} & set(week.urls)) == len(
        set(week.urls)
    )
    assert pq.read_table(output / "dataset.parquet").num_rows == len(week.urls)


@pytest.mark.parametrize("seed", range(10))
def test_a_random_week(seed: int, tmp_path: Path) -> None:
    """All promises, whatever the week brings."""
    live(Week(seed, tmp_path))


@pytest.mark.weekly
@pytest.mark.parametrize("seed", weekly.seeds(weekly.N))
def test_many_random_weeks(seed: int, tmp_path: Path) -> None:
    """The same for thousands of seeds."""
    live(Week(seed, tmp_path))
