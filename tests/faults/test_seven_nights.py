"""Seven nights of a free key as processes: the real command, a real socket, a real `kill -9`, a disk
that is really full. Only the wall clocks are set, the machine's and the service's each by itself.
The service's log is the truth. `tests/main/test_week.py` tells the same week without processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.conftest import Table
from tests.support.checker import check_whole
from tests.support.command import Server, pipeline, simulator, start, until
from tests.support.shifted import Shifted, library

pytestmark = pytest.mark.faults
DAY, QUOTA, PACK, FLIGHT = 86_400, 50, 10, 4
OUTAGE, KILL, DISK, CLOCK = 1, 2, 3, 4
#: Midnight of the first night, UTC.
BEGIN = 1_795_392_000
#: The outage: seconds after midnight.
FROM, TO = 5.6, 25.0
MODEL = "google/gemma-4-31b-it:free"


@dataclass(frozen=True, slots=True)
class Machine:
    """The user's machine and the service's, each with its own clock."""

    folder: Path
    disk: Path
    ours: Shifted
    theirs: Shifted

    @property
    def job(self) -> Path:
        return self.folder / "job.yaml"

    @property
    def output(self) -> Path:
        return self.disk / "out"

    @property
    def env(self) -> dict[str, str]:
        state = str(self.folder / "state")
        key = {"OPENROUTER_API_KEY": "sk-or-v1-test", "CAPTION_PIPELINE_STATE": state}
        return {**self.ours.env, **key}

    def told(self, *words: object) -> dict[str, Any]:
        """What a command says as JSON."""
        found: dict[str, Any] = pipeline(*words, self.job, "--json", env=self.env).summary
        return found

    def change(self, night: int) -> int:
        """200 rows come and 50 go, from the middle; gives the rows there are."""
        path = self.folder / "urls.parquet"
        urls = [f"https://images.example/{n}.jpg" for n in range(3_000)]
        if path.exists():
            urls = pq.read_table(path)["url"].to_pylist()
            del urls[700:750]
            urls += [f"https://images.example/new-{night}-{n}.jpg" for n in range(200)]
        pq.write_table(pa.table({"url": urls}), path)
        return len(urls)

    def write_job(self, base: str) -> None:
        job = {
            "name": "nights",
            "manifest": {"path": str(self.folder / "urls.parquet")},
            "images": {"send": "url"},
            "endpoint": {"profile": "openrouter", "base_url": base, "model": MODEL},
            "packing": {"images_per_request": PACK},
            "quota": {"requests_per_minute": None, "concurrency": FLIGHT},
            "output": {"path": str(self.output)},
            # The disk fills up faster than anybody looks: what counts is what the files get.
            "run": {"min_free": 0},
        }
        self.job.write_text(json.dumps(job))


@contextmanager
def small_disk(at: Path) -> Iterator[bool]:
    """A file system of its own below `at` where this user may mount one; is it?"""
    at.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(at)]
    mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", at], check=True)


def fill(ballast: Path) -> None:
    """Until not one more block is to be had."""
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(fd, bytes(4096))
    except OSError:
        return
    finally:
        os.close(fd)


def chats(server: Server, since: int = 0) -> list[dict[str, Any]]:
    return server.asked()[since:]


def full_disk(machine: Machine, server: Server, mounted: bool) -> int:
    """A run that asks some, then finds no room: its exit code.

    Without a file system of its own, no file of the process may grow: the same from the inside.
    """
    before = len(chats(server))
    process = start("run", machine.job, env=machine.env)
    until(lambda: len(chats(server)) >= before + 10)
    ballast = machine.disk / "ballast"
    if not mounted:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
    while process.poll() is None:
        if mounted:
            fill(ballast)  # again and again: what the run itself sets free, too
        time.sleep(0.01)  # another process moves in real time
    ballast.unlink(missing_ok=True)
    return process.returncode


def killed(machine: Machine, server: Server) -> int:
    """A run that `kill -9` ends while requests are in flight: how many the service had heard."""
    before = len(chats(server))
    process = start("run", machine.job, env=machine.env)
    until(lambda: len(chats(server)) >= before + 20)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    return len(chats(server)) - before


def jumped(machine: Machine, server: Server) -> dict[str, Any]:
    """A run in whose midst the machine's clock goes back by more than an hour."""
    before = len(chats(server))
    log = machine.folder / "jump.json"
    with log.open("wb") as out:
        process = start("run", machine.job, "--json", env=machine.env, stdout=out)
        until(lambda: len(chats(server)) >= before + 10)
        machine.ours.set(machine.ours.now() - 5_000)
        process.wait(120)
    machine.ours.set(machine.theirs.now())
    found: dict[str, Any] = json.loads(log.read_text())
    return found


