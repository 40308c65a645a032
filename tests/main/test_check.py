"""`check` and `models`: each trouble is one line with its remedy, before anything is asked."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.inputs import Environment
from pipeline.commands.check import check_command
from pipeline.commands.models import models_command
from pipeline.commands.plan import plan_command
from pipeline.config.job import load_job
from pipeline.errors import Exit, ServiceError
from pipeline.schema import RECORDS
from pipeline.simulator.core import Simulator
from pipeline.simulator.models import Model
from pipeline.store.lock import locked
from tests.main.test_nights import FREE, MODEL, job_of
from tests.simulator.made import CHAT, asked
from tests.support.pictures import picture
from tests.support.transport import FakeTransport, simulated
from tests.support.virtual import VirtualClock, VirtualLoop

KEY = {"OPENROUTER_API_KEY": "sk-or-v1-test"}


class StandingClock(VirtualClock):
    """Each command has a loop of its own, on which time would begin anew."""

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def _virtual_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """`asyncio.run` inside the commands waits on virtual time."""

    def virtual(main: Any) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)

    monkeypatch.setattr(asyncio, "run", virtual)


def told(
    command: Any, job: Path, environ: dict[str, str] | None = None, **knobs: Any
) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a command, asked of the simulated service."""
    held = {
        "CAPTION_PIPELINE_STATE": str(job.parent / "s"),
        **(KEY if environ is None else environ),
    }
    skew, before = knobs.pop("ahead", 0.0), knobs.pop("asked_before", 0)
    clock = StandingClock()
    service = Simulator(replace(FREE, **knobs), seed=1, clock=clock)
    for _ in range(before):
        headers = {"Authorization": f"Bearer {KEY['OPENROUTER_API_KEY']}"}
        body = json.dumps(asked(model=MODEL)).encode()
        got = asyncio.run(service.handle("POST", CHAT, headers, body))
        assert got.status == 200
    service.log.clear()
    ours = StandingClock(clock.start + skew)
    environment = Environment(
        clock=ours,
        rng=random.Random(1),
        environ=held,
        stream=None,
        transport=FakeTransport(simulated(service)),
    )
    out = io.StringIO()
    with redirect_stdout(out):
        code = command(load_job(job, (), held), held, environment, as_json=True)
    assert not [one for one in service.log if one.path == "/chat/completions"]
    return code, json.loads(out.getvalue())


