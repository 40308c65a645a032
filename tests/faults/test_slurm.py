"""The recipe for Slurm on one node of Slurm: its own controller and daemon, below a test's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import ROOT, simulator, until, write_job
from tests.support.pictures import folder_of
from tests.support.recipes import recipe

pytestmark = pytest.mark.weekly

CONF = """
ClusterName=one
SlurmctldHost=localhost
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort=26817
SlurmdPort=26818
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
NodeName=localhost CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
#: In place of ours: ends as it is told, or drains at SIGTERM.
PROGRAM = """#!/bin/bash
trap 'echo drained >> told; exit 143' TERM
echo "$@" >> told
read -r code seconds < ends
for ((i = 0; i < seconds * 10; i++)); do sleep 0.1; done
exit $code
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to submit from, on a cluster of this machine."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        pytest.skip("needs root, slurmctld, slurmd and munge")
    for name in ("state", "spool", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "slurm.conf").write_text(CONF.format(folder=tmp_path))
    program = tmp_path / "bin/caption-pipeline"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "captions.sh").write_text(recipe("Slurm"))
    plug, pid = tmp_path / "munge/socket", tmp_path / "munge/pid"
    (tmp_path / "munge").mkdir()
    key = tmp_path / "munge/key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    started = [
        subprocess.Popen(
            ["munged", "--foreground", f"--socket={plug}", f"--pid-file={pid}", "--force",
             f"--key-file={key}", f"--log-file={tmp_path}/munge/log", f"--seed-file={tmp_path}/munge/seed"]
        )
    ]  # fmt: skip
    with (tmp_path / "slurm.conf").open("a") as conf:
        conf.write(f"AuthInfo=socket={plug}\n")
    try:
        until(plug.exists)
        started.append(subprocess.Popen(["slurmctld", "-D"], stderr=subprocess.DEVNULL))
        started.append(
            subprocess.Popen(["slurmd", "-D", "-N", "localhost"], stderr=subprocess.DEVNULL)
        )
        until(lambda: "idle" in said("sinfo", "-h"))
        yield tmp_path
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True).stdout


def facts(job: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", said("scontrol", "show", "job", job)))


def submitted(cluster: Path, ends: str) -> str:
    (cluster / "ends").write_text(ends)
    words = ["sbatch", "--parsable", "captions.sh"]
    return subprocess.run(
        words, cwd=cluster, capture_output=True, text=True, check=True
    ).stdout.strip()


def queued() -> list[str]:
    return said("squeue", "-h", "-o", "%i", "-t", "PENDING").split()


def test_the_slurm_recipe(cluster: Path) -> None:
    """0 ends, 77 fails, 75 queues the script for the next reset, SIGTERM drains and queues it now."""
    for code, state in ((0, "COMPLETED"), (77, "FAILED")):
        job = submitted(cluster, f"{code} 0")
        until(lambda job=job, state=state: facts(job).get("JobState") == state)  # type: ignore[misc]
    assert not queued()

    job = submitted(cluster, "75 0")
    until(lambda: facts(job).get("JobState") == "COMPLETED")
    (waits,) = queued()
    begins = datetime.fromisoformat(facts(waits)["StartTime"]).astimezone(UTC)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert begins == tomorrow.replace(hour=0, minute=0, second=5, microsecond=0)
    said("scancel", waits)

    before = len((cluster / "told").read_text().splitlines())
    job = submitted(cluster, "75 600")
    until(lambda: len((cluster / "told").read_text().splitlines()) > before)
    time.sleep(1)  # the shell sets its trap after it has started the program
    (cluster / "ends").write_text("0 0")
    said("scancel", "--batch", "--signal=TERM", job)
    until(lambda: facts(job).get("JobState") == "COMPLETED")
    until(lambda: facts(str(int(job) + 1)).get("JobState") == "COMPLETED")
    assert (cluster / "told").read_text().splitlines()[-2:] == ["drained", "run job.yaml --quiet"]


def test_the_slurm_array(cluster: Path) -> None:
    """The recipe for shards with the real program: every task its shard, then one dataset."""
    program = cluster / "bin/caption-pipeline"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m pipeline "$@"\n')
    rows = folder_of(cluster / "data", 40)
    with simulator(cluster) as server:
        write_job(cluster, server.base, rows)
        subprocess.run(["bash", "-c", recipe("Slurm", "cluster")], cwd=cluster, check=True)
        until((cluster / "out/dataset.parquet").exists, seconds=240)
        until(lambda: not said("squeue", "-h"))
        asked = server.asked()

    assert len(asked) == 40
    assert pq.read_table(cluster / "out/dataset.parquet")["status"].to_pylist() == ["ok"] * 40
    ends = map(json.loads, (cluster / "out/_state/runs.jsonl").read_text().splitlines())
    assert [end["exit_code"] for end in ends] == [0]
    assert len(list((cluster / "out/shards").glob("0000*/_state/runs.jsonl"))) == 4
