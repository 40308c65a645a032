"""No file may grow any more in the middle of a run: a full disk without a disk of one's own."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.faults.conftest import Table
from tests.support.checker import check_whole, published
from tests.support.command import pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of
from tests.support.weekly import weekly

ROWS, FLIGHT = 80, 4
#: Bytes that a file may have from then on: nothing is written at all; the ledger still is; the
#: journal's log ends a few answers later.
LIMITS = (0, 100_000, 200_000)


@pytest.mark.faults
@pytest.mark.parametrize("limit", LIMITS)
def test_files_that_may_not_grow(tmp_path: Path, limit: int, table: Table) -> None:
    """Exit 73, nothing that was shown as done is lost, asked again at most what was in flight."""
    runs = weekly(7, 1)
    fired = lost = 0
    for number in range(runs):
        folder = tmp_path / str(number)
        folder.mkdir()
        with simulator(folder, "latency=[0.02, 0.05]", "rpm=null", seed=number) as server:
            job = write_job(
                folder,
                server.base,
                folder_of(folder, ROWS),
                quota={"requests_per_minute": None, "concurrency": FLIGHT},
                run={"min_free": 0},
            )
            process = start("run", job)
            until(lambda: len(server.asked()) >= 8 + 3 * number)  # noqa: B023 - called at once
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
            code = process.wait(60)
            stopped = len(server.asked())
            if (folder / "out").exists():
                published(folder / "out")
            again = pipeline("run", job, "--json")
            total = len(server.asked())
        assert code == 73, code
        assert stopped < ROWS, "asking went on although nothing could be kept"
        assert again.code == 0, again.err
        assert total - ROWS <= FLIGHT
        fired += code == 73
        lost += ROWS - len(check_whole(folder / "out"))
    table.add(f"no file above {limit:,} bytes", runs=runs, of=7, fired=fired, lost=lost)
