"""A fault at every file call of a small run: nothing lost, nothing doubled, nothing corrupt.

A shim under libc counts the calls and faults the n-th; it must report that it fired, else the
point is void and the test fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.checker import check_whole, published
from tests.support.command import ROOT
from tests.support.small_run import FAILING, IMAGES, caption, key

MODES = ("before", "after", "torn", "eio", "enospc")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = ROOT / "tests/support/shim.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def small_run(folder: Path, shim: Path | None, at: int = 0, mode: str = "") -> tuple[int, str]:
    """Run it under the shim; (exit code, what the shim reported)."""
    log = folder / "shim.log"
    log.unlink(missing_ok=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if shim is not None:
        env |= {"LD_PRELOAD": str(shim), "FAULT_DIR": str(folder / "out"), "FAULT_LOG": str(log)}
        env |= {"FAULT_AT": str(at), "FAULT_MODE": mode}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.small_run", folder / "out", folder / "acks"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (0, 73, -9), done.stderr
    return done.returncode, log.read_text() if log.exists() else ""


def check(folder: Path) -> None:
    """Everything acknowledged is there, each key once, with its own caption."""
    records = check_whole(folder / "out")
    acked = {int(line) for line in (folder / "acks").read_text().split()}
    assert {key(n) for n in acked} <= records.keys()
    assert len(records) == IMAGES
    for number in range(IMAGES):
        assert records[key(number)]["caption"] == caption(number)


def points(folder: Path, shim: Path) -> int:
    """How many file calls an undisturbed run makes."""
    code, report = small_run(folder, shim)
    assert code == 0
    check(folder)
    return int(report.split("count ")[1].split()[0])


def fault_everywhere(tmp_path: Path, shim: Path, mode: str, step: int, first: int = 1) -> int:
    """Fault each step-th call, resume, check; returns how many fired."""
    (tmp_path / "count").mkdir()
    total = points(tmp_path / "count", shim)
    assert total > 60
    fired = 0
    for at in range(first, total + 1, step):
        folder = tmp_path / str(at)
        folder.mkdir()
        code, report = small_run(folder, shim, at, mode)
        assert f"fired {at} " in report, f"void: {mode} at {at} of {total} did not fire"
        if mode in ("before", "after", "torn"):
            assert code == -9
        fired += 1
        if (folder / "out").exists():
            published(folder / "out")  # what a reader sees right now holds no key twice
        code, _ = small_run(folder, None)
        assert code == 0
        check(folder)
    return fired


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_at_some_file_calls(tmp_path: Path, shim: Path, mode: str) -> None:
    """A few points of every kind, with another start for each."""
    assert fault_everywhere(tmp_path, shim, mode, 29, 5 * (1 + MODES.index(mode))) >= 3


@pytest.mark.faults
@pytest.mark.parametrize("mode", MODES)
def test_a_fault_at_every_fourth_file_call(tmp_path: Path, shim: Path, mode: str) -> None:
    """A quarter of all points, started elsewhere for each kind of fault."""
    fired = fault_everywhere(tmp_path, shim, mode, 4, 1 + MODES.index(mode) % 4)
    print(f"\n{mode}: {fired} points, {fired} fired, 0 lost, 0 doubled, 0 void")


@pytest.mark.weekly
@pytest.mark.parametrize("mode", MODES)
def test_a_fault_at_every_file_call(tmp_path: Path, shim: Path, mode: str) -> None:
    """Every single call."""
    fired = fault_everywhere(tmp_path, shim, mode, 1)
    print(f"\n{mode}: {fired} points, {fired} fired, 0 lost, 0 doubled, 0 void")


def test_the_failing_images_are_replaced(tmp_path: Path) -> None:
    """The small run does exercise failures that become captions."""
    code, _ = small_run(tmp_path, None)
    assert code == 0
    records = check_whole(tmp_path / "out")
    assert all(records[key(number)]["status"] == "ok" for number in FAILING)
    left = [pq.read_metadata(p).num_rows for p in (tmp_path / "out/failures").glob("*.parquet")]
    assert left == [0], "the part they left stays for whoever has just listed it"
