"""A service that answers badly: every image ends captioned or failed with the right code."""

from __future__ import annotations

import collections
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.errors import CODES
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from tests.main.test_nights import MODEL, UNLIMITED, chats, job_of
from tests.support.checker import check_whole
from tests.support.environment import run_job
from tests.support.virtual import VirtualClock, run

#: What may be left over after five attempts at a service where a fifth of all replies is bad.
LEFT_OVER = {"server_error", "malformed", "empty", "timeout_service"}

#: Answers of a service that is full: no image's attempts.
WAITS = {"upstream_429", "http_503", "http_529"}


def faulty(tmp_path: Path, rows: int, seed: int, **sections: Any) -> dict[str, Any]:
    """One run at 20 % faults, checked against the server's own log; the summary."""
    job = job_of(tmp_path, rows, endpoint=UNLIMITED, **sections)
    clock = VirtualClock()

    async def go() -> tuple[dict[str, Any], list[Any]]:
        knobs = Knobs(models=(Model(id=MODEL),), latency=(0.2, 0.8), faulty=0.2)
        simulator = Simulator(knobs, seed=seed, clock=clock)
        told = await run_job(job, simulator, clock, state=tmp_path / "state", seed=seed)
        return told, chats(simulator)

    told, asked = run(go())
    records = check_whole(tmp_path / "out")
    book = pq.read_table(tmp_path / "out/requests").to_pylist()
    truth = {image["url"]: image["caption"] for one in asked for image in one.images}
    assert len(records) == rows
    assert told["left"] == 0
    assert len(book) == len(asked) == told["requests"]
    for record in records.values():
        if record["status"] == "ok":
            assert record["caption"] == truth[record["image"]]
        else:
            assert record["error_code"] in LEFT_OVER <= CODES.keys()
            assert record["attempts"] == 5
    if "packing" not in sections:
        tries = collections.Counter(
            image["url"] for one in asked if one.fault not in WAITS for image in one.images
        )
        assert all(record["attempts"] == tries[record["image"]] for record in records.values())
        assert max(tries.values()) <= 5
    return told


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_fifth_of_all_replies_is_bad(tmp_path: Path, seed: int) -> None:
    """No more than five attempts an image, waits apart; the book has every request."""
    told = faulty(tmp_path, 250, seed)

    assert told["captioned"] >= 248


@pytest.mark.parametrize("seed", [1, 2])
def test_packs_of_eight_with_bad_replies(tmp_path: Path, seed: int) -> None:
    """The same with packs."""
    faulty(tmp_path, 400, seed, packing={"images_per_request": 8})


@pytest.mark.weekly
@pytest.mark.parametrize("seed", range(1, 21))
def test_ten_thousand_rows_with_bad_replies(tmp_path: Path, seed: int) -> None:
    """10,000 rows, twenty seeds."""
    faulty(tmp_path, 10_000, seed)


@pytest.mark.parametrize("size", [4, 32])
def test_packs_that_lie_put_no_caption_on_the_wrong_image(tmp_path: Path, size: int) -> None:
    """5 % of packed replies drop, repeat, renumber, cut or wrap: nothing wrong is kept."""
    rows = 64 * size
    job = job_of(tmp_path, rows, endpoint=UNLIMITED, packing={"images_per_request": size})
    clock = VirtualClock()
    lies = ("drop", "repeat", "zero_based", "cut", "prose", "one_object", "fences", "comma")

    async def go() -> tuple[dict[str, Any], list[Any]]:
        knobs = replace(Knobs(models=(Model(id=MODEL),)), lying=0.05, lies=lies)
        simulator = Simulator(knobs, seed=size, clock=clock)
        return await run_job(job, simulator, clock, state=tmp_path / "state"), chats(simulator)

    told, asked = run(go())
    truth = {image["url"]: image["caption"] for one in asked for image in one.images}
    records = check_whole(tmp_path / "out")
    assert any(one.fault for one in asked)
    assert told["captioned"] == rows == len(records)
    assert all(record["caption"] == truth[record["image"]] for record in records.values())
    assert told["requests"] <= 1.15 * rows / size + 2
