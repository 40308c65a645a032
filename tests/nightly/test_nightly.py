"""`nightly` as a user types it, with systemd asked for."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.commands.nightly import read_jobs
from pipeline.nightly import systemd
from pipeline.nightly.scheduled_job import unit_name
from tests.support.command import pipeline
from tests.support.pictures import manifest
from tests.support.tools import tool

JOB = "name: {}\nmanifest: {{path: images.csv}}\nendpoint: {{profile: {}, model: m, api_key_env: null}}\n"


def job_in(folder: Path, name: str = "photos", profile: str = "openai", more: str = "") -> Path:
    manifest(folder / "images.csv", [{"url": "https://example.org/a.jpg"}])
    text = JOB.format(name, profile)
    if profile in ("openai", "vllm"):
        text = text.replace("model: m", "model: m, base_url: 'http://127.0.0.1:9/v1'")
    path = folder / f"{name}.yaml"
    path.write_text(text + more)
    return path


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_the_timer_elapses_at_the_reset(zone: str) -> None:
    """systemd's own calendar says: five seconds after midnight in the quota's zone, also on the
    two days when its clocks change."""
    analyze = tool("systemd-analyze")
    line = systemd.calendar(zone)
    for base in ("2026-11-23 12:00:00 UTC", "2026-11-01 00:00:00 UTC", "2026-03-07 20:00:00 UTC"):
        told = subprocess.run(
            [analyze, "calendar", f"--base-time={base}", line],
            capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"},
        ).stdout  # fmt: skip
        words = next(one for one in told.splitlines() if "Next elapse" in one or "(in UTC)" in one)
        stamp = words.split(": ", 1)[1].split(" ", 1)[1].removesuffix(" UTC")
        at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        local = at.astimezone(ZoneInfo(zone))
        assert (local.hour, local.minute, local.second) == (0, 0, 5)


def test_weights() -> None:
    """`path:2`, a path with a colon; the path stays as it was written."""
    found = {str(one.path): one.weight for one in read_jobs(["a.yaml:2", "b:c.yaml", "d"])}
    assert found == {"a.yaml": 2, "b:c.yaml": 1, "d": 1}


def test_units_of_different_jobs_have_different_names() -> None:
    """Also where the files have one stem, or a stem of signs alone."""
    paths = [Path(folder) / stem for folder in ("/a", "/b") for stem in ("photos.yaml", "(.yaml")]
    names = {unit_name(path) for path in paths}
    assert len(names) == 4
    assert all(name.isascii() and " " not in name for name in names)


def test_print_writes_nothing(tmp_path: Path) -> None:
    """Both units on stdout, verified; no file anywhere; no key in them."""
    job = job_in(tmp_path)
    environ = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "OPENAI_API_KEY": "s" * 30,
    }
    ended = pipeline("nightly", job, "--print", "--systemd", cwd=tmp_path, env=environ)

    assert ended.code == 0, ended.err
    assert "OnCalendar=*-*-* 00:00:05 UTC" in ended.out
    assert "SuccessExitStatus=75" in ended.out
    assert "Persistent=true" in ended.out
    assert "sss" not in ended.out
    assert not (tmp_path / "config").exists()


def test_units_are_written_and_removed(tmp_path: Path) -> None:
    """In the user's unit folder; gone after --remove; twice is no error."""
    job = job_in(tmp_path)
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    folder = tmp_path / "config/systemd/user"
    ended = pipeline("nightly", job, "--systemd", cwd=tmp_path, env=environ)
    assert ended.code == 0, ended.err
    assert sorted(path.suffix for path in folder.iterdir()) == [".service", ".timer"]
    for _ in range(2):
        ended = pipeline("nightly", job, "--systemd", "--remove", cwd=tmp_path, env=environ)
        assert ended.code == 0, ended.err
    assert not list(folder.iterdir())


def test_google_starts_its_day_in_california(tmp_path: Path) -> None:
    """The profile's zone, by name: systemd knows its summer time."""
    job = job_in(tmp_path, profile="google")
    job.write_text(job.read_text().replace(", api_key_env: null", ""))
    ended = pipeline(
        "nightly", job, "--print", "--systemd", cwd=tmp_path, env={"GEMINI_API_KEY": "k" * 30}
    )
    assert ended.code == 0, ended.err
    assert "00:00:05 America/Los_Angeles" in ended.out


def test_jobs_on_one_account_share_its_day(tmp_path: Path) -> None:
    """Two to one of what the job allows; a job elsewhere keeps its own day."""
    more = "quota: {requests_per_day: 50}\n"
    one, two = (job_in(tmp_path, name, more=more) for name in ("one", "two"))
    other = job_in(tmp_path, "other", profile="vllm", more=more)
    other.write_text(other.read_text().replace("127.0.0.1:9", "127.0.0.2:9"))
    ended = pipeline(
        "nightly", f"{one}:2", two, other, "--per-day", 50, "--print", "--cron", cwd=tmp_path
    )
    lines = [line for line in ended.out.splitlines() if line.startswith("*/15")]

    assert ended.code == 0, ended.err
    assert [line.partition("requests_per_day=")[2][:2] for line in lines] == ["33", "17", ""]
