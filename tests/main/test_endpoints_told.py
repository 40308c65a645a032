"""What the commands tell of a job with several endpoints: each one's day, and the sum."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.captioning.progress_line import events
from pipeline.commands.check import check_command
from pipeline.commands.forecast import Pace, forecast
from pipeline.commands.logs import logging_to
from pipeline.commands.models import models_command
from pipeline.commands.nightly import NightlyOptions, nights_of, printed, read_jobs, warnings
from pipeline.commands.plan import lines, plan_of
from pipeline.commands.status import pace_words, status_of
from pipeline.config.job import load_job
from pipeline.errors import JobError, KeyTrouble
from pipeline.service.endpoint import Secret
from pipeline.simulator.models import Model
from tests.main.test_check import StandingClock
from tests.main.test_endpoints import KEYS, NAMES, SERVICES, World, job_of
from tests.support.virtual import VirtualLoop, run


@pytest.fixture
def virtual_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` inside the commands waits on virtual time."""

    def virtual(main: Any) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)

    monkeypatch.setattr(asyncio, "run", virtual)


def standing(folder: Path, **knobs: Any) -> World:
    """Services asked by commands that have a loop each."""
    return World(folder, StandingClock(), {**SERVICES, **knobs}, {})


def checked(world: World, job: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and lines of `check`."""
    environment, out = world.environment(), io.StringIO()
    loaded = load_job(job, (), environment.environ)
    with redirect_stdout(out):
        code = check_command(loaded, environment.environ, environment, as_json=True)
    return code, {line["what"]: line for line in json.loads(out.getvalue())["lines"]}


@pytest.mark.usefixtures("virtual_loops")
def test_a_plan_shows_each_day_and_the_sum(tmp_path: Path) -> None:
    """Captions a day by endpoint add up to the job's; nights are those of all together."""
    job = job_of(tmp_path, 300, packing={"images_per_request": 1})
    whole = json.loads(job.read_text())
    days = {"openrouter": 50, "google": 20, "cerebras": 30, "groq": 20}
    for entry in whole["endpoints"]:
        entry["quota"] = {"requests_per_day": days[entry["profile"]]}
    job.write_text(json.dumps(whole))
    environment = standing(tmp_path).environment()

    figures = plan_of(load_job(job, (), environment.environ), environment.environ, environment)

    endpoints = figures["endpoints"]
    assert {name: row["requests_per_day"] for name, row in endpoints.items()} == days
    assert {name: row["model"] for name, row in endpoints.items()} == NAMES
    for share, captions in figures["captions_per_day"].items():
        assert captions == pytest.approx(
            sum(row["captions_per_day"][share] for row in endpoints.values()), abs=len(endpoints)
        )
    assert figures["requests_per_day"] == figures["limits"]["requests_per_day"] == 120
    assert (figures["today"]["left"], figures["nights"]) == (120, 3)
    assert figures["model"] == "gemma-4-31b"
    text = "\n".join(lines(figures))
    assert all(f"  {name} ({model}): " in text for name, model in NAMES.items()), text


@pytest.mark.usefixtures("virtual_loops")
@pytest.mark.parametrize(
    ("model", "exit_code"),
    [
        (Model(id=NAMES["openrouter"], inputs=("text",)), 69),
        (Model(id=NAMES["openrouter"], prompt=0.001), 77),
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_left_out_of_the_plan_and_fails_the_check(
    tmp_path: Path, model: Model, exit_code: int
) -> None:
    """As the run leaves it out; `check` has a line for each, and the key of each."""
    job = job_of(tmp_path, 10)
    world = standing(tmp_path, openrouter=replace(SERVICES["openrouter"], models=(model,)))
    environment = world.environment()

    code, told = checked(world, job)
    figures = plan_of(load_job(job, (), environment.environ), environment.environ, environment)

    assert code == exit_code
    assert [what for what, line in told.items() if not line["ok"] and "of " in what] == [
        "model of openrouter"
    ]
    assert all(f"key of {name}" in told for name in NAMES)
    assert "quota of google" in told
    assert set(figures["endpoints"]) == set(NAMES) - {"openrouter"}
    assert any(text.startswith("openrouter is left out: ") for text in figures["warnings"])


@pytest.mark.usefixtures("virtual_loops")
def test_a_key_that_is_not_set_is_named_before_the_run(tmp_path: Path) -> None:
    """77 of the run; `check` names whose key it is."""
    world, job = standing(tmp_path), job_of(tmp_path, 10)
    environment = world.environment()
    environ = {k: v for k, v in environment.environ.items() if k != "GROQ_API_KEY"}
    environment = replace(environment, environ=environ)
    out = io.StringIO()
    with redirect_stdout(out):
        code = check_command(load_job(job, (), environ), environ, environment, as_json=True)
    lines_by_name = {line["what"]: line for line in json.loads(out.getvalue())["lines"]}

    assert code == 77
    assert "GROQ_API_KEY" in lines_by_name["key of groq"]["words"]
    assert lines_by_name["key of google"]["ok"]
    with pytest.raises(KeyTrouble, match="GROQ_API_KEY"):
        plan_of(load_job(job, (), environ), environ, environment)


@pytest.mark.usefixtures("virtual_loops")
def test_check_tells_each_window_and_how_it_is_known(tmp_path: Path) -> None:
    """Whose day begins when, and what refills all the time; numbers that answers told are known by the
    ledger after a run."""
    job = job_of(tmp_path, 60)

    def quotas() -> dict[str, str]:
        _, told = checked(standing(tmp_path), job)
        return {name: told[f"quota of {name}"]["words"] for name in NAMES}

    before = quotas()
    run(World.of(tmp_path).run(job))
    after = quotas()

    for told in (before, after):
        assert "a day begins at midnight UTC" in told["openrouter"]
        assert "a bucket that refills all the time" in told["groq"]
    assert before["cerebras"] == "a day begins at midnight UTC"
    assert "10 a minute (learnt from its answers)" in after["cerebras"]
    assert "(its profile)" in before["groq"]
    assert "400 a day (learnt from its answers)" in after["groq"]


def test_status_tells_each_day(tmp_path: Path) -> None:
    """After a run whose days are spent: what each endpoint used, and when it is new."""
    job = job_of(tmp_path, 60)
    whole = json.loads(job.read_text())
    whole["endpoints"] = [
        {"profile": name, "model": NAMES[name], "quota": {"requests_per_day": most}}
        for name, most in (("openrouter", 20), ("google", 10))
    ]
    job.write_text(json.dumps(whole))
    world = World.of(tmp_path)

    assert run(world.run(job))["exit_code"] == 75

    facts = status_of(load_job(job, (), KEYS))
    each = facts["quota"]["endpoints"]
    assert {name: (day["used"], day["left"]) for name, day in each.items()} == {
        "openrouter": (20, 0),
        "google": (10, 0),
    }
    assert (facts["quota"]["limit"], facts["quota"]["left"]) == (30, 0)
    lines = pace_words(facts)
    assert any(w.startswith("quota of openrouter: 20 of 20 requests used") for w in lines), lines
    assert any(w.startswith("quota of google: 10 of 10 ") and "08:00" in w for w in lines), lines


def test_a_timer_at_each_midnight(tmp_path: Path) -> None:
    """UTC and Pacific; every key that a timer would miss is named."""
    job = job_of(tmp_path, 10)
    loaded = load_job(job, (), KEYS)
    wanted = read_jobs([str(job)])
    world = standing(tmp_path)

    nights = nights_of(wanted, [loaded], NightlyOptions(), world.environment())

    units = "\n".join(printed(nights, by_cron=False))
    assert "OnCalendar=*-*-* 00:00:05 UTC" in units
    assert "OnCalendar=*-*-* 00:00:05 America/Los_Angeles" in units
    table = "\n".join(printed(nights, by_cron=True))
    tests = [f'[ "$(TZ={z} date +\\%H\\%M)" = 0000 ] || ' for z in ("UTC", "America/Los_Angeles")]
    assert tests[0] + tests[1] + "exit 0; " in table
    missing = warnings(loaded, nights[0], {})
    assert [line.split()[0] for line in missing] == list(KEYS)


def test_a_day_of_several_endpoints_is_shared_with_no_other_job(tmp_path: Path) -> None:
    """78: one number would be divided, where each endpoint has its own."""
    job = job_of(tmp_path, 10)
    other = tmp_path / "other.yaml"
    other.write_text(job.read_text().replace("endpoints", "x").replace("pool", "other"))
    single = json.loads(job.read_text())
    del single["endpoints"]
    single["endpoint"] = {"profile": "groq", "model": NAMES["groq"]}
    other.write_text(json.dumps(single))
    loaded = [load_job(path, (), KEYS) for path in (job, other)]

    with pytest.raises(JobError, match="several endpoints"):
        nights_of(
            read_jobs([str(job), str(other)]),
            loaded,
            NightlyOptions(),
            standing(tmp_path).environment(),
        )


def test_models_of_several_endpoints_are_not_searched_at_once(tmp_path: Path) -> None:
    """78, and nothing is written."""
    job = load_job(job_of(tmp_path, 10), (), KEYS)
    world = standing(tmp_path).environment()

    with pytest.raises(JobError, match="endpoints"):
        models_command(job, world.environ, world, as_json=True)
    assert not (tmp_path / "out").exists()


def test_no_key_of_any_endpoint_reaches_the_log(tmp_path: Path) -> None:
    keys = [Secret("test-google-key-1"), Secret("test-groq-key-22")]
    environment = standing(tmp_path).environment()
    with logging_to(tmp_path / "logs", "run", environment, keys):
        logging.getLogger("pipeline").info("sent %s and %s", *[key.reveal() for key in keys])

    assert "sent *** and ***" in (tmp_path / "logs/run.log").read_text()


def test_an_outage_is_told_of_its_endpoint() -> None:
    """The same words as for one, after the name."""
    before = {"endpoints": {"google": {"weather": "open"}, "groq": {"weather": "open"}}}
    after = {"endpoints": {"google": {"weather": "open"}, "groq": {"weather": "closed"}}}

    assert [line.partition(":")[0] for line in events(before, after)] == ["groq"]


def test_days_that_begin_at_different_instants_add_up() -> None:
    """100 requests over days of 20 (new in an hour) and 10 (new in ten): 30 now, then as each day
    brings them."""
    fast = {"binding": "requests_per_day", "speed": 86_400 * 10}
    paces = {
        "a": Pace(daily=20, rest=20, resets_at=3_600.0, **fast),  # type: ignore[arg-type] # one dict
        "b": Pace(daily=10, rest=10, resets_at=36_000.0, **fast),  # type: ignore[arg-type] # one dict
    }

    seen = forecast(100, paces, now=0.0)

    assert (seen.nights, seen.daily, seen.binding) == (4, 30, "endpoints")
    # 30 at once, 50 after an hour, 60 after ten, 80 and 90 a day later, 110 another day later.
    assert 2 * 86_400 + 3_600 <= seen.ends_at <= 2 * 86_400 + 3_610
    assert seen.shares["a"] == pytest.approx(0.7, abs=0.01)
    assert forecast(0, paces, now=5.0).ends_at == 5.0
