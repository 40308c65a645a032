"""`run.engine: ray` while workers, the quota actor and the driver are killed."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.distributed.test_shards import PICTURES, dataset, manifest
from tests.peers.ray_env import ray_env
from tests.support.command import pipeline, simulator, start, until, write_job

pytestmark = pytest.mark.weekly

RPM, CONCURRENCY = 60, 4


def process(driver: psutil.Process, name: str) -> psutil.Process | None:
    """A worker of Ray below the driver that runs this function or actor now."""
    for child in driver.children(recursive=True):
        try:
            if child.cmdline() and child.cmdline()[0].startswith(f"ray::{name}"):
                return child
        except psutil.Error:
            continue
    return None


def kill(driver: psutil.Process, name: str) -> None:
    """kill -9, as soon as there is one."""
    until(lambda: process(driver, name) is not None)
    found = process(driver, name)
    assert found is not None
    found.kill()


def test_deaths_cost_at_most_what_was_in_flight(tmp_path: Path) -> None:
    """A worker, the actor, and the driver stopped by Ctrl-C, then killed: each key once, no request
    refused by a service that keeps its limit strictly, asked again at most what was in flight."""
    table = manifest(tmp_path)
    run = {"shards": 2, "ray": {"worker_cpus": 0.5}, "engine": "ray"}
    quota = {"requests_per_minute": RPM, "concurrency": CONCURRENCY}
    with (
        ray_env(tmp_path) as env,
        simulator(tmp_path, f"rpm={RPM}", "latency=[0.5, 1.0]") as server,
        (tmp_path / "stderr").open("wb") as log,
    ):
        job = write_job(tmp_path, server.base, table, quota=quota, run=run)
        first = start("run", job, env=env, stderr=log)
        driver = psutil.Process(first.pid)
        until(lambda: len(server.answered()) >= 4, seconds=120)
        kill(driver, "run_shard")
        until(lambda: len(server.answered()) >= 10, seconds=120)
        kill(driver, "QuotaActor")
        until(lambda: len(server.answered()) >= 16, seconds=120)
        first.send_signal(signal.SIGINT)
        stopped = first.wait(120)
        drained = len(server.asked()) - len(server.answered())
        second = start("run", job, env=env, stderr=log)
        before = len(server.answered())
        until(lambda: len(server.answered()) >= before + 4, seconds=120)
        second.kill()
        second.wait(30)
        last = pipeline("run", job, "--json", env=env)
        verified = pipeline("verify", job, env=env)
    asked = Counter(one["status"] for one in server.asked())
    keys = pq.read_table(tmp_path / "out/captions", columns=["key"])["key"].to_pylist()

    assert stopped == 130, (tmp_path / "stderr").read_text()
    assert drained == 0
    assert last.code == 1, last.err
    assert set(asked) == {200}
    assert len(keys) == len(set(keys)) == PICTURES
    assert len(server.asked()) - PICTURES <= 3 * CONCURRENCY
    assert len(dataset(tmp_path / "out")) == 100
    assert verified.code == 0, verified.out
