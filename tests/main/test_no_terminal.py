"""What is said where there is no terminal: a line a minute, and one at each event as it comes."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.captioning.options import RunOptions
from pipeline.commands.run import run as command
from pipeline.config.job import load_job
from pipeline.simulator.core import Simulator
from tests.main.test_nights import FREE, job_of
from tests.support.environment import world_of
from tests.support.virtual import VirtualClock, run

A_MINUTE = re.compile(r"^\d+ of \d+ images \(\d+%\), ends .*\d\d:\d\d, \d+ captions/min")


def said(job: Path, **knobs: Any) -> tuple[list[str], float]:
    """All lines of a run into a file, and the minutes it took."""
    clock, stream = VirtualClock(), io.StringIO()

    async def one() -> None:
        service = Simulator(replace(FREE, **knobs), seed=1, clock=clock)
        environment = replace(world_of(service, clock, state=job.parent / "s"), stream=stream)
        await command(load_job(job, (), environment.environ), RunOptions(), environment)
        passed.append(clock.monotonic() / 60)

    passed: list[float] = []
    run(one())
    assert "\r" not in stream.getvalue(), "nothing is drawn over"
    return stream.getvalue().splitlines(), passed[0]


def test_a_line_a_minute(tmp_path: Path) -> None:
    """200 requests at 20 a minute: as many lines as minutes, first and last as ever."""
    lines, minutes = said(job_of(tmp_path, 200), rpd=1_000)
    each = [line for line in lines if A_MINUTE.match(line)]

    assert 9 <= minutes <= 12
    assert int(minutes) - 1 <= len(each) <= int(minutes) + 1
    assert "asking 200" in lines[0]
    assert "200 of 200 images captioned" in lines[-1]


def in_order(lines: list[str], *words: str) -> None:
    """Each stands in a line of its own, once, one after the other."""
    found = [next((at for at, line in enumerate(lines) if word in line), -1) for word in words]
    assert -1 not in found, (words, found, lines)
    assert found == sorted(found)
    for word in words:
        assert sum(word in line for line in lines[1:-1]) == 1, (word, lines)


def test_weather_and_the_spent_day(tmp_path: Path) -> None:
    """Closed, open again, then the quota: said when it happens, once each."""
    lines, _ = said(job_of(tmp_path, 300), rpd=120, outage=(60.0, 900.0))

    in_order(
        lines,
        "outage: nothing",
        "the outage is over",
        "the day's quota of 120 is spent, new at 2026-",
    )
    assert "resume after 2026-11-24 00:00:05 UTC" in lines[-1]


def test_a_pause_and_its_end(tmp_path: Path) -> None:
    """The service refuses for the rest of its minute: said, and that it goes on."""
    job = job_of(tmp_path, 30, quota={"requests_per_minute": None, "concurrency": 4})
    lines, _ = said(job, rpm=20, rpd=1_000)

    in_order(lines, "paused until 2026-11-23 00:0", "the pause is over")
    assert "30 of 30 images captioned" in lines[-1]
