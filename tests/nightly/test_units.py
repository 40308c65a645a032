"""The generated units and lines, read by the real tools: systemd-analyze, crontab, croniter, sh."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.nightly import cron, systemd
from pipeline.nightly.scheduled_job import ScheduledJob, shares
from tests.support.tools import tool

PACIFIC = "America/Los_Angeles"


def night(folder: Path, **more: object) -> ScheduledJob:
    job = folder / "photos.yaml"
    python = folder / "python"
    python.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$PWD" "$SECRET" "$@" > "$(dirname "$0")/told"\n'
        'exit $(cat "$(dirname "$0")/code")\n'
    )
    python.chmod(0o755)
    (folder / "code").write_text("0")
    held = {"job": job, "folder": folder, "python": python, "zone": "UTC", **more}
    return ScheduledJob(**held)  # type: ignore[arg-type]  # a test passes what it likes


def verified(folder: Path, one: ScheduledJob) -> subprocess.CompletedProcess[str]:
    paths = [folder / f"{one.name}.service", folder / f"{one.name}.timer"]
    for path, text in zip(paths, (systemd.service(one), systemd.timer(one)), strict=True):
        path.write_text(text)
    return subprocess.run(
        [tool("systemd-analyze"), "verify", *paths], capture_output=True, text=True
    )


@pytest.mark.parametrize("zone", ["UTC", PACIFIC])
def test_systemd_reads_the_units_without_a_word(tmp_path: Path, zone: str) -> None:
    """Verified by systemd itself, in a folder whose name has everything that needs quoting."""
    folder = tmp_path / '100% of "my" $HOME\'s \\ photos'
    folder.mkdir()
    found = verified(tmp_path, night(folder, zone=zone, share=17, python=Path("/bin/sh")))

    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_systemd_refuses_a_broken_unit(tmp_path: Path) -> None:
    """The check can fail: a zone that does not exist is refused."""
    found = verified(tmp_path, night(tmp_path, zone="Mars/Olympus"))

    assert "calendar" in found.stderr


@pytest.mark.parametrize(
    ("zone", "base", "expected"),
    [
        ("UTC", "2026-11-23 18:00:00 UTC", "2026-11-24 00:00:05"),
        (PACIFIC, "2026-11-23 18:00:00 UTC", "2026-11-24 08:00:05"),
        (PACIFIC, "2026-07-01 12:00:00 UTC", "2026-07-02 07:00:05"),
    ],
)
def test_the_timer_elapses_when_the_quota_is_new(zone: str, base: str, expected: str) -> None:
    """`systemd-analyze calendar` says the instant: midnight in the quota's zone + 5 s, in summer
    and in winter."""
    words = [tool("systemd-analyze"), "calendar", f"--base-time={base}", systemd.calendar(zone)]
    told = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"})

    assert told.returncode == 0, told.stderr
    assert f"{expected} UTC" in told.stdout


def test_the_service_says_what_75_means(tmp_path: Path) -> None:
    """Stopped with work left is no failure, downtime is caught up, and no key is in the text."""
    one = night(tmp_path, share=33, env_file=tmp_path / "key.env")

    assert "\nSuccessExitStatus=75\n" in systemd.service(one)
    assert "\nPersistent=true\n" in systemd.timer(one)
    assert f"\nEnvironmentFile={tmp_path}/key.env\n" in systemd.service(one)
    assert '"--set" "quota.requests_per_day=33"' in systemd.service(one)


def parts(line: str) -> tuple[str, str]:
    """(schedule, command as cron hands it to sh)."""
    words = line.split(" ", 1 if line.startswith("@") else 5)
    return " ".join(words[:-1]), words[-1].replace("\\%", "%")


def test_crontab_reads_the_lines(tmp_path: Path) -> None:
    """cron's own check takes the block, and refuses a line with a field missing."""
    table = tmp_path / "table"
    for text, good in ((cron.added("", night(tmp_path)), True), ("*/15 * * * echo\n", False)):
        table.write_text(text)
        done = subprocess.run([tool("crontab"), "-n", table], capture_output=True, text=True)
        assert (done.returncode == 0) is good, done.stderr


