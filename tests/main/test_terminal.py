"""The progress line on a real pseudo-terminal, and what is said where there is none."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.captioning.counters import RunCounters
from pipeline.captioning.progress_line import ends_at, events, fitted, progress_parts
from tests.support.command import command, environment, simulator, write_job
from tests.support.pictures import folder_of

FRAME = re.compile(
    r"\d+ of 60 images \(\d+%\)(, (\d+ more nights?|ends (tonight |tomorrow )?\d\d:\d\d))?"
    r"(, \d+ captions/min)?(, \d+ requests left today)?(, \d+ failed)?(, \d+x 429)?"
    r"(, \$\d+\.\d\d)?(, \d+ in flight)?"
)


def on_a_terminal(words: list[str], columns: int, state: Path) -> tuple[int, str]:
    """The command on a terminal of so many columns: its exit code and all it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in environment().items() if k not in ("COLUMNS", "LINES")}
    env["CAPTION_PIPELINE_STATE"] = str(state)
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs, env=env
    )
    os.close(theirs)
    found = b""
    while True:
        select.select([ours], [], [], 60)
        try:
            data = os.read(ours, 65_536)
        except OSError:  # the other end was closed
            break
        found += data
    os.close(ours)
    return process.wait(60), found.decode()


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_the_line_is_whole_at_every_width(tmp_path: Path, columns: int) -> None:
    """Each frame is one line of whole words, no longer than the terminal; log lines stand on
    lines of their own; the first line says what will happen, the last what did."""
    images = folder_of(tmp_path, 60)
    with simulator(tmp_path, "latency=[0.3, 0.5]", "rpm=null") as server:
        job = write_job(
            tmp_path,
            server.base,
            images,
            quota={"requests_per_minute": None, "requests_per_day": 45, "concurrency": 2},
        )
        code, text = on_a_terminal(command("run", job), columns, tmp_path / "state")

    frames: list[str] = []
    logged: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        *drawn, last = [one.rstrip() for one in line.split("\r")]
        frames += [one for one in drawn if one]
        (frames if FRAME.fullmatch(last) else logged).append(last)
    logged = [one for one in logged if one]

    assert code == 75
    assert len(frames) >= 3
    for frame in frames:
        assert FRAME.fullmatch(frame), frame
        assert len(frame) < columns, frame
    assert any("more night" in frame for frame in frames), frames
    if columns >= 100:
        assert any("0 requests left today" in frame for frame in frames), frames
        assert any("in flight" in frame for frame in frames), frames
    assert "60 images" in logged[0]
    assert "asking 60" in logged[0]
    assert "45 of 60 images captioned" in logged[-1]
    assert "resume after" in logged[-1]


QUIET = {"limit": 50, "used": 10, "left": 40, "in_flight": 4, "weather": "open"}


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, QUIET, []),
        (QUIET, {**QUIET, "paused_until": 0.5}, ["paused until"]),
        ({**QUIET, "paused_until": 5.0}, QUIET, ["going on"]),
        (QUIET, {**QUIET, "weather": "closed"}, ["outage: nothing"]),
        ({**QUIET, "weather": "closed"}, QUIET, ["outage is over"]),
        (QUIET, {**QUIET, "left": 0, "resets_at": 86_400.0}, ["50 is spent, new at 1970-01-02"]),
        ({**QUIET, "left": 0}, {**QUIET, "left": 0}, []),
    ],
)
def test_each_event_is_said_once(
    before: dict[str, object], after: dict[str, object], words: list[str]
) -> None:
    """When it happens, and not while it lasts."""
    found = events(before, after)

    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


EVENING = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)


def test_everything_is_in_the_line() -> None:
    """Images done of all, the end, captions a minute, requests left, failures, 429s, money."""
    counters = RunCounters(
        images=4_000,
        captioned=1_390,
        settled=400,
        new_captions=390,
        requests=40,
        refused=2,
        failed={"dns": 10},
        cost_usd=0.421,
    )

    assert fitted(progress_parts(counters, 3_000, QUIET, 2.0, EVENING), 200) == (
        "1,400 of 4,000 images (35%), 5 more nights, 195 captions/min, 40 requests left today, "
        "10 failed, 2x 429, $0.42, 4 in flight"
    )
    assert fitted(progress_parts(counters, 3_000, {}, 2.0, EVENING), 50) == (
        "1,400 of 4,000 images (35%), ends 23:43"
    )
    assert progress_parts(RunCounters(images=9), 9, {}, 0.0, EVENING)[0] == "0 of 9 images (0%)"


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (0, "ends 23:30"),
        (29, "ends 23:59"),
        (160, "ends tonight 02:10"),
        (580, "ends tomorrow 09:10"),
        (2_020, "ends Mon 30 Nov 09:10"),
    ],
)
def test_the_end_is_told_by_the_clock(minutes: int, words: str) -> None:
    """Today by the hour, before six as tonight, later with its day."""
    assert ends_at(EVENING, minutes) == words
