"""Killed at each step of a request: reserved and not sent, sent and not answered, answered and not
on disk. The command itself, the service's log and the quota ledger as ground truth."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.conftest import Table
from tests.faults.test_file_faults import shim
from tests.support.checker import check_whole, published
from tests.support.command import Server, pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of
from tests.support.weekly import weekly

__all__ = ["shim"]
ROWS, FLIGHT = 120, 4
#: Where a run is killed -> the file, the call's number at the first kill, by how much it grows.
#: A commit of either takes several calls, so these fall before, into and after commits.
WINDOWS = {
    "reserved, not sent": ("user-state/quota.sqlite", 40, 7),
    "answered, not on disk": ("out/_state/journal.db-wal", 30, 5),
}


def spent(folder: Path) -> tuple[int, int]:
    """Requests in the ledger's days; those that never got a reply."""
    # To be written, too: what a kill cut short is rolled back first.
    db = sqlite3.connect(f"file:{folder / 'user-state/quota.sqlite'}?mode=rw", uri=True)
    try:
        sums = "SELECT coalesce(sum(used), 0) AS one FROM days GROUP BY scope"
        used = db.execute(f"SELECT max(one) FROM ({sums})").fetchone()[0] or 0
        return used, db.execute("SELECT count(*) FROM permits WHERE answered=0").fetchone()[0]
    finally:
        db.close()


def job_on(folder: Path, server: Server) -> Path:
    return write_job(
        folder,
        server.base,
        folder_of(folder, ROWS),
        quota={"requests_per_minute": None, "requests_per_day": 10_000, "concurrency": FLIGHT},
    )


def finished(folder: Path, job: Path, server: Server, kills: int) -> dict[str, int]:
    """Run to the end and compare: what is lost, and what was asked in vain."""
    ended = pipeline("run", job, "--json")
    assert ended.code == 0, ended.err
    asked = len(server.asked())
    used, unknown = spent(folder)
    assert used >= asked, "a request left that the ledger does not know"
    assert unknown <= kills * FLIGHT
    times = Counter(image["sha256"] for one in server.asked() for image in one["images"])
    assert sum(times.values()) - ROWS <= kills * FLIGHT
    return {"lost": ROWS - len(check_whole(folder / "out"))}


@pytest.mark.faults
@pytest.mark.parametrize("window", WINDOWS)
def test_killed_between_two_steps(tmp_path: Path, shim: Path, window: str, table: Table) -> None:
    """Never more sent than spent; at most what was in flight is asked again."""
    file, first, step = WINDOWS[window]
    kills = weekly(12, 6)
    fired = 0
    with simulator(tmp_path, "latency=[0.005, 0.02]", "rpm=null") as server:
        job = job_on(tmp_path, server)
        for number in range(kills):
            log = tmp_path / f"fired-{number}"
            env = {
                "LD_PRELOAD": str(shim),
                "FAULT_BELOW": str(tmp_path / file),
                "FAULT_AT": str(first + step * number),
                "FAULT_MODE": ("before", "after")[number % 2],
                "FAULT_LOG": str(log),
            }
            process = start("run", job, env=env)
            assert process.wait(60) in (-signal.SIGKILL, 0)
            fired += log.exists() and process.returncode == -signal.SIGKILL
            published(tmp_path / "out")
            assert spent(tmp_path)[0] >= len(server.asked())
        found = finished(tmp_path, job, server, kills)
    table.add(f"kill: {window}", runs=kills, of=12, fired=fired, **found)


@pytest.mark.faults
def test_killed_while_all_wait_for_an_answer(tmp_path: Path, table: Table) -> None:
    """What was in flight is asked again, once for each kill, and stays counted."""
    kills = 3
    with simulator(tmp_path, "faulty=0.3", 'faults=["hang"]', "rpm=null") as server:
        job = job_on(tmp_path, server)
        for _ in range(kills):
            hung = sum(one["fault"] == "hang" for one in server.asked()) + FLIGHT
            process = start("run", job)
            until(lambda: sum(one["fault"] == "hang" for one in server.asked()) == hung)  # noqa: B023 - called at once
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert spent(tmp_path) == (len(server.asked()), hung)
    (tmp_path / "received.jsonl").rename(tmp_path / "before.jsonl")
    with simulator(tmp_path, "rpm=null") as quiet:
        ended = pipeline("run", job, f"--set=endpoint.base_url={quiet.base}", "--json")
        rest = len(quiet.asked())
    assert ended.code == 0, ended.err
    answered = len((tmp_path / "before.jsonl").read_text().splitlines()) - kills * FLIGHT
    assert rest >= kills * FLIGHT
    assert rest <= ROWS - answered + kills * 3, "something answered was asked again"
    table.add(
        "kill: sent, not answered",
        runs=kills,
        fired=kills,
        lost=ROWS - len(check_whole(tmp_path / "out")),
    )
