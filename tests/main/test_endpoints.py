"""Quotas that add up: one job over several services, each with its own idea of a day."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping
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
from tests.support.environment import killed
from tests.support.transport import Answer, Exchange, FakeTransport, simulated
from tests.support.virtual import VirtualClock, run

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
        await killed(task, self.folder)

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


#: A tenth of those days.
SMALL: Mapping[str, Knobs] = {
    "openrouter": replace(SERVICES["openrouter"], rpd=5),
    "google": replace(SERVICES["google"], endpoint_rpd=20),
    "cerebras": replace(SERVICES["cerebras"], endpoint_rpd=100),
    "groq": replace(SERVICES["groq"], endpoint_rpd=40),
}


@pytest.mark.parametrize(
    ("rows", "kills", "knobs"),
    [
        (300, 3, SMALL),
        pytest.param(3_000, 0, SERVICES, marks=pytest.mark.weekly),
        pytest.param(3_000, 20, SERVICES, marks=pytest.mark.weekly),
    ],
)
def test_the_sum_of_four_days_is_used_and_no_window_is_exceeded(
    tmp_path: Path, rows: int, kills: int, knobs: Mapping[str, Knobs]
) -> None:
    """Images over days of 50, 200 and 1,000 and a bucket of 400, and a `kill -9` at random instants of
    the first day: its sum is used but for 2 %, nothing is refused after the first hour, no image is
    captioned twice; the rest comes on the next days, by the same run."""
    job = job_of(tmp_path, rows, quota={"when_spent": "wait"})
    world, chance = World.of(tmp_path, **knobs), random.Random(kills)
    began = world.clock.start

    async def go() -> dict[str, Any]:
        for kill in range(kills):
            await world.killed(job, chance.uniform(60, 0.8 * DAY / kills), seed=kill)
        return await world.run(job, seed=99)

    summary = run(go())

    assert (summary["exit_code"], summary["captioned"]) == (0, rows)
    first = {
        name: sum(one.at < began + DAY and one.status == 200 for one in world.chats(name))
        for name in world.services
    }
    # Google's day is Pacific, so two of them begin on one UTC day; Groq's bucket is full at first and
    # fills once more.
    most_of = {
        "openrouter": knobs["openrouter"].rpd or 0,
        "google": 2 * (knobs["google"].endpoint_rpd or 0),
        "cerebras": knobs["cerebras"].endpoint_rpd or 0,
        "groq": 2 * (knobs["groq"].endpoint_rpd or 0),
    }
    assert all(first[name] <= most for name, most in most_of.items()), first
    assert sum(first.values()) >= 0.98 * min(rows, sum(most_of.values())), first
    # What a day or a minute holds that nobody tells beforehand is learnt from a refusal.
    assert world.statuses()[429] <= 4
    assert set(world.statuses()) <= {200, 429}
    late = [
        one
        for name in world.services
        for one in world.chats(name)
        if one.status != 200 and one.at > began + 3600
    ]
    assert not late
    # Asked again are only images whose answers a kill had cut off: 32 are under way at most.
    assert 0 <= world.statuses()[200] - rows <= 32 * kills
    check_whole(tmp_path / "out")
    kept = records(tmp_path)
    assert len({row["key"] for row in kept}) == len(kept) == rows
    assert {row["model"] for row in kept} == {"gemma-4-31b"}
    assert {row["provider"].split("/")[0] for row in kept} == set(NAMES)


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


@pytest.mark.parametrize("size", [1, 4])
def test_typed_fields_come_from_every_endpoint(tmp_path: Path, size: int) -> None:
    """Google takes a JSON schema, which makes the model give fields here, and Groq is sent none: each cell
    has its type or is null, those of Google's answers have it, and each image is asked once more at most."""
    names = ("google", "groq")
    knobs = {
        name: replace(SERVICES[name], max_images=8, lying=0.1, lies=("types",)) for name in names
    }
    job = job_of(
        tmp_path,
        60,
        endpoints=[{"profile": name, "model": NAMES[name]} for name in names],
        packing={"images_per_request": size},
        reply={"fields": {"people": {"type": "int", "description": "people seen"}}},
    )
    world = World.of(tmp_path, **knobs)

    summary = run(world.run(job))

    assert (summary["exit_code"], summary["captioned"]) == (0, 60)
    kept = records(tmp_path)
    assert {row["provider"].split("/")[0] for row in kept} == set(names)
    values: dict[str, list[Any]] = {name: [] for name in names}
    for row in kept:
        values[row["provider"].split("/")[0]].append(json.loads(row["fields"])["people"])
    assert all(value is None or type(value) is int for each in values.values() for value in each)
    assert sum(value is None for value in values["google"]) <= 0.2 * len(values["google"])
    check_whole(tmp_path / "out")


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