def checked(job: Path, *args: Any, **knobs: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    code, found = told(check_command, job, *args, **knobs)
    lines = {line["what"]: line for line in found["lines"]}
    assert found["ok"] == (code == 0) == all(line["ok"] for line in lines.values())
    return code, lines


def test_all_is_well(tmp_path: Path) -> None:
    """Every line ok, with what was found; nothing is written and nothing asked."""
    job = job_of(tmp_path, 30)
    before = sorted(tmp_path.iterdir())
    code, lines = checked(job)

    assert code == 0, lines
    assert list(lines) == [
        *("job file", "key", "model", "quota", "clock"),
        *("manifest", "images", "output", "disk", "state folder"),
    ]
    assert lines["model"]["words"].startswith(f"{MODEL} at openrouter; free; context 262,144")
    assert "50 left today" in lines["quota"]["words"]
    assert "30 rows, images in column 'url'" in lines["manifest"]["words"]
    assert sorted(tmp_path.iterdir()) == before


TROUBLE: dict[str, tuple[dict[str, Any], dict[str, Any], str, Exit, str]] = {
    # name: (job sections, knobs, line, exit code, words of the remedy)
    "model gone": (
        {"endpoint": {"model": "google/gemini-flash-1.5-8b-exp"}},
        {},
        "model",
        Exit.SERVICE,
        "set endpoint.model to one that takes images, such as google/gemma-4-31b-it:free (free)",
    ),
    "no eyes": (
        {"endpoint": {"model": "meta/llama-text:free"}},
        {},
        "model",
        Exit.SERVICE,
        "does not take images",
    ),
    "a price": (
        {"endpoint": {"model": "google/gemini-2.5-flash"}},
        {},
        "model",
        Exit.KEY,
        "allow_paid: true",
    ),
    "key refused": ({}, {"keys": ("another",)}, "model", Exit.KEY, "OPENROUTER_API_KEY"),
    "a dead fallback": (
        {"endpoint": {"fallback_models": ["no/such"]}},
        {},
        "model",
        Exit.SERVICE,
        "take it out",
    ),
    "none to choose": (
        {"endpoint": {"model": "auto:free-vision"}},
        {"models": (Model(id="a/paid", prompt=1e-7),)},
        "model",
        Exit.SERVICE,
        "endpoint.model",
    ),
    "service down": (
        {},
        {"outage": (0.0, 1e6), "outage_all": True},
        "model",
        Exit.SERVICE,
        "run again later",
    ),
    "no manifest": (
        {"manifest": {"path": "/nowhere/urls.parquet"}},
        {},
        "manifest",
        Exit.MANIFEST,
        "urls.parquet",
    ),
    "unknown column": (
        {"prompt": {"text": "About {titel}"}},
        {},
        "manifest",
        Exit.JOB,
        "titel",
    ),
    "output below a file": (
        {"output": {"path": "/dev/null/out"}},
        {},
        "output",
        Exit.OUTPUT,
        "cannot be written",
    ),
    "disk full": ({"run": {"min_free": "900TB"}}, {}, "disk", Exit.OUTPUT, "make room"),
    "clock ahead": ({}, {"ahead": 600.0}, "clock", Exit.SERVICE, "600 s ahead of the service's"),
    "clock behind": ({}, {"ahead": -600.0}, "clock", Exit.SERVICE, "600 s behind the service's"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_each_trouble_has_its_line(tmp_path: Path, name: str) -> None:
    """One line fails, with the remedy; the exit code is the one that the run would have."""
    sections, knobs, line, code, words = TROUBLE[name]
    endpoint = {
        "profile": "openrouter",
        "base_url": "https://sim.example/api/v1",
        "key_host": "sim.example",
        "model": MODEL,
    }
    job = job_of(
        tmp_path, 5, **{**sections, "endpoint": {**endpoint, **sections.get("endpoint", {})}}
    )
    found, lines = checked(job, **knobs)

    assert (found, [what for what, one in lines.items() if not one["ok"]]) == (code, [line])
    assert words in lines[line]["words"]
    assert "\n" not in lines[line]["words"]


def test_pictures_that_cannot_be_opened(tmp_path: Path) -> None:
    """Some: named, and well. All, by one code: 65, with the setting that helps."""
    job = job_of(tmp_path, 2, images={"packages": []})
    names = ["package://skimage/data/coffee.png", "package://skimage/data/rocket.jpg"]
    pq.write_table(pa.table({"url": names}), tmp_path / "urls.parquet")
    code, lines = checked(job)
    assert (code, lines["images"]["ok"]) == (65, False)
    assert (
        "2 of the first 2 cannot be opened (blocked_address: package://skimage"
        in lines["images"]["words"]
    )
    assert "images.packages" in lines["images"]["words"]

    (tmp_path / "good.jpg").write_bytes(picture(1))
    pq.write_table(pa.table({"url": [*names, "good.jpg"]}), tmp_path / "urls.parquet")
    code, lines = checked(job)
    assert (code, lines["images"]["ok"]) == (0, True)
    assert "2 of the first 3 cannot be opened" in lines["images"]["words"]
    assert "images.packages" in lines["images"]["words"]

    pq.write_table(pa.table({"url": ["gone.jpg", *names]}), tmp_path / "urls.parquet")
    code, lines = checked(job)
    assert code == 65
    assert "cannot be opened (blocked_address: package" in lines["images"]["words"]
    assert "images.packages" in lines["images"]["words"], "the commonest code's remedy"


def test_a_plan_tells_the_price_that_nobody_agreed_to(tmp_path: Path) -> None:
    """It asks nothing, so it answers, and says that a run would stop."""
    endpoint = {"base_url": "https://sim.example/api/v1", "key_host": "sim.example"}
    priced = {**endpoint, "model": "google/gemini-2.5-flash"}
    code, figures = told(plan_command, job_of(tmp_path, 5, endpoint=priced))

    assert code == 0
    assert figures["cost_usd"] > 0
    assert any("a run would stop" in text and "allow_paid" in text for text in figures["warnings"])


def test_a_plan_says_that_all_images_are_new(tmp_path: Path) -> None:
    """Captions are there, and none of this recipe: the run would stop with 78."""
    job = job_of(tmp_path, 2)
    record = {"key": "0" * 32, "recipe": "f" * 16, "image": "url:a", "status": "ok", "model": "m"}
    (tmp_path / "out/captions").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist([record], schema=RECORDS), tmp_path / "out/captions/part-1.parquet"
    )
    code, figures = told(plan_command, job)

    assert (code, figures["to_ask"]) == (0, 2)
    assert any("the model changed: it was m" in text for text in figures["warnings"])


def test_a_key_that_is_not_set(tmp_path: Path) -> None:
    """77, and the other lines are looked at all the same."""
    code, lines = checked(job_of(tmp_path, 5), {})

    assert code == Exit.KEY
    assert "export OPENROUTER_API_KEY=" in lines["key"]["words"]
    assert lines["manifest"]["ok"]
    assert lines["output"]["ok"]


def test_a_day_that_is_spent(tmp_path: Path) -> None:
    """75 with the instant from which on it makes sense to run, by the service's own count."""
    code, lines = checked(job_of(tmp_path, 5), rpd=3, asked_before=3)

    assert code == Exit.LATER, lines
    assert "3 a day (told by /key); 0 left today, new at 2026-11-24" in lines["quota"]["words"]


def test_a_run_that_is_going_on(tmp_path: Path) -> None:
    """76: a second one would be refused."""
    job = job_of(tmp_path, 5)
    (tmp_path / "out/_state").mkdir(parents=True)
    with locked(tmp_path / "out/_state/lock", now=0.0):
        code, lines = checked(job)

    assert code == Exit.HELD
    assert str(os.getpid()) in lines["output"]["words"]


def test_of_several_troubles_the_worst_is_told(tmp_path: Path) -> None:
    """The output before the key, the key before the manifest; each has its line."""
    nowhere = {"path": "/nowhere/urls.parquet"}
    code, lines = checked(job_of(tmp_path, 5, manifest=nowhere, output={"path": "/dev/null/o"}), {})
    assert code == Exit.OUTPUT
    assert [what for what, one in lines.items() if not one["ok"]] == ["key", "manifest", "output"]

    code, _ = checked(job_of(tmp_path, 5, manifest=nowhere), {})
    assert code == Exit.KEY


def test_models_that_take_images_cheapest_first(tmp_path: Path) -> None:
    """Free ones by context, then by price; text models are left out; a price that varies is null."""
    varies = Model(id="x/varies", prompt=-1.0)
    code, found = told(models_command, job_of(tmp_path, 5), models=(varies, *FREE.models))

    assert code == 0
    assert [one["id"] for one in found["models"]] == [
        "google/gemma-4-31b-it:free",
        "nvidia/nemotron-nano-12b-v2-vl:free",
        "google/gemma-4-31b-it",
        "google/gemini-2.5-flash",
        "x/varies",
    ]
    first, last = found["models"][0], found["models"][-1]
    assert (first["free"], first["context"], first["expires"]) == (True, 262_144, None)
    assert (last["free"], last["prices"]["prompt"]) == (False, None)


def test_models_of_a_service_that_is_down(tmp_path: Path) -> None:
    """69 with the address."""
    with pytest.raises(ServiceError, match=r"https://sim\.example/api/v1"):
        told(models_command, job_of(tmp_path, 5), outage=(0.0, 1e6), outage_all=True)
