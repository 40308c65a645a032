"""A state that this user cannot own: read-only, another's, a symbolic link. Refused, nothing sent."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Table
from tests.support.command import command, environment, simulator, write_job
from tests.support.pictures import folder_of

#: Somebody else.
OTHER = 1_234


def _linked(name: str) -> Callable[[Path], None]:
    """A trap: a name of ours leads to what is not ours."""

    def make(folder: Path) -> None:
        path = folder / "out/_state" / name
        path.parent.mkdir(parents=True, mode=0o700)
        path.symlink_to(folder / "victim")

    return make


def _state_linked(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "out/_state").symlink_to(folder / "elsewhere")


def _read_only(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(0o500)

    return make


def _of_another(name: str, mode: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).mkdir(parents=True)
        (folder / name).chmod(mode)
        os.chown(folder / name, OTHER, OTHER)

    return make


BAD: dict[str, Callable[[Path], None]] = {
    "lock is a link": _linked("lock"),
    "journal is a link": _linked("journal.db"),
    "_state is a link": _state_linked,
    "_state is read-only": _read_only("out/_state"),
    "output is read-only": _read_only("out"),
    "ledger's folder is read-only": _read_only("user-state"),
    "_state is another's": _of_another("out/_state", 0o755),
    "_state is another's, open to all": _of_another("out/_state", 0o777),
    "ledger's folder is another's": _of_another("user-state", 0o755),
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_and_nothing_is_sent(tmp_path: Path, what: str, table: Table) -> None:
    """73, what it is about is named, no request, and what a link leads to is untouched."""
    words: list[str] = []
    if os.geteuid() == 0:
        # Root may write anywhere: without its privileges it is a user like any other.
        if shutil.which("setpriv") is None:
            why = "root, and no setpriv to give its privileges up"
            table.not_run(what, why)
            pytest.skip(why)
        words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    elif "another's" in what:
        why = "only root can give a folder away"
        table.not_run(what, why)
        pytest.skip(why)
    (tmp_path / "victim").write_text("precious")
    images = folder_of(tmp_path, 3)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, images, quota={"requests_per_day": 100})
        BAD[what](tmp_path)
        ended = subprocess.run(
            [*words, *command("run", job)], env=environment(), capture_output=True, text=True
        )
        asked = len(server.asked())

    assert ended.returncode == 73, ended.stderr
    assert str(tmp_path) in ended.stderr.splitlines()[-1], "what cannot be written is not named"
    assert "Traceback" not in ended.stderr
    assert asked == 0
    assert (tmp_path / "victim").read_text() == "precious"
    table.add(what, runs=1, fired=1)
