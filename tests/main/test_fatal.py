"""What ends a run in the middle: nothing is asked after it, no image fails for it, and the next
run goes on."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.captioning.inputs import Environment
from pipeline.captioning.options import RunOptions
from pipeline.commands.run import run as run_story
from pipeline.config.job import load_job
from pipeline.errors import Exit
from pipeline.simulator.core import Simulator
from tests.main.test_nights import FREE, UNLIMITED, job_of
from tests.support.checker import check_whole
from tests.support.transport import Answer, Exchange, FakeTransport, Service, simulated
from tests.support.virtual import VirtualClock, run

ROWS, AFTER = 60, 11


@dataclass
class Watched:
    """A service, and when each chat completion left for it."""

    service: Service
    clock: VirtualClock
    left: list[float] = field(default_factory=list)
    #: When the first answer with an error was there.
    fatal: float | None = None

    async def answer(self, sent: Exchange) -> Answer:
        if sent.is_chat:
            self.left.append(self.clock.monotonic())
        status, headers, body = await self.service(sent)
        costs = sent.is_chat and json.loads(body).get("usage", {}).get("cost")  # where nothing may
        if sent.is_chat and self.fatal is None and (status >= 400 or costs):
            self.fatal = self.clock.monotonic()
        return status, headers, body


def ran(folder: Path, concurrency: int, **knobs: Any) -> tuple[dict[str, Any], Watched]:
    """One run over `ROWS` images; without limits and faults but those in `knobs`."""
    endpoint = {
        **UNLIMITED,
        "profile": "openrouter",
        "key_host": "sim.example",
        **knobs.pop("endpoint", {}),
    }
    quota = {"concurrency": concurrency, "requests_per_minute": None, "requests_per_day": None}
    job = job_of(folder, ROWS, endpoint=endpoint, quota=quota)
    clock = VirtualClock()
    environ = {"OPENROUTER_API_KEY": "sk-or-v1-test", "CAPTION_PIPELINE_STATE": str(folder / "s")}

    async def go() -> tuple[dict[str, Any], Watched]:
        service = replace(FREE, rpm=None, rpd=None, free_tier=False, **knobs)
        watched = Watched(simulated(Simulator(service, seed=1, clock=clock)), clock)
        environment = Environment(
            clock=clock,
            rng=random.Random(1),
            environ=environ,
            stream=None,
            transport=FakeTransport(watched.answer),
        )
        return await run_story(load_job(job, (), environ), RunOptions(), environment), watched

    return run(go())


CASES: dict[str, tuple[dict[str, Any], Exit, str]] = {
    "model gone, 400": ({"gone_after": AFTER, "gone_as": "400"}, Exit.SERVICE, "model"),
    "model gone, 404": ({"gone_after": AFTER, "gone_as": "404"}, Exit.SERVICE, "model"),
    "no longer free": ({"gone_after": AFTER, "gone_as": "paid"}, Exit.SERVICE, "paid version"),
    "key revoked": ({"revoked_after": AFTER}, Exit.KEY, "key"),
    "credit spent": ({"broke_after": AFTER}, Exit.KEY, "credits"),
    "rerouted to a paid model": ({"rerouted_after": AFTER}, Exit.KEY, "charged"),
}


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_asked_after_it(tmp_path: Path, name: str, concurrency: int) -> None:
    """Its exit code and words; what was in flight comes home; no image fails; the rest is left."""
    knobs, code, words = CASES[name]
    told, watched = ran(tmp_path, concurrency, **knobs)

    assert (told["exit_code"], told["failed"]) == (code, 0), told
    assert words in told["reason"]
    assert watched.fatal is not None
    assert all(left <= watched.fatal for left in watched.left)
    assert AFTER <= len(watched.left) <= AFTER + concurrency
    assert told["requests"] == len(watched.left)
    assert told["left"] == ROWS - told["captioned"] >= ROWS - AFTER - concurrency
    check_whole(tmp_path / "out")

    again, after = ran(tmp_path, concurrency)
    assert (again["exit_code"], again["captioned"]) == (0, ROWS)
    assert len(after.left) == ROWS - told["captioned"]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_service_that_refuses_everything_is_not_asked_for_everything(
    tmp_path: Path, concurrency: int
) -> None:
    """A parameter that it does not take, in words that say so: 69 at once, and the manifest is kept.
    Once the job is put right, every image is asked."""
    wrong = {"params": {"temperature": 9, "max_tokens": 100}}
    told, watched = ran(tmp_path, concurrency, endpoint=wrong)

    assert (told["exit_code"], told["captioned"]) == (Exit.SERVICE, 0)
    assert "temperature" in told["reason"]
    assert 1 <= len(watched.left) <= concurrency
    assert (told["failed"], told["left"]) == (0, ROWS)

    again, _ = ran(tmp_path, concurrency)
    assert (again["exit_code"], again["captioned"]) == (0, ROWS)
