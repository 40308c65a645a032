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
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.captioning.counters import RunCounters
from pipeline.captioning.progress_line import ends_at, events, fitted, progress_parts
from tests.support.command import simulator, start, write_job
from tests.support.pictures import folder_of

FRAME = re.compile(
    r"\d+ of 40 images \(\d+%\)(, (\d+ more nights?|ends (tonight |tomorrow )?\d\d:\d\d))?"
    r"(, \d+ captions/min)?(, \d+ requests? left today)?(, \d+ failed)?(, \d+x 429)?"
    r"(, \$\d+\.\d\d)?(, \d+ in flight)?"
)


def on_a_terminal(job: Path, columns: int) -> tuple[int, str]:
    """A run on a terminal of so many columns: its exit code and all it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    state = {"CAPTION_PIPELINE_STATE": str(job.parent / "state")}
    process = start("run", job, env=state, stdin=subprocess.DEVNULL, stderr=theirs)
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


def frames_and_lines(text: str) -> tuple[list[str], list[str]]:
    """What was written to a terminal: each state of the progress line; the lines of the log."""
    frames: list[str] = []
    logged: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        *drawn, last = [one.rstrip() for one in line.split("\r")]
        frames += [one for one in drawn if one]
        (frames if FRAME.fullmatch(last) else logged).append(last)
    return frames, [one for one in logged if one]


def test_the_line_is_whole_at_every_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is one line of whole words, no longer than the terminal; log lines stand on
    lines of their own; the first line says what will happen, the last what did. Three terminals at
    once: the line is drawn every other second."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    images, widths = folder_of(tmp_path, 40), (60, 100, 200)
    quota = {"requests_per_minute": None, "requests_per_day": 30, "concurrency": 2}
    jobs = []
    with simulator(tmp_path, "latency=[0.3, 0.5]", "rpm=null") as server:
        for columns in widths:
            (tmp_path / str(columns)).mkdir()
            jobs.append(write_job(tmp_path / str(columns), server.base, images, quota=quota))
        with ThreadPoolExecutor(len(jobs)) as terminals:
            ended = list(terminals.map(on_a_terminal, jobs, widths))

    for columns, (code, text) in zip(widths, ended, strict=True):
        frames, logged = frames_and_lines(text)
        assert code == 75
        assert len(frames) >= 3
        for frame in frames:
            assert FRAME.fullmatch(frame), frame
            assert len(frame) < columns, frame
        assert any("more night" in frame for frame in frames), frames
        if columns >= 100:
            assert any("0 requests left today" in frame for frame in frames), frames
            assert any("in flight" in frame for frame in frames), frames
        assert "40 images" in logged[0]
        assert "asking 40" in logged[0]
        assert "30 of 40 images captioned" in logged[-1]
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
        (QUIET, {**QUIET, "next_probe": 30.0, "last_error": "busy"}, ["busy; asked again at 1970"]),
        ({**QUIET, "next_probe": 30.0}, {**QUIET, "next_probe": 30.00001}, []),
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
    two_each = RunCounters(images=18, prompts=2)
    assert progress_parts(two_each, 18, {}, 0.0, EVENING)[0] == "0 of 18 captions (0%)"
    unknown = RunCounters(images=10, more=True, captioned=8, settled=8, requests=8)
    parts = progress_parts(unknown, 10, QUIET, 2.0, EVENING)
    assert parts[0] == "8 images", "no share of a number that nobody knows"
    assert not [part for part in parts if "ends" in part or "night" in part]


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