@pytest.mark.parametrize(
    ("rows", "after"), [(300, 200.0), pytest.param(3_000, DAY / 2, marks=pytest.mark.weekly)]
)
def test_a_dead_endpoint_takes_only_itself_out(tmp_path: Path, rows: int, after: float) -> None:
    """At one instant one service is out for good, one key is turned off, one limit changes: the others
    go on until all is captioned."""
    job = job_of(tmp_path, rows, quota={"when_spent": "wait"})
    dead = replace(SERVICES["cerebras"], outage=(after, 1e9))
    world = World.of(tmp_path, cerebras=dead)

    async def go() -> dict[str, Any]:
        task = asyncio.ensure_future(world.run(job))
        await world.clock.sleep(after)
        world.services["groq"].turn(endpoint_rpd=300)
        world.services["google"].turn(keys=("another",))
        return await task

    summary = run(go())

    assert (summary["exit_code"], summary["captioned"]) == (0, rows)
    check_whole(tmp_path / "out")
    seen = {
        name: {one.at > world.clock.start + after for one in world.chats(name)} for name in NAMES
    }
    assert all(False in seen[name] for name in ("cerebras", "google"))
    assert all(one.status == 200 for one in world.chats("openrouter"))
    # Of the bucket that became smaller: what was under way, and what its headers had not told yet.
    assert sum(one.status == 429 for one in world.chats("groq")) <= 8


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
        ({"quota": {"max_cost_usd": 1.0}, "endpoints": [{"profile": "groq", "model": "x"}, {"profile": "google", "model": "x", "quota": {"max_cost_usd": 2.0}}]}, "each one's quota"),
    ],
)  # fmt: skip
def test_what_may_not_stand_in_one_list(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """78 and one line."""
    job = job_of(tmp_path, 1, **{"endpoints": [], **change})

    with pytest.raises(JobError, match=words):
        load_job(job, (), KEYS)


def test_one_cap_of_money_holds_for_all_endpoints_and_runs(tmp_path: Path) -> None:
    """`quota.max_cost_usd` of the job: 75 before all of them together have spent more."""
    entry = {"profile": "openrouter", "model": "google/gemini-2.5-flash", "allow_paid": True}
    cap = 0.006
    job = job_of(
        tmp_path, 100, endpoints=[entry, entry], quota={"max_cost_usd": cap, "concurrency": 2}
    )
    world = World.of(
        tmp_path, openrouter=replace(PROFILES["openrouter-paid"], fetches_urls=True, **_QUICK)
    )

    async def go() -> list[dict[str, Any]]:
        return [await world.run(job, seed) for seed in range(2)]

    first, second = run(go())

    assert first["exit_code"] == second["exit_code"] == 75
    assert cap / 2 < first["cost_usd"] <= first["cost_usd"] + second["cost_usd"] <= cap
    assert 0 < first["captioned"] < 100
    assert "max_cost_usd" in first["reason"]
    assert {row["provider"].split("/")[0] for row in records(tmp_path)} == {
        "openrouter",
        "openrouter-2",
    }


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