def morning(machine: Machine, summary: dict[str, Any], rows: int) -> None:
    """The summary, `status` and the last line of the log say one thing."""
    assert summary["exit_code"] == 75, summary
    assert summary["images"] == rows
    assert summary["captioned"] + summary["left"] == rows
    assert summary["quota"]["used"] == QUOTA
    seen = machine.told("status")
    assert (seen["running"], seen["crashed"]) == (None, False)
    assert seen["captions"] == len(check_whole(machine.output))
    assert seen["last_run"]["run_id"] == summary["run_id"]
    logs = (machine.output / "_state/logs").glob("*.log")
    newest = max(logs, key=lambda path: path.stat().st_mtime_ns)
    last = newest.read_text().splitlines()[-1]
    assert f"{summary['captioned']:,} of {rows:,} images captioned" in last
    assert f"{summary['left']:,} left" in last
    assert "resume after" in last


def test_seven_nights_of_processes(tmp_path: Path, table: Table) -> None:
    """Each day is used up and none exceeded, every image is captioned once, nothing is asked twice
    but what the kill and the full disk cut off, and the plan had it right within a tenth."""
    shim = library(tmp_path)
    ours, theirs = Shifted(shim, tmp_path / "ours"), Shifted(shim, tmp_path / "theirs")
    for clock in (ours, theirs):
        clock.set(BEGIN + 5)
    knobs = (
        "rpm=null",
        "upstream_quiet=null",
        "latency=[0.1, 0.3]",
        f"outage=[{OUTAGE * DAY + FROM - 5}, {OUTAGE * DAY + TO - 5}]",
    )
    planned = []
    with (
        small_disk(tmp_path / "disk") as mounted,
        simulator(
            tmp_path, *knobs, profile="openrouter-2026-free", seed=3, env=theirs.env
        ) as server,
    ):
        machine = Machine(tmp_path, tmp_path / "disk", ours, theirs)
        machine.write_job(server.base)
        for night in range(7):
            for clock in (ours, theirs):
                clock.sleep_until(BEGIN + night * DAY + 5)
            rows = machine.change(night)
            planned.append(machine.told("plan"))
            if night == KILL:
                record_result = killed(machine, server)
                assert 0 < record_result < QUOTA
                seen = machine.told("status")
                assert seen["crashed"], "after a kill -9 status says so"
                said = pipeline("status", machine.job, env=machine.env).out
                assert "did not end by itself; last seen 2026-11-25" in said
                assert "running again keeps every answer that came and asks the rest" in said
            if night == DISK:
                assert full_disk(machine, server, mounted) == 73
                assert len(chats(server)) < (DISK + 1) * QUOTA
            summary = jumped(machine, server) if night == CLOCK else machine.told("run")
            morning(machine, summary, rows)
        records = check_whole(machine.output)
        asked = chats(server)

    days = Counter(int((one["at"] - BEGIN) // DAY) for one in asked)
    assert set(days) == set(range(7))
    assert all(count <= QUOTA for count in days.values()), days
    assert days.total() >= 7 * QUOTA - FLIGHT, days
    outage = [one for one in asked if one["fault"] == "outage"]
    assert {int((one["at"] - BEGIN) // DAY) for one in outage} == {OUTAGE}
    answers = [one for one in asked if one["status"] == 200]
    answered = Counter(image["url"] for one in answers for image in one["images"])
    assert {record["status"] for record in records.values()} == {"ok"}
    assert {record["image"] for record in records.values()} == set(answered)
    twice = sum(count - 1 for count in answered.values())
    assert twice <= 2 * FLIGHT * PACK, "asked twice: more than the kill and the disk cut off"
    did = len(records) / 7
    for plan in planned:
        a_night = plan["requests_per_day"] * plan["images_per_request"]
        assert abs(a_night - did) <= 0.1 * did, (a_night, did)
    how = "tmpfs" if mounted else "RLIMIT_FSIZE"
    table.add(f"seven nights, disk: {how}", runs=4, fired=4)
    print(f"seven nights: {sorted(days.items())}, {len(records)} captions, {twice} asked twice")
