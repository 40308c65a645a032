"""`model: auto:free-vision`: chosen once, kept, and changed only with consent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.captioning.options import RunOptions
from pipeline.errors import JobError, KeyTrouble, OutputError, PipelineError, ServiceError
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import PROFILES
from pipeline.simulator.models import Model
from tests.main.test_nights import FREE, chats, job_of
from tests.support.command import ROOT, pipeline, simulator
from tests.support.environment import run_job
from tests.support.gateways import gateway
from tests.support.virtual import VirtualClock, run

LARGE = Model(id="a/large:free", context=500_000)
SMALL = Model(id="b/small:free", context=100_000)
#: The clock of the tests starts on 2026-11-23.
LISTED = (
    SMALL,
    LARGE,
    Model(id="c/blind:free", context=900_000, inputs=("text",)),
    Model(id="d/priced", context=900_000, prompt=1e-7),
    Model(id="e/ending:free", context=900_000, expires="2026-12-20"),
    Model(id="openrouter/free", context=900_000),
)


def auto_job(folder: Path, rows: int = 6, **sections: Any) -> Path:
    endpoint = {
        "base_url": "https://sim.example/api/v1",
        "key_host": "sim.example",
        "model": "auto:free-vision",
    }
    return job_of(folder, rows, endpoint={**endpoint, **sections.pop("endpoint", {})}, **sections)


class Nights:
    """Runs of one job, each at a service that lists other models."""

    def __init__(self, folder: Path, rows: int = 6) -> None:
        self.folder, self.job, self.clock = folder, auto_job(folder, rows), VirtualClock()

    async def run(self, *models: Model, **options: Any) -> tuple[dict[str, Any], list[Any]]:
        service = Simulator(replace(FREE, models=models), seed=1, clock=self.clock)
        told = await run_job(
            self.job,
            service,
            self.clock,
            state=self.folder / "state",
            options=RunOptions(**options),
        )
        return told, list(service.log)

    @property
    def pin(self) -> Path:
        return self.folder / "out/_state/model.json"


def models_asked(log: list[Any]) -> set[str]:
    return {one.model for one in log if one.path == "/chat/completions"}


def test_the_largest_free_model_that_sees_and_lasts(tmp_path: Path) -> None:
    """Not one that is blind, priced, a router or about to end; it is written down, private."""
    nights = Nights(tmp_path)
    told, log = run(nights.run(*LISTED))

    assert (told["exit_code"], told["captioned"]) == (0, 6)
    assert models_asked(log) == {LARGE.id}
    assert json.loads(nights.pin.read_text())["model"] == LARGE.id
    assert nights.pin.stat().st_mode & 0o077 == 0


def test_a_better_model_does_not_take_its_place(tmp_path: Path) -> None:
    """The second run keeps to the pinned model, asks nothing again, and is the same job."""
    nights = Nights(tmp_path)
    better = Model(id="z/larger:free", context=5_000_000)

    async def two() -> Any:
        first, _ = await nights.run(*LISTED, limit=2)
        second, log = await nights.run(*LISTED, better)
        third, silent = await nights.run(*LISTED, better, yes=True)
        return first, second, log, third, silent

    first, second, log, third, silent = run(two())
    assert (first["captioned"], second["captioned"], second["requests"]) == (2, 6, 4)
    assert models_asked(log) == {LARGE.id}
    assert (third["captioned"], third["requests"]) == (6, 0)
    assert not models_asked(silent)


def test_a_run_with_nothing_to_ask_opens_no_connection(tmp_path: Path) -> None:
    """The pin alone is enough to know what is settled."""
    nights = Nights(tmp_path)

    async def two() -> Any:
        await nights.run(*LISTED)
        return await nights.run(*LISTED)

    told, log = run(two())
    assert (told["exit_code"], told["requests"], log) == (0, 0, [])


def test_the_pinned_model_is_gone(tmp_path: Path) -> None:
    """69, its name, the remedy; nothing is asked. With --yes another is chosen and kept."""
    nights = Nights(tmp_path)

    async def go() -> Any:
        await nights.run(*LISTED, limit=2)
        stopped, silent = await nights.run(SMALL)
        again, log = await nights.run(SMALL, yes=True)
        return stopped, silent, again, log

    stopped, silent, again, log = run(go())
    assert stopped["exit_code"] == 69
    assert LARGE.id in stopped["reason"]
    assert "--yes" in stopped["reason"]
    assert SMALL.id in stopped["reason"]
    assert not models_asked(silent)
    assert (again["exit_code"], again["captioned"]) == (0, 6)
    assert models_asked(log) == {SMALL.id}
    assert json.loads(nights.pin.read_text())["model"] == SMALL.id


@pytest.mark.parametrize(
    ("now", "code", "words"),
    [
        (replace(LARGE, prompt=1e-7), 77, "costs money"),
        (replace(LARGE, inputs=("text",)), 69, "does not take images"),
    ],
    ids=["priced", "blind"],
)
def test_the_pinned_model_is_no_longer_fit(
    tmp_path: Path, now: Model, code: int, words: str
) -> None:
    """A price, or no eyes: stopped with the same remedy, which works."""
    nights = Nights(tmp_path)

    async def go() -> Any:
        await nights.run(*LISTED, limit=2)
        return await nights.run(now, SMALL), await nights.run(now, SMALL, yes=True)

    (stopped, silent), (again, log) = run(go())
    assert stopped["exit_code"] == code
    assert words in stopped["reason"]
    assert "--yes" in stopped["reason"]
    assert not models_asked(silent)
    assert (again["exit_code"], models_asked(log)) == (0, {SMALL.id})


def ended(nights: Nights, *models: Model) -> PipelineError:
    with pytest.raises(PipelineError) as stopped:
        run(nights.run(*models))
    return stopped.value


def test_there_is_none_to_choose(tmp_path: Path) -> None:
    """69 with the remedy, nothing written down."""
    nights = Nights(tmp_path)
    error = ended(nights, *LISTED[2:])

    assert isinstance(error, ServiceError)
    assert "endpoint.model" in str(error)
    assert not nights.pin.exists()


@pytest.mark.parametrize("arguments", [["run"], ["run", "--json"], ["plan"]])
def test_there_is_none_to_choose_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """The gateway's one model does not say that it sees: one line, and with --json the summary."""
    with gateway(lambda *_: None) as service:
        endpoint = {"profile": "openai", "base_url": service.base, "api_key_env": None}
        ended = pipeline(arguments[0], auto_job(tmp_path, endpoint=endpoint), *arguments[1:])
    assert ended.code == 69
    assert len(ended.err.splitlines()) == 1
    assert "the service lists no free model that takes images" in ended.err
    if "--json" in arguments:
        assert ended.summary["exit_code"] == 69
        assert ended.summary["reason"] in ended.err
    else:
        assert not ended.out
    assert not service.asked


