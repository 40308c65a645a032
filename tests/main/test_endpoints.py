"""Quotas that add up: one job over several services, each with its own idea of a day."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning import progress
from pipeline.captioning.endpoint_pool import EndpointPool, Lane
from pipeline.captioning.inputs import Environment
from pipeline.captioning.options import RunOptions
from pipeline.captioning.request_result import RequestResult
from pipeline.commands.run import run as run_command
from pipeline.config.job import load_job
from pipeline.errors import JobError
from pipeline.model import Item, Request
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import PROFILES, Knobs
from pipeline.simulator.models import Model
from tests.support.checker import check_whole
from tests.support.transport import Answer, Exchange, FakeTransport, simulated
from tests.support.virtual import VirtualClock, VirtualLoop, run

DAY = 86_400.0
#: One model under the names that four services have for it.
NAMES = {
    "openrouter": "google/gemma-4-31b-it:free",
    "google": "gemma-4-31b-it",
    "cerebras": "gemma-4-31b",
    "groq": "google/gemma-4-31b-it",
}
#: What second questions go to.
OTHER = "other-1"
_QUICK: dict[str, Any] = {"latency": (0.5, 2.0), "max_images": None, "upstream_quiet": None}
#: Days of 50 (UTC), 200 (Pacific) and 1,000 (UTC, told in headers), and a bucket of 400.
SERVICES: Mapping[str, Knobs] = {
    "openrouter": replace(PROFILES["openrouter-2026-free"], rpd=50, **_QUICK),
    "google": replace(
        PROFILES["google"],
        models=(Model(id=NAMES["google"]),),
        endpoint_rpm=15,
        endpoint_rpd=200,
        fetches_urls=True,
        **_QUICK,
    ),
    "cerebras": replace(
        PROFILES["cerebras"], endpoint_rpm=10, endpoint_rpd=1000, fetches_urls=True, **_QUICK
    ),
    "groq": replace(
        PROFILES["groq"],
        models=(Model(id=NAMES["groq"]),),
        endpoint_rpd=400,
        endpoint_tpm=100_000,
        **_QUICK,
    ),
}
KEYS = {
    "OPENROUTER_API_KEY": "sk-or-v1-test",
    "GEMINI_API_KEY": "test-gemini",
    "CEREBRAS_API_KEY": "test-cerebras",
    "GROQ_API_KEY": "test-groq",
}


def job_of(folder: Path, rows: int, **sections: Any) -> Path:
    """A job over made-up URLs, and the four endpoints of this page."""
    urls = [f"https://images.example/{n}.jpg" for n in range(rows)]
    pq.write_table(pa.table({"url": urls}), folder / "urls.parquet")
    job = {
        "name": "pool",
        "manifest": {"path": str(folder / "urls.parquet")},
        "images": {"send": "url"},
        "endpoints": [{"profile": name, "model": model} for name, model in NAMES.items()],
        "output": {"path": str(folder / "out")},
        **sections,
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder / "job.yaml"


@dataclass(slots=True)
class World:
    """Four services on one clock, and the user's machine."""

    folder: Path
    clock: VirtualClock
    knobs: Mapping[str, Knobs]
    services: dict[str, Simulator]

    @classmethod
    def of(cls, folder: Path, **knobs: Knobs) -> World:
        return cls(folder, VirtualClock(), {**SERVICES, **knobs}, {})

    def environment(self, seed: int = 0) -> Environment:
        hosts = {
            "openrouter.ai": "openrouter",
            "generativelanguage.googleapis.com": "google",
            "api.cerebras.ai": "cerebras",
            "api.groq.com": "groq",
        }
        for name, knobs in self.knobs.items():
            self.services.setdefault(name, Simulator(knobs, seed=1, clock=self.clock))
        answers = {name: simulated(service) for name, service in self.services.items()}

        async def service(sent: Exchange) -> Answer:
            return await answers[hosts[urlsplit(sent.url).hostname or ""]](sent)

        return Environment(
            clock=self.clock,
            rng=random.Random(f"{seed} {self.clock.now()}"),
            environ={**KEYS, "CAPTION_PIPELINE_STATE": str(self.folder / "state")},
            stream=None,
            transport=FakeTransport(service),
        )

    async def run(self, job: Path, seed: int = 0) -> dict[str, Any]:
        environment = self.environment(seed)
        loaded = load_job(job, (), environment.environ)
        return dict(await run_command(loaded, RunOptions(), environment))

    async def killed(self, job: Path, after: float, seed: int) -> None:
        """A run that ends as by `kill -9`: the files stand as they stood at that instant."""
        task = asyncio.ensure_future(self.run(job, seed))
        await self.clock.sleep(after)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        while loop.pending_jobs:  # noqa: ASYNC110 - the loop counts them, no event tells
            await asyncio.sleep(0)
        for name in ("out", "state"):
            shutil.copytree(self.folder / name, self.folder / f"{name}.then")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        for name in ("out", "state"):
            shutil.rmtree(self.folder / name)
            (self.folder / f"{name}.then").rename(self.folder / name)
        # It names this process, which lives on: that of the run would be gone.
        (self.folder / "out/_state/lock").write_text("")

    def chats(self, name: str) -> list[Any]:
        return [one for one in self.services[name].log if one.path == "/chat/completions"]

    def statuses(self) -> Counter[int]:
        return Counter(one.status for name in self.services for one in self.chats(name))


