"""A long manifest, on a virtual clock: it begins at once, and a hint saves the counting.

What counts as long is set to 10 rows here; all paths are those of ten million.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.sim.core import Simulator
from pipeline.stories import remaining
from pipeline.stories.hint import Hint, Holds, read_hint, write_hint
from pipeline.stories.options import RunOptions
from tests.main.test_nights import FREE, chats, job_of
from tests.support.checker import check_whole
from tests.support.virtual import VirtualClock, run
from tests.support.world import run_job

KNOBS = replace(FREE, rpd=50, rpm=100)


class Counted:
    """How often the rows were counted, and how."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ways: list[str] = []
        patch.setattr(remaining, "FEW", 10)
        for name in ("survey", "survey_in_sql"):
            patch.setattr(remaining, name, self._noted(name, getattr(remaining, name)))

    def _noted(self, name: str, act: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.ways.append(name)
            return act(*args, **kwargs)

        return noted


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def doubled(job: Path, rows: int, images: int) -> None:
    """The job's manifest with every image several times, far from each other."""
    urls = [f"https://images.example/{n % images}.jpg" for n in range(rows)]
    path = Path(json.loads(job.read_text())["manifest"]["path"])
    pq.write_table(pa.table({"url": urls}), path)


def asked(simulator: Simulator) -> Counter[str]:
    return Counter(image["url"] for one in chats(simulator) for image in one.images)


async def a_day(clock: VirtualClock) -> None:
    await clock.sleep(86_400 - clock.now() % 86_400 + 5)


def test_nights_over_a_long_manifest_are_never_counted(tmp_path: Path, counted: Counted) -> None:
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
    assert counted.ways == []
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


def test_a_long_csv_over_an_empty_output_is_not_surveyed(tmp_path: Path, counted: Counted) -> None:
    """CSV does not tell how many rows it has: they are counted, and no key is looked up."""
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
    assert counted.ways == []
    assert sum(seen.values()) == len(seen) == 40
    assert pq.read_metadata(tmp_path / "out" / "dataset.parquet").num_rows == 60


@pytest.mark.parametrize("change", ["manifest", "part", "prompt", "hint"])
def test_what_a_hint_is_about_has_changed(tmp_path: Path, counted: Counted, change: str) -> None:
    """The rows are counted anew, and again each image is asked once."""
    job, clock = job_of(tmp_path, 130), VirtualClock()
    out = tmp_path / "out"

    async def nights() -> tuple[dict[str, Any], Counter[str]]:
        simulator = Simulator(KNOBS, seed=1, clock=clock)
        await run_job(job, simulator, clock, state=tmp_path / "state")
        assert counted.ways == []
        options = RunOptions()
        if change == "manifest":
            doubled(job, 140, 130)
        elif change == "prompt":
            told = json.loads(job.read_text())
            told["prompt"] = {"text": "What is this?"}
            job.write_text(json.dumps(told))
            options = RunOptions(yes=True)
        elif change == "hint":
            held = bytearray((out / "_state/hint").read_bytes())
            held[-3] ^= 4
            (out / "_state/hint").write_bytes(held)
        else:
            # As after a run that was killed: the hint is of an evening before.
            hint = (out / "_state/hint").read_bytes()
            await a_day(clock)
            await run_job(job, simulator, clock, state=tmp_path / "state")
            (out / "_state/hint").write_bytes(hint)
        await a_day(clock)
        told = await run_job(job, simulator, clock, state=tmp_path / "state", options=options)
        return told, asked(simulator)

    told, seen = run(nights())
    assert counted.ways == ["survey_in_sql"]
    assert told["left"] == {"manifest": 30, "part": 0, "prompt": 80, "hint": 30}[change]
    assert told["images"] == 130
    assert max(seen.values()) == (2 if change == "prompt" else 1)


def test_images_that_failed_are_asked_again_by_a_hint_as_by_a_count(
    tmp_path: Path, counted: Counted
) -> None:
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
    assert counted.ways == []
    assert (told[0]["exit_code"], told[0]["left"]) == (1, 0)
    assert (told[1]["requests"], told[1]["failed"], told[1]["exit_code"]) == (0, failed, 1)
    assert told[2]["failed"] == failed
    assert sum(seen[2].values()) == len(seen[2]) == failed


def test_a_limit_and_a_pilot_over_a_long_manifest(tmp_path: Path, counted: Counted) -> None:
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
    assert counted.ways == []


def test_a_hint_is_whole_or_none(tmp_path: Path) -> None:
    """Every byte of it counts: cut or changed anywhere it is not believed."""
    holds = Holds(manifest="m", naming="n", parts="p")
    hint = Hint(
        rows=20,
        images=19,
        captioned=3,
        failed={"safety": 1},
        open=bytearray(b"\xf0\xff\x07"),
        lost=bytearray(b"\x08\0\0"),
    )
    write_hint(tmp_path, holds, hint)
    whole = (tmp_path / "hint").read_bytes()

    assert read_hint(tmp_path, holds) == hint
    assert read_hint(tmp_path, Holds(manifest="m", naming="n", parts="q")) is None
    for at in range(len(whole)):
        (tmp_path / "hint").write_bytes(whole[:at])
        assert read_hint(tmp_path, holds) is None
        (tmp_path / "hint").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert read_hint(tmp_path, holds) is None


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 64])
def test_of_an_empty_output_all_rows_are_open(rows: int) -> None:
    """A bit for each row and none beyond."""
    hint = Hint.of_empty(rows)

    assert int.from_bytes(hint.open, "little") == (1 << rows) - 1
    assert len(hint.open) == len(hint.lost) == (rows + 7) // 8
