"""The lock of an output holds although its file is removed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import Held, OutputError
from pipeline.store.lock import Lock, holder_of, locked
from pipeline.store.remote.filesystem import FolderStore
from pipeline.store.remote.owner import holding
from tests.support.command import ROOT, command, environment, simulator, start, until, write_job
from tests.support.pictures import folder_of


def test_a_removed_lock_file_lets_no_second_run_in(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, now=0.0) as lock:
        path.unlink()
        assert holder_of(path) is not None
        with pytest.raises(Held), locked(path, now=0.0):
            pass
        lock.confirm()
        assert path.exists()
    assert holder_of(path) is None


def test_a_removed_folder_is_said_before_the_next_publication(tmp_path: Path) -> None:
    path = tmp_path / "_state" / "lock"
    path.parent.mkdir()
    with locked(path, now=0.0) as lock:
        path.parent.rename(tmp_path / "moved")
        with pytest.raises(OutputError, match="deleted, moved or replaced"):
            lock.confirm()


@pytest.mark.parametrize("name", ["", "lock"])
def test_a_lock_that_names_nobody_holds_all_the_same(name: str, tmp_path: Path) -> None:
    """The kernel's lock decides, on the folder and on the file; the text only says who it is."""
    state = tmp_path / "_state"
    state.mkdir()
    (state / "lock").touch()
    fd = os.open(state / name, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(Held), locked(state / "lock", now=0.0):
            pass
    finally:
        os.close(fd)
    (state / "lock").chmod(0o644)
    with locked(state / "lock", now=0.0):
        assert (state / "lock").stat().st_mode & 0o777 == 0o600


ANOTHER = """
import sys
from pathlib import Path
from pipeline.store.lock import locked
from pipeline.store.remote.filesystem import FolderStore
from pipeline.store.remote.owner import holding
state, shared = map(Path, sys.argv[1:])
state.mkdir()
with locked(state / "lock", now=0.0) as lock, holding(FolderStore(shared), lock):
    print("holds", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_through_another_mount_keeps_a_local_one_out(tmp_path: Path, killed: bool) -> None:
    """A file system in user space gives the folder other inodes, so that the journal is elsewhere
    and no kernel lock reaches through: the lock file's text names the run, as long as it lives."""
    (tmp_path / "out/_state").mkdir(parents=True)
    path = tmp_path / "out/_state/lock"
    other = subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(tmp_path / "elsewhere"), str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"holds\n"
    with pytest.raises(Held, match=f"pid {other.pid} on"), locked(path, now=0.0):
        pass
    if killed:
        other.kill()
    other.communicate(b"\n")
    with (
        locked(path, now=0.0) as lock,
        pytest.raises(Held, match="by another path"),
        holding(FolderStore(tmp_path / "out"), Stranger(lock.text)),
    ):
        pass
    assert holder_of(path) is None


class Stranger(Lock):
    """The lock of a process that is not this one."""

    def __init__(self, text: str) -> None:
        self.text = text + "other"


@pytest.mark.parametrize("how", ["symlink", "bind mount"])
def test_one_output_by_two_paths_has_one_run(tmp_path: Path, how: str) -> None:
    """76, and the other run's pid."""
    out, other = tmp_path / "out", tmp_path / "other"
    with simulator(tmp_path, "rpm=null", "latency=[1, 1.1]") as server:
        job = write_job(tmp_path, server.base, folder_of(tmp_path, 100), quota={"concurrency": 2})
        run = start("run", job)
        until(lambda: len(server.asked()) > 5)
        second = command("run", job, f"--set=output.path={other}")
        if how == "symlink":
            other.symlink_to(out)
        else:
            other.mkdir()
            script = 'mount --bind "$0" "$1" && shift && exec "$@"'
            second = ["unshare", "-m", "sh", "-c", script, str(out), str(other), *second]
        ended = subprocess.run(second, cwd=ROOT, env=environment(), capture_output=True, text=True)
        if "unshare" in ended.stderr or "mount:" in ended.stderr:
            run.kill()
            run.wait()
            pytest.skip("no mounts here")
        assert ended.returncode == 76, ended.stderr
        assert f"pid {run.pid} on" in ended.stderr
        run.terminate()
        assert run.wait(60) == 143