@pytest.fixture(autouse=True)
def seldom_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day has 43,200 times two seconds; nobody looks."""
    monkeypatch.setattr(progress, "LIVE_EVERY", 3600.0)


def records(folder: Path) -> list[dict[str, Any]]:
    paths = sorted((folder / "out/captions").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


@pytest.mark.weekly
def test_the_sum_of_four_days_is_used_and_no_window_is_exceeded(tmp_path: Path) -> None:
    """3,000 images over days of 50, 200 and 1,000 and a bucket of 400: the first day's sum but for
    2 %, no refusal, no image twice; the rest on the next days, by the same run."""
    job = job_of(tmp_path, 3_000, quota={"when_spent": "wait"})
    world = World.of(tmp_path)
    began = world.clock.start

    summary = run(world.run(job))

    assert (summary["exit_code"], summary["captioned"]) == (0, 3_000)
    first = {
        name: sum(one.at < began + DAY and one.status == 200 for one in world.chats(name))
        for name in world.services
    }
    # Counted are captions: what a day holds is learnt at Google and Cerebras from one refusal each.
    # Google's day of 200 is Pacific, so two of them begin on one UTC day; Groq's bucket of 400 is full
    # at first and fills once more.
    held = {"openrouter": 50, "google": 2 * 200, "cerebras": 1000, "groq": 2 * 400}
    assert all(first[name] <= most for name, most in held.items()), first
    assert sum(first.values()) >= 0.98 * sum(held.values()), first
    assert world.statuses()[429] <= 2
    assert set(world.statuses()) <= {200, 429}
    late = [
        one
        for name in world.services
        for one in world.chats(name)
        if one.status != 200 and one.at > began + 3600
    ]
    assert not late
    assert sum(world.statuses().values()) - world.statuses()[429] == 3_000
    check_whole(tmp_path / "out")
    rows = records(tmp_path)
    assert {row["model"] for row in rows} == {"gemma-4-31b"}
    assert {row["provider"].split("/")[0] for row in rows} == set(NAMES)


def test_all_days_spent_ends_with_75_and_every_instant(tmp_path: Path) -> None:
    """Each endpoint's resume time in words, the earliest to resume after; nothing is asked twice."""
    job = job_of(tmp_path, 400)
    entries = [{"profile": n, "model": NAMES[n], "quota": {"requests_per_day": 20}}
               for n in ("openrouter", "google")]  # fmt: skip
    whole = json.loads(job.read_text())
    job.write_text(json.dumps({**whole, "endpoints": entries}))
    world = World.of(tmp_path)

    summary = run(world.run(job))

    assert (summary["exit_code"], summary["captioned"], summary["left"]) == (75, 40, 360)
    assert "openrouter: " in summary["reason"]
    assert "google: " in summary["reason"]
    pacific = world.clock.start + 8 * 3600
    assert summary["resume_after"].startswith("2026-11-23T08:00"), pacific


