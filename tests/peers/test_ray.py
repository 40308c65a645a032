"""`run.engine: ray` on a real Ray of this machine, against a service that keeps its limit strictly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.test_shards import PICTURES, dataset, manifest
from tests.peers.ray_env import ray_env
from tests.support.command import Server, pipeline, simulator, write_job

pytestmark = pytest.mark.peers

#: A key that stands nowhere else.
KEY = "sk-or-v1-raytest0123456789"
#: As the service keeps it, and as the job says it.
RPM = 300


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    with ray_env(tmp_path, OPENROUTER_API_KEY=KEY) as env:
        yield env


def files_with(folder: Path, text: str) -> list[Path]:
    """Those below a folder that hold a text."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes()
    ]


def asked_once(server: Server) -> bool:
    """Was no picture asked twice, and nothing refused?"""
    asked = server.asked()
    return len(asked) == PICTURES and {one["status"] for one in asked} == {200}


def test_two_shards_are_one_run(tmp_path: Path, env: dict[str, str]) -> None:
    """Equal in key, image, caption, status, code and order to one process; nothing is refused, no
    secret is in Ray's files, and a rerun asks nothing and starts no Ray."""
    table, sessions = manifest(tmp_path), Path(env["RAY_TMPDIR"])
    endpoint = {"api_key_env": "OPENROUTER_API_KEY"}
    run = {"shards": 2, "ray": {"worker_cpus": 0.5}}
    quota = {"requests_per_minute": RPM, "concurrency": 8}
    with simulator(tmp_path, f"rpm={RPM}") as server:
        job = write_job(tmp_path, server.base, table, endpoint=endpoint, quota=quota, run=run)
        alone = pipeline("run", job, env={**env, "CAPTION_PIPELINE_STATE": f"{tmp_path}/one"})
        expected = dataset(tmp_path / "out")
        assert alone.code == 1, alone.err
        shutil.rmtree(tmp_path / "out")
    (tmp_path / "received.jsonl").unlink()
    with simulator(tmp_path, f"rpm={RPM}") as server:
        job = write_job(tmp_path, server.base, table, endpoint=endpoint, quota=quota, run=run)
        result = pipeline("run", job, "--set", "run.engine=ray", "--json", env=env)
        assert result.code == 1, result.err
        assert asked_once(server)
        verified = pipeline("verify", job, env=env)
        before = set(sessions.glob("ray/session_2*"))
        rerun = pipeline("run", job, "--set", "run.engine=ray", "--json", env=env)
        assert len(server.asked()) == PICTURES

    assert (rerun.code, rerun.summary["requests"], rerun.summary["left"]) == (1, 0, 0), rerun.err
    assert set(sessions.glob("ray/session_2*")) == before != set()
    assert dataset(tmp_path / "out") == expected
    assert (result.summary["captioned"], result.summary["failed"]) == (PICTURES, 1)
    assert result.summary["requests"] == PICTURES
    assert verified.code == 0, verified.out
    names = [path.name for path in (tmp_path / "out/captions").glob("*.parquet")]
    assert names
    assert all(name.startswith("0000") for name in names)
    assert list(sessions.rglob("gcs_server.out"))  # there was a session to look at
    assert files_with(sessions, KEY) == []
