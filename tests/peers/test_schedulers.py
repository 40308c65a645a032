"""The recipes of docs/nightly.md under the schedulers themselves, with the real command."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from pipeline.distributed.spec import read_shard
from pipeline.errors import Exit
from tests.peers.peers import bin_of, environment, run
from tests.support.checker import check_whole
from tests.support.command import ROOT, Server, simulator, until
from tests.support.recipes import command_on_path, jobs_that_end, recipe

pytestmark = pytest.mark.peers


@contextmanager
def places(folder: Path, *knobs: str) -> Iterator[tuple[Server, dict[int, str], dict[str, str]]]:
    """A service, job files by the code they end with, and an environment to run recipes in."""
    path = f"{command_on_path(folder)}:{os.environ['PATH']}"
    with simulator(folder, "rpm=null", *knobs) as server:
        more = {"PATH": path, "CAPTION_PIPELINE_STATE": str(folder / "user-state")}
        yield server, jobs_that_end(folder, server.base), more


def test_airflow(tmp_path: Path) -> None:
    """`airflow dags test`: 75 skips the task, 78 fails it, 0 succeeds."""
    programs = bin_of("airflow")
    (tmp_path / "dags").mkdir()
    text = recipe("Airflow").replace('cwd="/data"', f'cwd="{tmp_path}"')
    assert str(tmp_path) in text
    (tmp_path / "dags/captions.py").write_text(text)
    home = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
    }
    run([str(programs / "airflow"), "db", "migrate"], **home)
    ended = {}
    with places(tmp_path) as (_, jobs, more):
        for code, job in jobs.items():
            (tmp_path / "job.yaml").write_text(job)
            done = subprocess.run(
                [str(programs / "airflow"), "dags", "test", "captions"],
                capture_output=True,
                text=True,
                env=environment({**home, **more}),
            )
            said = done.stdout + done.stderr
            assert f"return code {code}" in said, said
            states = re.findall(r"new_state=(\w+)", said)
            ended[code] = states[-1] if states else "failed" if "state=failed" in said else said
    assert ended == {75: "skipped", 78: "failed", 0: "success"}


def test_prefect(tmp_path: Path) -> None:
    """The flow on Prefect's temporary server: 75 completes by another name, 78 fails."""
    python = str(bin_of("prefect") / "python")
    (tmp_path / "nightly.py").write_text(recipe("Prefect"))
    one = "import nightly; s = nightly.captions(return_state=True); print('ENDED', s.type.value, s.name)"
    home = {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Its own 20 s are not enough on a machine that is busy with other tests.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    }
    ended = {}
    with places(tmp_path) as (_, jobs, more):
        env = environment({**home, **more})
        for code, job in jobs.items():
            (tmp_path / "job.yaml").write_text(job)
            done = subprocess.run(
                [python, "-c", one], cwd=tmp_path, capture_output=True, text=True, env=env
            )
            found = re.search(r"^ENDED (.*)$", done.stdout, re.MULTILINE)
            assert found, done.stdout + done.stderr
            ended[code] = found[1]
        assert ended == {75: "COMPLETED WorkLeft", 78: "FAILED Failed", 0: "COMPLETED Completed"}
        log = tmp_path / "served.txt"
        with log.open("wb") as out:
            serving = subprocess.Popen(
                [python, "nightly.py"], cwd=tmp_path, stdout=out, stderr=out, env=env
            )
        try:
            until(lambda: "captions/nightly" in log.read_text() or serving.poll() is not None)
            assert serving.poll() is None, log.read_text()
        finally:
            serving.send_signal(signal.SIGINT)
            serving.wait(60)


def test_kubernetes_schema_and_rule(tmp_path: Path) -> None:
    """The file is valid, and its rule fails the job for just the codes that somebody must mend."""
    (tmp_path / "captions.yaml").write_text(recipe("Kubernetes"))
    validate = str(bin_of("kubernetes") / "kubernetes-validate")
    run([validate, "--strict", str(tmp_path / "captions.yaml")])
    (tmp_path / "wrong.yaml").write_text(recipe("Kubernetes").replace("timeZone", "timezone"))
    with pytest.raises(AssertionError, match="timezone"):
        run([validate, "--strict", str(tmp_path / "wrong.yaml")])

    job = yaml.safe_load(recipe("Kubernetes"))["spec"]["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    mend = {Exit.SOME_FAILED, Exit.USAGE, Exit.MANIFEST, Exit.OUTPUT, Exit.KEY, Exit.JOB}
    assert set(rule["onExitCodes"]["values"]) == {int(code) for code in mend}


def test_kubernetes_indexed_job(tmp_path: Path) -> None:
    """The file for shards is valid, and what it calls is this program's options."""
    text = recipe("Kubernetes", "cluster")
    (tmp_path / "shards.yaml").write_text(text)
    run(
        [
            str(bin_of("kubernetes") / "kubernetes-validate"),
            "--strict",
            str(tmp_path / "shards.yaml"),
        ]
    )
    spec = yaml.safe_load(text)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    shard = container["args"][container["args"].index("--shard") + 1]
    environ = {"JOB_COMPLETION_INDEX": str(spec["completions"] - 1)}
    assert read_shard(shard, environ).count == spec["completions"]


def test_ray_job() -> None:
    """What the RayJob calls is this program's run on the cluster that it stands in, with the Ray of the extra."""
    spec = yaml.safe_load(recipe("Ray on Kubernetes", "cluster"))["spec"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    arguments = shlex.split(spec["entrypoint"])
    read = dict(word.split("=") for word in arguments if "=" in word)

    assert arguments[:2] == ["caption-pipeline", "run"]
    assert read == {"run.engine": "ray", "run.ray.address": "auto"}
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert Requirement(wanted["ray"][0]).specifier.contains(spec["rayClusterSpec"]["rayVersion"])


def test_kubernetes_command(tmp_path: Path) -> None:
    """What the container runs: 75 is success, 78 stays 78; at SIGTERM it drains, then says 143."""
    job = yaml.safe_load(recipe("Kubernetes"))["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    ended = {}
    with places(tmp_path, "latency=[0.5, 0.6]") as (server, jobs, more):
        env = environment(more)
        for code, text in jobs.items():
            (tmp_path / "job.yaml").write_text(text)
            ended[code] = subprocess.run(words, cwd=tmp_path, env=env).returncode
        slow = json.loads(jobs[0])
        slow["output"]["path"] = str(tmp_path / "again")
        slow["quota"]["concurrency"] = 1
        (tmp_path / "job.yaml").write_text(json.dumps(slow))
        before = len(server.asked())
        process = subprocess.Popen(words, cwd=tmp_path, env=env)
        until(lambda: len(server.asked()) > before)
        process.terminate()
        code = process.wait(60)
        record_result = len(server.answered()) - before
    assert ended == {75: 0, 78: 78, 0: 0}
    assert code == 143
    assert 0 < record_result < 3
    assert len(check_whole(tmp_path / "again")) == record_result, "what was in flight is there"
