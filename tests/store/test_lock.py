"""The lock of an output holds although its file is removed."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from pipeline.errors import Held, OutputError
from pipeline.store.lock import held, locked


def test_a_removed_lock_file_lets_no_second_run_in(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, now=0.0) as lock:
        path.unlink()
        assert held(path) is not None
        with pytest.raises(Held), locked(path, now=0.0):
            pass
        lock.confirm()
        assert path.exists()
    assert held(path) is None


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
    with locked(state / "lock", now=0.0):
        pass
