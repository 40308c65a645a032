"""Typed reply fields in whole runs: no ill-typed cell, few requests more, identity, exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.options import RunOptions
from pipeline.commands.pilot import lines
from pipeline.commands.plan_second import SecondPlan, second_plan
from pipeline.config.job import load_job
from pipeline.errors import JobError
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from tests.main.test_nights import MODEL, UNLIMITED, chats, job_of
from tests.support.checker import check_whole
from tests.support.environment import run_job
from tests.support.virtual import VirtualClock, run

FIELDS: dict[str, Any] = {
    "tags": {"type": "list", "description": "what is seen", "max_items": 5},
    "has_text": {"type": "bool"},
    "people": {"type": "int"},
    "sharpness": {"type": "float"},
    "place": {"type": "enum", "values": ["indoors", "outdoors"]},
}


def typed_run(folder: Path, rows: int, *, fields: Any = None, **more: Any) -> tuple[Any, list[Any]]:
    """A run with typed fields; its summary, and the chats that the simulator saw."""
    knobs, size = more.pop("knobs", {}), more.pop("size", 8)
    clock = VirtualClock()
    job = job_of(
        folder,
        rows,
        endpoint=UNLIMITED,
        packing={"images_per_request": size},
        reply={"fields": FIELDS if fields is None else fields},
    )

    async def go() -> tuple[Any, list[Any]]:
        service = Knobs(models=(Model(id=MODEL),), latency=(0.5, 2.0), **knobs)
        simulator = Simulator(service, seed=1, clock=clock)
        return await run_job(job, simulator, clock, state=folder / "state", **more), chats(
            simulator
        )

    return run(go())


def test_a_service_that_breaks_types_leaves_no_ill_typed_cell(tmp_path: Path) -> None:
    """1,000 images with five fields in packs of 8, types broken in 10 % of the answers: every cell
    has its type or is null with a flag, every caption is kept, and the images are asked again in
    packs of their own: at most 1.25 requests a pack."""
    summary, asked = typed_run(tmp_path, 1_000, knobs={"lying": 0.1, "lies": ("types",)})
    table = pq.read_table(tmp_path / "out/dataset.parquet")
    kinds = {name: table.schema.field(name).type for name in FIELDS}
    flags = [flag for row in table["flags"].to_pylist() for flag in row]
    nulls = sum(table[name].null_count for name in FIELDS)

    print(f"{len(asked)} requests for 125 packs, {nulls} nulls of {5 * len(table)} cells")
    assert kinds == {
        "tags": pa.list_(pa.string()),
        "has_text": pa.bool_(),
        "people": pa.int64(),
        "sharpness": pa.float64(),
        "place": pa.string(),
    }
    assert (summary["captioned"], summary["exit_code"]) == (1_000, 0)
    assert table["caption"].null_count == 0
    assert 125 < len(asked) <= 1.25 * 125
    assert set(table["place"].to_pylist()) <= {"indoors", "outdoors", None}
    assert nulls == sum(flag.startswith("ill_typed:") for flag in flags) < 0.03 * 5_000
    assert "ask_again" not in flags
    assert flags.count("asked_again") >= 40
    check_whole(tmp_path / "out")


@pytest.mark.parametrize("size", [1, 4])
def test_fields_that_stay_broken_are_asked_once_and_null(tmp_path: Path, size: int) -> None:
    """A model without schema support gives captions alone: one more question, then null and told."""
    summary, asked = _deaf(tmp_path, size)
    rows = pq.read_table(tmp_path / "out/dataset.parquet").to_pylist()

    assert summary["captioned"] == 8
    assert len(asked) == 16 // size
    for row in rows:
        assert row["caption"]
        assert {row[name] for name in ("has_text", "people", "tags")} == {None}
        assert {"ill_typed:tags", "ill_typed:has_text", "asked_again"} <= set(row["flags"])


def _deaf(folder: Path, size: int) -> tuple[Any, list[Any]]:
    clock = VirtualClock()
    packing = {"images_per_request": size}
    job = job_of(folder, 8, endpoint=UNLIMITED, packing=packing, reply={"fields": FIELDS})

    async def go() -> tuple[Any, list[Any]]:
        model = Model(id=MODEL, supported=("max_tokens",))
        simulator = Simulator(Knobs(models=(model,)), seed=1, clock=clock)
        return await run_job(job, simulator, clock, state=folder / "state"), chats(simulator)

    return run(go())


def test_adding_a_field_says_so_and_asks_nothing(tmp_path: Path) -> None:
    """The recipe holds the fields: another one is another question (78, with what changed)."""
    typed_run(tmp_path, 8)
    with pytest.raises(
        JobError, match=r"reply\.fields changed: it was has_text, .* now colour, "
    ) as no:
        typed_run(tmp_path, 8, fields={**FIELDS, "colour": {"type": "string"}})
    assert no.value.exit_code == 78


def test_what_a_spent_day_leaves_over_is_asked_the_next_day(tmp_path: Path) -> None:
    """The captions are safe and marked; the next run asks for their fields alone, and nothing else."""
    clock = VirtualClock()
    lies = Knobs(models=(Model(id=MODEL),), lying=1.0, lies=("types",))

    def job(daily: int) -> Path:
        return job_of(
            tmp_path,
            32,
            endpoint=UNLIMITED,
            packing={"images_per_request": 8},
            quota={"requests_per_day": daily},
            reply={"fields": FIELDS},
        )

    async def go() -> tuple[list[Any], list[Any]]:
        first = Simulator(lies, seed=1, clock=clock)
        await run_job(job(4), first, clock, state=tmp_path / "state")
        marked = pq.read_table(tmp_path / "out/dataset.parquet")["flags"].to_pylist()
        assert sum("ask_again" in flags for flags in marked) == 32
        await clock.sleep(86_400)
        second = Simulator(replace(lies, lying=0.0), seed=1, clock=clock)
        await run_job(job(100), second, clock, state=tmp_path / "state")
        third = Simulator(replace(lies, lying=0.0), seed=1, clock=clock)
        await run_job(job(100), third, clock, state=tmp_path / "state")
        assert chats(third) == []
        return chats(first), chats(second)

    first, second = run(go())
    table = pq.read_table(tmp_path / "out/dataset.parquet")

    assert [len(asked) for asked in (first, second)] == [4, 4]
    assert all(len(asked.images) == 8 and '"caption"' not in asked.prompt for asked in second)
    assert sum(table[name].null_count for name in FIELDS) == table["caption"].null_count == 0
    assert all(flags == ["asked_again"] for flags in table["flags"].to_pylist())
    check_whole(tmp_path / "out")


def test_plan_counts_second_questions_and_the_pilot_shows_flags(tmp_path: Path) -> None:
    """The share that was asked twice is reckoned with for the rest; unknown before that."""
    job = job_of(tmp_path, 200, endpoint=UNLIMITED, reply={"fields": FIELDS})
    before = second_plan(load_job(job), 200)
    lies = {"lying": 0.5, "lies": ("types",)}
    summary, _ = typed_run(tmp_path, 200, knobs=lies, options=RunOptions(pilot=100))
    after = second_plan(load_job(job), 100)
    shares = summary["pilot"]["flags"]

    assert before == SecondPlan(share=None, images=None)
    assert 0.1 < after.share == shares["asked_again"][0] < 0.9
    assert after.images == after.packed == round(100 * after.share)
    assert shares["asked_again"][1] < after.share < shares["asked_again"][2]
    assert any("asked_again: " in line for line in lines(summary["pilot"]))
