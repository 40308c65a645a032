"""The units and lines that start a run each night, read by the tools that will read them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipeline.nightly import units
from pipeline.nightly.units import Night
from tests.support.command import pipeline
from tests.support.pictures import manifest

NIGHT = Night(
    name="photos",
    job="/data/my jobs/100 % $HOME.yaml",
    folder="/data",
    program=("/usr/bin/python3", "-m", "pipeline"),
    zone="UTC",
    drain=60.0,
)
JOB = "name: {}\nmanifest: {{path: images.csv}}\nendpoint: {{profile: {}, model: m, api_key_env: null}}\n"


def tool(name: str) -> str:
    """A program that must be there on CI; elsewhere its absence is shown as a skip."""
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return found


def job_in(folder: Path, name: str = "photos", profile: str = "openai", more: str = "") -> Path:
    manifest(folder / "images.csv", [{"url": "https://example.org/a.jpg"}])
    if profile == "openai":
        more += "\n"
    text = JOB.format(name, profile).replace("}\n", "}\n")
    if profile in ("openai", "vllm"):
        text = text.replace("model: m", "model: m, base_url: 'http://127.0.0.1:9/v1'")
    path = folder / f"{name}.yaml"
    path.write_text(text + more)
    return path


def test_systemd_reads_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has no word against them, with spaces, % and $ in the paths."""
    analyze = tool("systemd-analyze")
    job = tmp_path / "100 % $HOME.yaml"
    night = replace(NIGHT, job=str(job), folder=str(tmp_path), share=20)
    for ending, text in (("service", units.service(night)), ("timer", units.timer(night))):
        (tmp_path / f"{night.unit}.{ending}").write_text(text)
    done = subprocess.run(
        [analyze, "--user", "verify", "--man=no", str(tmp_path / f"{night.unit}.timer"),
         str(tmp_path / f"{night.unit}.service")],
        capture_output=True, text=True, check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    assert night.unit not in done.stderr, done.stderr


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_the_timer_elapses_at_the_reset(zone: str) -> None:
    """systemd's own calendar says: five seconds after midnight in the quota's zone, also on the
    two days when its clocks change."""
    analyze = tool("systemd-analyze")
    line = next(
        one.removeprefix("OnCalendar=")
        for one in units.timer(replace(NIGHT, zone=zone)).splitlines()
        if one.startswith("OnCalendar=")
    )
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


def test_the_command_of_the_service_is_the_command(tmp_path: Path) -> None:
    """What systemd would start, unquoted by its rules, is the program with its arguments."""
    line = next(
        one.removeprefix("ExecStart=")
        for one in units.service(replace(NIGHT, share=7)).splitlines()
        if one.startswith("ExecStart=")
    )
    words = [word.replace("%%", "%").replace("$$", "$") for word in line[1:-1].split('" "')]
    assert tuple(words) == replace(NIGHT, share=7).command
    assert words[-2:] == ["--set", "quota.requests_per_day=7"]


@pytest.mark.parametrize("code", [0, 75, 76, 1, 77])
def test_cron_runs_the_line_and_fails_when_the_run_does(tmp_path: Path, code: int) -> None:
    """As cron does it: the sixth field to `sh -c`, % unescaped. 75 and 76 are no failures; what
    the program gets is what it should."""
    program = tmp_path / "it's a program"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" > "{tmp_path}/got"\nexit {code}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    folder = tmp_path / "with 100 % $HOME"
    folder.mkdir()
    night = replace(NIGHT, program=(str(program),), folder=str(folder))
    fields = units.cron(night).split(" ", 5)
    assert fields[:5] == ["0,30", "*", "*", "*", "*"]
    done = subprocess.run(
        ["/bin/sh", "-c", fields[5].replace("\\%", "%").replace("sleep 5", "sleep 0")], check=False
    )
    got = (tmp_path / "got").read_text().splitlines()

    assert got == [str(folder), "run", NIGHT.job, "--quiet"]
    assert (done.returncode == 0) == (code in (0, 75, 76))


def test_a_crontab_keeps_all_other_lines() -> None:
    """Adding twice is adding once; removing leaves what was there before."""
    table = "MAILTO=me\n5 4 * * * other # caption-pipeline-photos\n"
    added = table + units.cron(NIGHT) + "\n"

    assert units.without(added, NIGHT.unit) == table
    assert units.without(table, NIGHT.unit) == table


@pytest.mark.parametrize(
    ("limit", "weights", "found"),
    [(50, [2, 1], [33, 17]), (50, [1, 1, 1], [17, 17, 16]), (3, [1, 1, 1], [1, 1, 1])],
)
def test_a_day_is_shared_whole(limit: int, weights: list[int], found: list[int]) -> None:
    """By weight, nothing left over."""
    assert units.shares(limit, weights) == found
    assert sum(found) == limit


def test_weights() -> None:
    """`path:2`, a path with a colon, none below 1, none twice."""
    assert units.weighted(["a.yaml:2", "b:c.yaml", "d"]) == {"a.yaml": 2, "b:c.yaml": 1, "d": 1}
    for wrong in (["a:0"], ["a", "a:2"]):
        with pytest.raises(ValueError, match="a"):
            units.weighted(wrong)


def test_units_of_different_jobs_have_different_names() -> None:
    """Also where two jobs have one name, or a name of signs alone."""
    names = {replace(NIGHT, name=name, job=job).unit for name in ("photos", "///") for job in "ab"}
    assert len(names) == 4
    assert all(name.isascii() and " " not in name for name in names)


# --- the command


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
    ended = pipeline("nightly", f"{one}:2", two, other, "--print", "--cron", cwd=tmp_path)
    lines = ended.out.splitlines()

    assert ended.code == 0, ended.err
    assert [line.partition("requests_per_day=")[2][:2] for line in lines] == ["33", "17", ""]


def test_bad_calls(tmp_path: Path) -> None:
    """One line and the documented code."""
    job = job_in(tmp_path)
    for arguments, code in (((f"{job}:0",), 64), ((job, job), 64), (("none.yaml",), 78)):
        ended = pipeline("nightly", *arguments, "--print", cwd=tmp_path)
        assert ended.code == code, ended.err
        assert len(ended.err.splitlines()) == 1
