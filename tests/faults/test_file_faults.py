"""A fault at every file call of a small run: nothing lost, nothing doubled, nothing corrupt.

`make faults` faults every second call in one of the modes, `make weekly` each in all of them.

A shim under libc counts the calls and faults the n-th; it must report that it fired, else the
point is void and the test fails. One warm process forks a run for each point.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.faults.conftest import Table
from tests.support.checker import check_whole, published
from tests.support.command import ROOT
from tests.support.small_run import FAILING, IMAGES, caption, key
from tests.support.weekly import weekly

KILLS = ("before", "after", "torn")
MODES = (*KILLS, "eio", "enospc", "short")
ALL = (*MODES, "eio-ever", "enospc-ever")


class Runs:
    """The process that forks runs; one line asks, one line answers."""

    def __init__(self, shim: Path) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(shim)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.small_run", "--serve"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, folder: Path, at: int = 0, mode: str = "", below: str = "out") -> tuple[int, int]:
        """(exit code, file calls; -1 if it was killed). 70 would be an exception nobody expected."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked_for = {"folder": str(folder), "at": at, "mode": mode, "below": below}
        self._process.stdin.write(json.dumps(asked_for) + "\n")
        self._process.stdin.flush()
        code, calls = json.loads(self._process.stdout.readline())
        return code, calls

    def children(self) -> list[psutil.Process]:
        """The runs under way: one or none."""
        return psutil.Process(self._process.pid).children()

    def close(self) -> None:
        """End it."""
        assert self._process.stdout is not None
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = ROOT / "tests/support/shim.c"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"], check=True
    )
    return library


@pytest.fixture(scope="module")
def runs(shim: Path) -> Iterator[Runs]:
    """A process that has the shim and forks runs."""
    server = Runs(shim)
    yield server
    server.close()


def trouble(folder: Path) -> Counter[str]:
    """Images that were acknowledged and had to be settled again, or are not there."""
    records = check_whole(folder / "out")
    acked = Counter(int(line) for line in (folder / "acks").read_text().split())
    found = Counter(
        lost=sum(n > 1 or key(image) not in records for image, n in acked.items() if image >= 0)
    )
    assert len(records) == IMAGES
    for number in range(IMAGES):
        assert records[key(number)]["caption"] == caption(number)
    return found


def fault_everywhere(
    tmp_path: Path, runs: Runs, mode: str, step: int = 1, first: int = 1
) -> dict[str, int]:
    """Fault each step-th call, look as a reader does, resume, check."""
    (tmp_path / "count").mkdir()
    code, total = runs.run(tmp_path / "count", mode=mode)
    assert code == 0
    assert not trouble(tmp_path / "count")["lost"]
    assert total > 60
    found: Counter[str] = Counter()
    for at in range(first, total + 1, step):
        folder = tmp_path / str(at)
        folder.mkdir()
        code, _ = runs.run(folder, at, mode)
        found["runs"] += 1
        fired = folder / "fired"
        found["fired"] += fired.exists() and fired.read_text().startswith(f"fired {at} ")
        assert code == -9 if mode in KILLS else code in (0, 73), (mode, at, code)
        if (folder / "out").exists():
            published(folder / "out")  # what a reader sees right now holds no key twice
        code, _ = runs.run(folder)
        assert code == 0, (mode, at)
        found += trouble(folder)
    return {**found, "of": total}


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_at_some_file_calls(tmp_path: Path, runs: Runs, mode: str, table: Table) -> None:
    """A few points of every kind, with another start for each."""
    found = fault_everywhere(tmp_path, runs, mode, 29, 5 * (1 + MODES.index(mode)))
    assert found["runs"] >= 3
    table.add(f"file call, some: {mode}", **found)


@pytest.mark.parametrize("killed", [False, True], ids=["new", "killed"])
def test_a_fault_while_the_journal_opens(
    tmp_path: Path, runs: Runs, killed: bool, table: Table
) -> None:
    """The run ends, and the next one opens the journal as if nothing had been: of an output that
    is made just now, and of one that holds answers of a run that was killed."""
    first = tmp_path / "first"
    first.mkdir()
    if killed:
        assert runs.run(first, 170, "after")[0] == -9
        (first / "fired").unlink()
        assert (first / "acks").read_text()
    found: Counter[str] = Counter()
    for at in range(*((3, 20, 6) if killed else (3, 48, 5))):
        folder = tmp_path / str(at)
        shutil.copytree(first, folder)
        code, _ = runs.run(folder, at, "eio", "out/_state/journal.db")
        found["runs"] += 1
        found["fired"] += (folder / "fired").exists()
        assert code in (0, 73), at
        assert runs.run(folder)[0] == 0, at
        found += trouble(folder)
    table.add(f"the journal opens: {'killed' if killed else 'new'}", **found)


@pytest.mark.faults
@pytest.mark.parametrize("mode", ALL)
def test_a_fault_at_every_file_call(tmp_path: Path, runs: Runs, mode: str, table: Table) -> None:
    """Every single call in each mode, weekly; else every second one, in one mode."""
    step = weekly(1, 2 * len(ALL))
    first = weekly(1, 1 + ALL.index(mode))
    table.add(f"file call, every: {mode}", **fault_everywhere(tmp_path, runs, mode, step, first))


def start_on_a_full_disk(tmp_path: Path, runs: Runs, step: int) -> dict[str, int]:
    """Kill a run after each step-th call, start another whose parts find no room, then a third."""
    (tmp_path / "count").mkdir()
    _, total = runs.run(tmp_path / "count")
    found: Counter[str] = Counter()
    for at in range(5, total, step):
        folder = tmp_path / str(at)
        folder.mkdir()
        assert runs.run(folder, at, "after")[0] == -9
        before = (folder / "acks").read_bytes()
        (folder / "fired").unlink()
        code, _ = runs.run(folder, 1, "enospc-ever", "out/captions")
        found["runs"] += 1
        found["fired"] += (folder / "fired").exists()
        # The journal was opened and took what came, although no part could be published.
        assert code in (0, 73), at
        found["taken"] += (folder / "acks").read_bytes() != before
        published(folder / "out")
        code, _ = runs.run(folder)  # the lock was let go
        assert code == 0, at
        found += trouble(folder)
    return dict(found)


def test_a_start_on_a_full_disk_with_a_part_half_made(
    tmp_path: Path, runs: Runs, table: Table
) -> None:
    """Opening needs no room for parts: publication is put off, answers are taken, nothing is lost."""
    found = start_on_a_full_disk(tmp_path, runs, 13)
    assert found.pop("taken") > 0
    table.add("full disk at the start", **found)


def test_the_failing_images_are_replaced(tmp_path: Path, runs: Runs) -> None:
    """The small run does exercise failures that become captions."""
    assert runs.run(tmp_path)[0] == 0
    records = check_whole(tmp_path / "out")
    assert all(records[key(number)]["status"] == "ok" for number in FAILING)
    left = [pq.read_metadata(p).num_rows for p in (tmp_path / "out/failures").glob("*.parquet")]
    assert left == [0], "the part they left stays for whoever has just listed it"
