"""A long manifest, on a virtual clock: it is asked as it is read, and counted by the end.

What counts as long is set to 10 rows here; all paths are those of ten million.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning import select
from pipeline.captioning.options import RunOptions
from pipeline.simulator.core import Simulator
from tests.main.test_nights import FREE, chats, job_of
from tests.support.checker import check_whole
from tests.support.environment import run_job
from tests.support.virtual import VirtualClock, run

KNOBS = replace(FREE, rpd=50, rpm=100)


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 10 rows a manifest counts as long: it is not counted before the first request."""
    monkeypatch.setattr(select, "COUNTED_ROWS", 10)


def doubled(job: Path, rows: int, images: int) -> None:
    """The job's manifest with every image several times, far from each other."""
    urls = [f"https://images.example/{n % images}.jpg" for n in range(rows)]
    path = Path(json.loads(job.read_text())["manifest"]["path"])
    pq.write_table(pa.table({"url": urls}), path)


def asked(simulator: Simulator) -> Counter[str]:
    return Counter(image["url"] for one in chats(simulator) for image in one.images)


async def a_day(clock: VirtualClock) -> None:
    await clock.sleep(86_400 - clock.now() % 86_400 + 5)


def test_nights_over_a_long_manifest_ask_each_image_once(tmp_path: Path, long: None) -> None:
    """300 rows of 120 images, 50 a night: each image asked once, exact at the end, no count."""
    job, clock = job_of(tmp_path, 1), VirtualClock()
    doubled(job, 300, 120)

    async def nights() -> tuple[list[dict[str, Any]], Counter[str]]:
        simulator = Simulator(KNOBS, seed=1, clock=clock)
        told = []
        for _ in range(4):
            told.append(await run_job(job, simulator, clock, state=tmp_path / "state"))
            await a_day(clock)
        return told, asked(simulator)

    told, seen = run(nights())
    assert [one["captioned"] for one in told] == [50, 100, 120, 120]
    assert [one["requests"] for one in told] == [50, 50, 20, 0]
    assert [one["exit_code"] for one in told] == [75, 75, 0, 0]
    assert [one["images"] for one in told[2:]] == [120, 120]
    assert told[2]["left"] == 0
    assert set(seen.values()) == {1}
    assert len(check_whole(tmp_path / "out")) == 120
    dataset = pq.read_table(tmp_path / "out/dataset.parquet")
    assert dataset.num_rows == 300
    assert dataset["caption"].null_count == 0


def test_a_long_csv_over_an_empty_output_is_asked_once(tmp_path: Path, long: None) -> None:
    """CSV does not tell how many rows it has: the first line says about how many, the last one exactly."""
    job, clock = job_of(tmp_path, 1), VirtualClock()
    plain = json.loads(job.read_text())
    rows = "".join(f"https://images.example/{n % 40}.jpg\n" for n in range(60))
    (tmp_path / "long.csv").write_text("url\n" + rows)
    plain["manifest"]["path"] = str(tmp_path / "long.csv")
    job.write_text(json.dumps(plain))

    async def night() -> tuple[dict[str, Any], Counter[str]]:
        simulator = Simulator(KNOBS, seed=1, clock=clock)
        return await run_job(job, simulator, clock, state=tmp_path / "state"), asked(simulator)

    told, seen = run(night())

    assert told["exit_code"] == 0
    assert sum(seen.values()) == len(seen) == 40
    assert pq.read_metadata(tmp_path / "out" / "dataset.parquet").num_rows == 60


@pytest.mark.parametrize(
    ("packed", "words"),
    [(False, "about 41 images in 41 rows"), (True, "more than 10 images in 10 rows")],
)
def test_the_first_line_of_a_long_csv(tmp_path: Path, long: None, packed: bool, words: str) -> None:
    """Its size tells about how many lines it has; of a compressed one only those that were read are known."""
    job, clock = job_of(tmp_path, 1), VirtualClock()
    plain = json.loads(job.read_text())
    text = ("url\n" + "".join(f"https://images.example/{n:02}.jpg\n" for n in range(40))).encode()
    (tmp_path / "long.csv").write_bytes(gzip.compress(text) if packed else text)
    plain["manifest"]["path"] = str(tmp_path / "long.csv")
    job.write_text(json.dumps(plain))

    async def night() -> dict[str, Any]:
        simulator = Simulator(KNOBS, seed=1, clock=clock)
        return await run_job(job, simulator, clock, state=tmp_path / "state")

    summary = run(night())

    (log,) = (tmp_path / "out/_state/logs").iterdir()
    assert words in log.read_text()
    assert (summary["images"], summary["captioned"]) == (40, 40)


def test_images_that_failed_are_asked_again_when_told(tmp_path: Path, long: None) -> None:
    """Permanent failures only when told, and then all of them; nothing else is asked."""
    job, clock = job_of(tmp_path, 1), VirtualClock()
    doubled(job, 80, 40)

    async def nights() -> tuple[list[dict[str, Any]], list[Counter[str]]]:
        knobs = replace(KNOBS, refused=0.2)
        simulator = Simulator(knobs, seed=3, clock=clock)
        told, seen = [], []
        for options in (RunOptions(), RunOptions(), RunOptions(retry_failed=True)):
            before = asked(simulator)
            told.append(
                await run_job(job, simulator, clock, state=tmp_path / "state", options=options)
            )
            seen.append(asked(simulator) - before)
            await a_day(clock)
        return told, seen

    told, seen = run(nights())
    failed = told[0]["failed"]
    assert failed > 0
    assert (told[0]["exit_code"], told[0]["left"]) == (1, 0)
    assert (told[1]["requests"], told[1]["failed"], told[1]["exit_code"]) == (0, failed, 1)
    assert told[2]["failed"] == failed
    assert sum(seen[2].values()) == len(seen[2]) == failed


def test_a_limit_and_a_pilot_over_a_long_manifest(tmp_path: Path, long: None) -> None:
    """`--limit` settles so many; what it settled is known to the next run."""
    job, clock = job_of(tmp_path, 60), VirtualClock()

    async def twice() -> list[dict[str, Any]]:
        simulator = Simulator(KNOBS, seed=1, clock=clock)
        some = await run_job(
            job, simulator, clock, state=tmp_path / "state", options=RunOptions(limit=7)
        )
        rest = await run_job(job, simulator, clock, state=tmp_path / "state")
        assert set(asked(simulator).values()) == {1}
        return [some, rest]

    some, rest = run(twice())
    assert (some["captioned"], some["left"]) == (7, 53)
    assert rest["captioned"] == 50
