"""Units put into place through a `systemctl` that writes down what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.commands import nightly
from pipeline.errors import JobError
from pipeline.nightly.scheduled_job import ScheduledJob
from tests.support.tools import tool


def one(folder: Path, zone: str = "UTC") -> ScheduledJob:
    python = Path("/bin/sh")
    return ScheduledJob(job=folder / "p.yaml", folder=folder, python=python, zone=zone)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which systemd runs, and the file of what systemctl was told."""
    tool("systemd-analyze")
    fakes = tmp_path / "bin"
    fakes.mkdir()
    (fakes / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
    (fakes / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fakes}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(nightly, "_systemd", lambda: True)
    return tmp_path / "told"


def test_units_are_verified_written_enabled_and_taken_away(tmp_path: Path, told: Path) -> None:
    """Two files in the user's folder, the timer enabled at once; --remove undoes both."""
    night = one(tmp_path)
    nightly._into_systemd([night], system=False)
    folder = tmp_path / "config/systemd/user"
    written = sorted(path.name for path in folder.iterdir())
    nightly._remove([night.name], nightly.NightlyOptions(remove=True), by_cron=False)

    assert written == [f"{night.name}.service", f"{night.name}.timer"]
    assert list(folder.iterdir()) == []
    assert told.read_text().splitlines() == [
        "--user daemon-reload",
        f"--user enable --now {night.name}.timer",
        f"--user disable --now {night.name}.timer",
        "--user daemon-reload",
    ]


def test_units_that_systemd_refuses_are_not_written(tmp_path: Path, told: Path) -> None:
    """The verification comes before the first file."""
    broken = ScheduledJob(
        job=tmp_path / "p.yaml", folder=tmp_path, python=tmp_path / "no python here", zone="UTC"
    )
    with pytest.raises(JobError, match="systemd refuses"):
        nightly._into_systemd([broken], system=False)

    assert not (tmp_path / "config").exists()
    assert not told.exists()
