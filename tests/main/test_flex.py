"""`endpoint.service_tier: flex`: half the price on ordinary calls, and never the full one unasked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.commands.plan import lines, plan_of
from pipeline.config.job import load_job
from pipeline.errors import JobError
from pipeline.service.endpoint import endpoint_of
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import PROFILES
from pipeline.simulator.models import Model
from tests.main.test_check import StandingClock
from tests.main.test_endpoints_told import virtual_loops  # noqa: F401 - a fixture
from tests.main.test_nights import UNLIMITED, chats, job_of
from tests.support.checker import check_whole
from tests.support.environment import run_job, world_of
from tests.support.virtual import VirtualClock, run

FLEX = Model(id="google/flex-1", prompt=2e-7, completion=8e-7, flex=True)
PLAIN = Model(id="google/plain-1", prompt=2e-7, completion=8e-7)
PAID = replace(
    PROFILES["openrouter-paid"], keys=("sk-or-v1-test",), models=(FLEX, PLAIN), latency=(0.5, 2.0)
)


def paid(folder: Path, rows: int, **endpoint: Any) -> Path:
    """A job at OpenRouter that may cost money."""
    place = {**UNLIMITED, "profile": "openrouter", "key_host": "sim.example", "allow_paid": True}
    place["base_url"] = "https://sim.example/api/v1"
    return job_of(folder, rows, endpoint={**place, "model": FLEX.id, **endpoint})


def asked(job: Path, folder: Path, **knobs: Any) -> tuple[dict[str, Any], Simulator]:
    """A run, and the service after it."""
    clock = VirtualClock()

    async def go() -> tuple[dict[str, Any], Simulator]:
        simulator = Simulator(replace(PAID, **knobs), seed=1, clock=clock)
        return await run_job(job, simulator, clock, state=folder / "state"), simulator

    return run(go())


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    paths = sorted((folder / "out" / name).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def test_half_the_price_and_the_tier_in_each_record(tmp_path: Path) -> None:
    """A tier that is full for a minute costs no image an attempt, and nothing is billed for it; records
    and account book tell tier and price, which is half of the usual one."""
    (tmp_path / "usual").mkdir()
    usual, _ = asked(paid(tmp_path / "usual", 20), tmp_path / "usual")
    job = paid(tmp_path, 20, service_tier="flex")

    told, _ = asked(job, tmp_path, flex_full=(0.0, 60.0))

    assert (told["exit_code"], told["captioned"], usual["captioned"]) == (0, 20, 20)
    assert told["cost_usd"] == pytest.approx(usual["cost_usd"] / 2)
    check_whole(tmp_path / "out")
    records, book = rows_of(tmp_path, "captions"), rows_of(tmp_path, "requests")
    assert {(tuple(row["flags"]), row["attempts"]) for row in records} == {(("tier:flex",), 1)}
    answered = [row for row in book if row["status"] == 200]
    assert {row["service_tier"] for row in answered} == {"flex"}
    assert sum(row["cost_usd"] for row in answered) == pytest.approx(told["cost_usd"])
    assert any(row["status"] == 429 for row in book)
    assert {row["service_tier"] for row in rows_of(tmp_path / "usual", "requests")} == {None}


def test_a_model_without_the_tier_is_not_asked(tmp_path: Path) -> None:
    """It would run at the full price without an error: 77 before the first request."""
    told, simulator = asked(paid(tmp_path, 20, service_tier="flex", model=PLAIN.id), tmp_path)

    assert (told["exit_code"], len(chats(simulator))) == (77, 0)
    assert "no flex tier" in told["reason"]


def test_an_answer_at_another_tier_stops_the_run(tmp_path: Path) -> None:
    """The service has the tier by its list, and serves the full price after three requests."""
    job = paid(tmp_path, 40, service_tier="flex")

    told, simulator = asked(job, tmp_path, rerouted_after=3, rerouted_to=PLAIN.id)

    assert told["exit_code"] == 77
    assert "at the tier default" in told["reason"]
    assert len(chats(simulator)) <= 3 + 8


@pytest.mark.usefixtures("virtual_loops")
def test_a_plan_shows_both_prices(tmp_path: Path) -> None:
    """At the tier, and without it."""
    clock = StandingClock()
    environment = world_of(Simulator(PAID, seed=1, clock=clock), clock, state=tmp_path / "state")
    job = load_job(paid(tmp_path, 20, service_tier="flex"), (), environment.environ)

    figures = plan_of(job, environment.environ, environment)

    assert figures["usual_cost_usd"] == pytest.approx(2 * figures["cost_usd"], abs=2e-6)
    assert any("at the tier flex" in line and "at the usual one" in line for line in lines(figures))


def test_it_takes_its_time_and_is_known_to_the_service(tmp_path: Path) -> None:
    """900 s unless more is written; 78 for less, and where no such tier is known."""
    environ = {"OPENROUTER_API_KEY": "sk-or-v1-test", "NVIDIA_API_KEY": "test"}

    def loaded(**endpoint: Any) -> Any:
        return load_job(paid(tmp_path, 1, service_tier="flex", **endpoint), (), environ).endpoint

    assert loaded().timeout == 900
    assert loaded(timeout=1800).timeout == 1800
    with pytest.raises(JobError, match="900 seconds"):
        loaded(timeout=60)
    with pytest.raises(JobError, match=r"nvidia.*flex"):
        endpoint_of(loaded(profile="nvidia"), environ)
