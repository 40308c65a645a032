"""The driver of `run.engine: ray` where no Ray is there: what it does before it starts one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.captioning.options import RunOptions
from pipeline.commands import ray_engine
from pipeline.commands.ray_engine import Driver
from pipeline.commands.signals import StopSignals
from pipeline.config.job import load_job
from pipeline.distributed.plan import plan_shards
from pipeline.errors import ServiceError
from pipeline.store.shards import shard_name
from tests.distributed.test_shards import PICTURES, dataset, manifest
from tests.support.command import RequestResult, pipeline, simulator, write_job
from tests.support.pictures import picture

SHARDS = 2
#: No cluster is there either.
ON_RAY = ("--set", "run.engine=ray", "--set", "run.ray.address=127.0.0.1:9")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}


def shards_of(job: Path, env: dict[str, str]) -> list[int]:
    """All shards, run one after the other; their exit codes."""
    shards = [f"{number}/{SHARDS}" for number in range(SHARDS)]
    return [pipeline("run", job, "--shard", shard, env=env).code for shard in shards]


def shown(result: RequestResult) -> list[str]:
    """What a run says, without the time that it took and its id."""
    return [line for line in result.err.splitlines() if "of 20" not in line]


def test_what_is_done_starts_no_ray(tmp_path: Path, env: dict[str, str]) -> None:
    """Code and lines are those of a run on one machine; something new, or to be asked again, does start it."""
    table = manifest(tmp_path)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, table, run={"shards": SHARDS})
        shards_of(job, env)
        pipeline("run", job, "--join", env=env)
        asked = len(server.asked())
        here, there = (pipeline("run", job, *more, env=env) for more in ((), ON_RAY))
        summary = pipeline("run", job, *ON_RAY, "--json", env=env).summary
        again = pipeline("run", job, *ON_RAY, "--retry-failed", env=env)
        (tmp_path / "images/0.png").write_bytes(picture(99, form="PNG"))
        changed = pipeline("run", job, *ON_RAY, env=env)
        same = len(server.asked()) == asked

    assert (here.code, there.code) == (1, 1), there.err
    assert shown(there) == shown(here)
    assert (summary["captioned"], summary["failed"], summary["left"]) == (PICTURES, 1, 0)
    assert same
    assert {again.code, changed.code} <= {69, 78}  # no cluster, or not even Ray
    assert "Ray" in again.err + changed.err or "ray" in again.err + changed.err


def test_shards_that_have_ended_are_joined_without_ray(tmp_path: Path, env: dict[str, str]) -> None:
    """A driver that died before the join: its markers say that nothing is left to ask."""
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, manifest(tmp_path), run={"shards": SHARDS})
        codes = shards_of(job, env)
        asked = len(server.asked())
        mark = json.loads((tmp_path / "out/shards/plan.json").read_text())["mark"]
        markers = tmp_path / "out/_state/shards"
        markers.mkdir()
        for number, code in enumerate(codes[:-1]):
            text = json.dumps({"mark": mark, "code": code})
            (markers / shard_name(number)).write_text(text)
        one_left = pipeline("run", job, *ON_RAY, env=env)
        last = json.dumps({"mark": mark, "code": codes[-1]})
        (markers / shard_name(SHARDS - 1)).write_text(last)
        result = pipeline("run", job, *ON_RAY, "--json", env=env)
        assert len(server.asked()) == asked

    assert one_left.code in (69, 78)
    assert result.code == 1, result.err
    assert (result.summary["captioned"], result.summary["failed"]) == (PICTURES, 1)
    assert len(dataset(tmp_path / "out")) == 100


def test_what_has_no_shards_is_refused_before_ray_starts(
    tmp_path: Path, env: dict[str, str]
) -> None:
    """78 and the reason, also where there is no cluster."""
    job = write_job(tmp_path, "http://127.0.0.1:9", manifest(tmp_path))
    result = pipeline("run", job, *ON_RAY, "--set", "endpoint.model=auto:free-vision", env=env)
    assert (result.code, "another model" in result.err) == (78, True), result.err


class Headless:
    """A cluster whose head is gone: its tasks go on for a while, and nobody answers."""

    places = 1

    def submit(self, *_: Any) -> str:
        return "task"

    def head_answers(self) -> bool:
        return False

    def ended(self, _refs: Any, _seconds: float) -> list[str]:
        return []


def test_a_driver_without_a_head_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """69 with a line, before Ray ends it with 1, which would say that images have failed."""
    monkeypatch.setattr(ray_engine, "HEAD", 0.0)
    monkeypatch.setattr(ray_engine, "HEAD_GONE", 0.0)
    job = load_job(write_job(tmp_path, "http://127.0.0.1:9/v1", manifest(tmp_path)))
    cluster: Any = Headless()
    plan = plan_shards(job, SHARDS)
    driver = Driver(cluster, job, RunOptions(), plan, range(SHARDS), StopSignals())
    with pytest.raises(ServiceError, match="run again to go on"):
        driver.run(cluster)