@pytest.mark.parametrize(
    ("zone", "day"),
    [("UTC", (2026, 11, 24)), (PACIFIC, (2026, 3, 8)), ("Asia/Kathmandu", (2026, 1, 1))],
)
def test_the_line_is_tried_at_the_zone_s_midnight(
    tmp_path: Path, zone: str, day: tuple[int, int, int]
) -> None:
    """croniter: one of the day's tries is exactly midnight there, wherever the machine is."""
    schedule, _ = parts(cron.lines(night(tmp_path, zone=zone))[1])
    midnight = datetime(*day, tzinfo=ZoneInfo(zone)).astimezone(ZoneInfo("UTC"))

    assert croniter.match(schedule, midnight)


@pytest.mark.parametrize(("now", "starts"), [("0000", True), ("0015", False)])
@pytest.mark.parametrize(("code", "seen"), [(0, 0), (75, 0), (76, 0), (1, 1), (77, 77)])
def test_what_cron_runs(tmp_path: Path, now: str, starts: bool, code: int, seen: int) -> None:
    """sh runs the line as cron would: only at midnight, in the folder, with the key from the
    file; work left (75) and a run that is still going on (76) are no failures."""
    folder = tmp_path / "it's 100% $HOME"
    folder.mkdir()
    (folder / "key.env").write_text("SECRET=hush\n")
    one = night(folder, env_file=folder / "key.env", share=3, zone=PACIFIC)
    (folder / "code").write_text(str(code))
    fakes = tmp_path / "bin"
    fakes.mkdir()
    (fakes / "date").write_text(f'#!/bin/sh\n[ "$TZ $1" = "{PACIFIC} +%H%M" ] && echo {now}\n')
    (fakes / "sleep").write_text("#!/bin/sh\n")
    for fake in fakes.iterdir():
        fake.chmod(0o755)
    _, command = parts(cron.lines(one)[1])
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={"PATH": f"{fakes}:/usr/bin:/bin"}, capture_output=True
    )

    assert (folder / "told").exists() is starts
    assert done.returncode == (seen if starts else 0), done.stderr
    if starts:
        told = (folder / "told").read_text().splitlines()
        assert told[:2] == [str(folder), "hush"]
        assert told[2:] == [*one.command[1:], "--quiet"]


def test_a_block_goes_in_once_and_out_whole(tmp_path: Path) -> None:
    """What else is in a crontab stays as it is."""
    others = "MAILTO=me\n\n5 4 * * * echo mine # it's\n"
    one = night(tmp_path)
    table = cron.added(cron.added(others, one), one)

    assert table.count("@reboot") == 1
    assert cron.removed(table, one.name) == others
    assert cron.removed(others, one.name) == others


def test_a_path_that_fits_in_no_timer_is_refused(tmp_path: Path) -> None:
    """A line break would be a second line of the unit; a long line would be cut by cron."""
    with pytest.raises(JobError, match="control characters"):
        ScheduledJob(job=Path("/a\nb"), folder=tmp_path, python=tmp_path, zone="UTC")
    with pytest.raises(JobError, match="too long"):
        cron.lines(
            ScheduledJob(job=Path("/" + "a" * 900), folder=tmp_path, python=tmp_path, zone="UTC")
        )


@given(st.integers(1, 5000), st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_shares_are_the_whole_day_by_weight(daily: int, weights: list[int]) -> None:
    """They add up exactly, each within one of its exact part; nobody gets nothing."""
    try:
        found = shares(daily, weights)
    except JobError:
        assert daily * min(weights) < sum(weights)
        return

    assert sum(found) == daily
    for share, weight in zip(found, weights, strict=True):
        assert abs(share - daily * weight / sum(weights)) < 1
        assert share >= 1
