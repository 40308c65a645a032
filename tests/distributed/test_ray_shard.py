"""A shard in a worker of Ray, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.captioning.options import RunOptions
from pipeline.commands.ray_shard import run_shard
from pipeline.config.job import load_job
from pipeline.distributed.plan import plan_shards
from tests.distributed.test_shards import manifest
from tests.support.command import write_job


class NoQuota:
    """Nobody may be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def test_a_node_that_does_not_see_the_drivers_plan_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """73, also where another plan lies there; nothing is made in the folder."""
    monkeypatch.chdir(tmp_path)  # and back: the worker goes where the driver is
    job = load_job(write_job(tmp_path, "http://127.0.0.1:9/v1", manifest(tmp_path)))
    options = RunOptions(shard="0/2", quiet=True)

    def ended() -> dict[str, Any]:
        quota: Any = NoQuota()
        return run_shard(job, options, "w", quota, str(tmp_path), "0123456789abcdef")

    summary = ended()
    assert summary["exit_code"] == 73, summary
    assert "does not see the driver's plan" in summary["reason"]
    assert not (tmp_path / "out").exists()
    plan_shards(job, 2)
    assert ended()["exit_code"] == 73
    assert not (tmp_path / "out/shards/00000").exists()
