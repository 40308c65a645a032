"""The power goes, on a real file system: the block device is copied while the run stands still.

Output lies on an ext4 file system in a file, mounted through a loop device. At a random call the
run stops itself; what has not been synced is then in the kernel's memory and not in that file. A
copy of the file is what a disk holds after a power cut: it is mounted (ext4 replays its log),
opened by a second run, and checked. The control is the same with every sync taken out, which has
to lose something. Needs root and loop devices; where they are missing the table says `not run`.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Table
from tests.faults.test_file_faults import Runs, runs, shim, trouble
from tests.support.weekly import weekly

__all__ = ["runs", "shim"]
_MEGABYTES = 64


def said(*words: object) -> str:
    """Run a tool; what it said if it failed, else nothing."""
    ended = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else (ended.stderr or ended.stdout or "failed").strip()


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    """The file system in `image` at `folder`; OSError where that cannot be."""
    folder.mkdir()
    if trouble_with := said("mount", "-o", "loop", image, folder):
        raise OSError(trouble_with)
    try:
        yield
    finally:
        for _ in range(200):  # a process that has just ended may hold a file for a moment
            if not (trouble_with := said("umount", folder)):
                break
            time.sleep(0.05)
        assert not trouble_with


def fresh_image(path: Path) -> None:
    """An empty ext4 file system in a file; OSError where that cannot be."""
    with path.open("wb") as file:
        file.truncate(_MEGABYTES << 20)
    if trouble_with := said("mkfs.ext4", "-q", "-m", "0", path):
        raise OSError(trouble_with)


def one_cut(folder: Path, runs: Runs, at: int, mode: str) -> tuple[bool, int]:
    """Stop a run before its `at`-th call, copy the disk, open the copy: (fired, images lost)."""
    disk, copy, cut = folder / "disk", folder / "copy", folder / "cut"
    folder.mkdir()
    fresh_image(disk)
    with mounted(disk, folder / "out"):
        ended = threading.Thread(target=runs.run, args=(folder, at, mode))
        ended.start()
        fired = folder / "fired"
        while ended.is_alive() and not fired.exists():
            time.sleep(0.002)
        for child in runs.children():
            while child.status() != psutil.STATUS_STOPPED:
                time.sleep(0.002)
            shutil.copyfile(disk, copy)
            child.kill()
        ended.join()
    cut.mkdir()
    (cut / "acks").write_bytes((folder / "acks").read_bytes())
    with mounted(copy, cut / "out"):
        code, _ = runs.run(cut)
        lost = trouble(cut)["lost"] if code == 0 else 1
    return fired.exists(), lost


def cuts(tmp_path: Path, runs: Runs, count: int, mode: str, seed: int = 0) -> dict[str, int]:
    """So many cuts at random calls."""
    (tmp_path / "count").mkdir()
    code, total = runs.run(tmp_path / "count")
    assert code == 0
    rng = random.Random(seed)
    found = {"runs": 0, "fired": 0, "lost": 0}
    for number in range(count):
        # In the later half there is something to lose.
        at = rng.randrange(total // 2 if "unsynced" in mode else 10, total)
        fired, lost = one_cut(tmp_path / str(number), runs, at, mode)
        shutil.rmtree(tmp_path / str(number))
        found["runs"] += 1
        found["fired"] += fired
        found["lost"] += lost
    return found


@pytest.fixture
def allowed(tmp_path: Path, table: Table) -> None:
    """Skips, and says so in the table, where no file system can be mounted."""
    try:
        fresh_image(tmp_path / "try")
        with mounted(tmp_path / "try", tmp_path / "tried"):
            pass
    except OSError as error:
        table.not_run("power cut on a loop mount", str(error))
        pytest.skip(f"no loop mount here: {error}")


@pytest.mark.faults
@pytest.mark.usefixtures("allowed")
def test_nothing_is_lost_when_the_power_goes(tmp_path: Path, runs: Runs, table: Table) -> None:
    """At random calls."""
    count = weekly(200, 10)
    table.add("power cut, loop mount", of=200, **cuts(tmp_path, runs, count, "stop"))


@pytest.mark.faults
@pytest.mark.usefixtures("allowed")
def test_the_control_without_syncs_loses(tmp_path: Path, runs: Runs) -> None:
    """Were this not so, the test above would prove nothing."""
    found = cuts(tmp_path, runs, 3, "stop-unsynced")

    assert found["fired"] == 3
    assert found["lost"] > 0