def test_the_only_model_of_an_own_server(tmp_path: Path) -> None:
    """`init --profile vllm --images FOLDER` writes a job that runs: the server lists one model."""
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    job = tmp_path / "vllm.yaml"
    with simulator(tmp_path, profile="vllm") as server:
        written = pipeline("init", job, "--profile", "vllm", "--images", tmp_path)
        address = f"endpoint.base_url={server.base}"
        ended = pipeline("run", job, "--set", address, f"--set=output.path={tmp_path / 'out'}")

    assert (written.code, ended.code) == (0, 0)
    assert "1 of 1 images captioned" in ended.err


def test_several_models_of_an_own_server(tmp_path: Path) -> None:
    """No guess: 69, and they are named."""
    clock, job = VirtualClock(), auto_job(tmp_path, endpoint={"profile": "vllm"})

    async def go() -> Any:
        service = Simulator(replace(PROFILES["vllm"], models=LISTED[:2]), seed=1, clock=clock)
        return await run_job(job, service, clock, state=tmp_path / "state")

    with pytest.raises(ServiceError, match="lists 2 models") as stopped:
        run(go())

    assert LARGE.id in str(stopped.value)
    assert SMALL.id in str(stopped.value)


def test_a_key_that_is_refused_while_choosing(tmp_path: Path) -> None:
    """/models needs no key at OpenRouter: the key is still looked at before the first image."""
    nights = Nights(tmp_path)

    async def go() -> Any:
        knobs = replace(FREE, models=LISTED, keys=("sk-or-v1-other",))
        service = Simulator(knobs, seed=1, clock=nights.clock)
        told = await run_job(nights.job, service, nights.clock, state=tmp_path / "state")
        return told, chats(service)

    told, asked = run(go())
    assert (told["exit_code"], asked) == (KeyTrouble.exit_code, [])


@pytest.mark.parametrize("held", ["", "{", "[]", '{"model": 3}', '{"model": ""}', "\x00\xff"])
def test_a_pin_that_cannot_be_read(tmp_path: Path, held: str) -> None:
    """Nothing is chosen in its place unasked: every caption there hangs on it."""
    nights = Nights(tmp_path)

    async def first() -> None:
        await nights.run(*LISTED, limit=2)

    run(first())
    nights.pin.write_text(held)
    error = ended(nights, *LISTED)

    assert isinstance(error, OutputError)
    assert "model.json" in str(error)
    assert "endpoint.model" in str(error)


def test_a_model_named_in_the_job_beats_the_pin(tmp_path: Path) -> None:
    """Another model is another job: 78 until it is agreed to."""
    nights = Nights(tmp_path)

    async def first() -> None:
        await nights.run(*LISTED)

    run(first())
    nights.job = auto_job(tmp_path, endpoint={"model": SMALL.id})

    assert isinstance(ended(nights, *LISTED), JobError)


def test_the_example_from_the_command_line(tmp_path: Path) -> None:
    """configs/openrouter.yaml at a real socket: check and plan say what would be chosen, run
    chooses, status, check and plan know it, export finds every caption."""
    env = {"OPENROUTER_API_KEY": "sk-or-v1-test", "CAPTION_PIPELINE_STATE": str(tmp_path / "s")}
    job = str(ROOT / "configs/openrouter.yaml")
    with simulator(tmp_path, profile="openrouter-2026-free") as server:
        sets = ["--set", f"endpoint.base_url={server.base}", "--set", f"output.path={tmp_path}/out"]
        before = pipeline("check", job, *sets, env=env)
        assert "auto:free-vision would choose it" in before.out
        assert pipeline("plan", job, "--json", *sets, env=env).summary["captioned"] == 0
        assert not (tmp_path / "out").exists()
        done = pipeline("run", job, "--json", *sets, env=env)
        after = pipeline("check", job, *sets, env=env)
        plan = pipeline("plan", job, "--json", *sets, env=env).summary
        listed = pipeline("models", job, *sets, env=env)
    status = pipeline("status", job, "--json", *sets, env=env).summary
    table = tmp_path / "all.jsonl"
    pipeline("export", job, table, *sets, env=env)

    model = "google/gemma-4-31b-it:free"
    assert (done.code, done.summary["captioned"]) == (0, 17), done.err
    assert f"{model} at openrouter; chosen for auto:free-vision and kept" in after.out
    assert (plan["captioned"], plan["to_ask"], plan["model"]) == (17, 0, model)
    assert status["model"] == model
    assert {one["model"] for one in server.asked()} == {model}
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert len(rows) == 17
    assert all(row["caption"] for row in rows)
    assert model in listed.out