def asked_twice(folder: Path, rows: int) -> tuple[Path, dict[str, Knobs]]:
    """A job whose captions are all asked a second time, of another model; and its two services, with
    20 requests a day and model."""
    names = ("google", "groq")
    knobs = {
        name: replace(
            SERVICES[name],
            models=(Model(id=NAMES[name]), Model(id=OTHER)),
            endpoint_rpd=20,
            max_images=8,
        )
        for name in names
    }
    job = job_of(
        folder,
        rows,
        endpoints=[{"profile": name, "model": NAMES[name]} for name in names],
        packing={"images_per_request": 4},
        checks={"too_short": {"action": "retry", "min_words": 500}, "retry": {"model": OTHER}},
    )
    return job, knobs


@pytest.mark.parametrize(("rows", "left"), [(36, 0), (60, 20)])
def test_second_questions_count_in_the_quota_of_their_model_at_each_endpoint(
    tmp_path: Path, rows: int, left: int
) -> None:
    """20 requests a day and model at two services: packs leave the second model's days whole, and what
    one has no quota for goes to the other; beyond both days questions wait for the next run."""
    job, knobs = asked_twice(tmp_path, rows)
    world = World.of(tmp_path, **knobs)

    summary = run(world.run(job))

    assert (summary["exit_code"], summary["captioned"]) == (0, rows)
    answered = {
        name: Counter(one.model for one in world.chats(name) if one.status == 200) for name in knobs
    }
    assert sum(each[OTHER] for each in answered.values()) == rows - left
    assert all(0 < each[OTHER] <= 20 for each in answered.values()), answered
    assert summary["refused"] <= 2  # Google tells a day by refusing: once for each model
    assert all((name in (summary["reason"] or "")) == bool(left) for name in knobs)
    waiting = [row for row in records(tmp_path) if "ask_again:caption" in row["flags"]]
    assert len(waiting) == left


def lane_with(leaves: dict[str, Any], settle: Any) -> Lane:
    """An endpoint whose gates, by a request's form, always give this leave."""

    def gate_with(leave: Any) -> Any:
        async def try_permit(ask: Any) -> Any:
            return leave

        return SimpleNamespace(
            reason=None, at_once=False, closes_at=lambda: DAY, try_permit=try_permit
        )

    gates = {form: gate_with(leave) for form, leave in leaves.items()}
    captioner: Any = SimpleNamespace(
        checkpoint=SimpleNamespace(full=lambda: None, crowded=False),
        gate_of=lambda request: gates[request.form],
        cost_of=lambda request: 0.0,
        settle=settle,
    )
    return Lane(name="one", captioner=captioner, gate=gates["plain"])


def test_a_second_question_that_waits_for_its_day_holds_no_first_one_back() -> None:
    """Its model's day is spent everywhere, and the run waits for the next; the job's model has quota."""

    async def settle(request: Request, permit: Any, attempt: int) -> RequestResult:
        return RequestResult(request=request)

    async def go() -> bool:
        pool = EndpointPool()
        pool.open([lane_with({"plain": object(), "second": DAY}, settle)])
        waiting = asyncio.ensure_future(pool.settle(Request(items=(), form="second")))
        await asyncio.sleep(1)
        async with asyncio.timeout(60):
            await pool.settle(Request(items=(), form="plain"))
        waits = not waiting.done()
        waiting.cancel()
        return waits

    assert run(go())


def test_attempts_of_a_request_are_counted_over_all_endpoints() -> None:
    """A full service spends no attempt of an image, so that only this number ends the asking."""
    item, seen = Item.__new__(Item), list[int]()

    async def settle(request: Request, permit: Any, attempt: int) -> RequestResult:
        seen.append(attempt)
        return RequestResult(request=request, undone=(item,) if attempt < 3 else ())

    async def go() -> None:
        pool = EndpointPool()
        pool.open([lane_with({"plain": object()}, settle)])
        await pool.settle(Request(items=(item,), form="plain"))

    run(go())
    assert seen == [0, 1, 2, 3]


