"""The lock of an output holds although its file is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.checkpoint.lock import held, locked
from pipeline.errors import Held, OutputError


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