def test_a_dead_endpoint_takes_only_itself_out(tmp_path: Path) -> None:
    """One service is out for good, one key is turned off, one limit changes: work goes on."""
    job = job_of(tmp_path, 300, quota={"when_spent": "wait"})
    dead = replace(SERVICES["cerebras"], outage=(60.0, 1e9))
    revoked = replace(SERVICES["google"], revoked_after=30)
    world = World.of(tmp_path, cerebras=dead, google=revoked)

    async def go() -> dict[str, Any]:
        task = asyncio.ensure_future(world.run(job))
        await world.clock.sleep(200)
        world.services["groq"].turn(endpoint_rpd=300)
        return await task

    summary = run(go())

    assert (summary["exit_code"], summary["captioned"]) == (0, 300)
    check_whole(tmp_path / "out")


@pytest.mark.parametrize(("seed", "kills"), [(1, 2), pytest.param(2, 20, marks=pytest.mark.weekly)])
def test_kill_9_loses_and_repeats_nothing(tmp_path: Path, seed: int, kills: int) -> None:
    """Kills at random instants: every image captioned once, and refused is only what tells a limit that
    nobody knows: Google's day once, and Cerebras' minute at the first start, before an answer."""
    rows = 80 * kills
    job = job_of(tmp_path, rows, quota={"when_spent": "wait"})
    world, chance = World.of(tmp_path), random.Random(seed)

    async def go() -> dict[str, Any]:
        for kill in range(kills):
            await world.killed(job, chance.uniform(5, 60), seed=kill)
        return await world.run(job, seed=99)

    summary = run(go())

    assert (summary["exit_code"], summary["captioned"]) == (0, rows)
    check_whole(tmp_path / "out")
    refused = {name: sum(one.status == 429 for one in world.chats(name)) for name in world.services}
    assert refused["openrouter"] == refused["groq"] == 0
    assert refused["google"] <= 1
    assert refused["cerebras"] <= 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"endpoints": [{"profile": "groq", "model": "a/x-1"}, {"profile": "google", "model": "y-2"}]}, "different models"),
        ({"endpoints": [{"profile": "groq", "model": "m"}, {"profile": "groq", "model": "m", "api_key_env": "GROQ_API_KEY_2"}]}, "several keys of groq"),
        ({"endpoints": [{"profile": "openrouter", "model": "auto:free-vision"}]}, "name each one"),
        ({"endpoints_may_differ": True, "endpoints": [{"profile": "groq", "model": "x"}, {"profile": "google", "model": "y"}]}, "endpoint.model"),
        ({"quota": {"max_cost_usd": 1.0}, "endpoints": [{"profile": "groq", "model": "x"}, {"profile": "google", "model": "x"}]}, "each one's quota"),
    ],
)  # fmt: skip
def test_what_may_not_stand_in_one_list(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """78 and one line."""
    job = job_of(tmp_path, 1, **{"endpoints": [], **change})

    with pytest.raises(JobError, match=words):
        load_job(job, (), KEYS)


def test_each_endpoint_has_what_the_job_says_and_its_own_over_it(tmp_path: Path) -> None:
    """Parameters and limits are shared; the job's model is the family, whatever the order."""
    job = job_of(
        tmp_path,
        1,
        endpoint={"params": {"max_tokens": 50}, "timeout": 60},
        quota={"concurrency": 3},
        endpoints=[
            {"profile": "google", "model": "gemma-4-31b-it", "timeout": 90},
            {"profile": "ollama-cloud", "model": "gemma4:31b", "quota": {"concurrency": 1}},
        ],
    )

    loaded = load_job(job, (), KEYS)

    assert loaded.endpoint.model == "gemma-4-31b"
    assert [each.params["max_tokens"] for each in loaded.endpoints] == [50, 50]
    assert [each.timeout for each in loaded.endpoints] == [90, 60]
    assert [each.quota.concurrency for each in loaded.endpoints] == [3, 1]
