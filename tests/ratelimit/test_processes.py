"""Real processes on one ledger, one of them killed: real time, with minutes of two seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from pipeline.model import Limits
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.ratelimit.today import today
from tests.ratelimit.child import MINUTE, PER_DAY, PER_MINUTE
from tests.ratelimit.servers import most_in_window


class Process:
    """One of them, imported and ready to begin."""

    def __init__(self, tmp_path: Path, output: str) -> None:
        self.output, self._log = output, tmp_path
        arguments = [str(tmp_path / "state"), str(tmp_path / "log"), output, "60"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ratelimit.child", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def begin(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def wait_for(self, count: int) -> None:
        """Until it has sent so many."""
        end = time.monotonic() + 60.0
        while Counter(output for _, output in lines(self._log))[self.output] < count:
            assert time.monotonic() < end, "the process sent nothing"
            time.sleep(0.02)

    def end(self) -> int:
        self.process.communicate(timeout=60.0)
        return self.process.returncode


def lines(tmp_path: Path) -> list[tuple[float, str]]:
    log = tmp_path / "log"
    if not log.exists():
        return []
    pairs = [line.split() for line in log.read_text().splitlines()]
    return [(float(at), output) for at, output in pairs]


def test_two_processes_and_one_after_a_kill_keep_the_minute_and_the_day(tmp_path: Path) -> None:
    """The first is killed in the middle, a third begins: never over, and the day is used up."""
    first, second, third = (Process(tmp_path, name) for name in ("first", "second", "third"))
    first.begin()
    second.begin()
    first.wait_for(5)
    second.wait_for(5)
    first.process.send_signal(signal.SIGKILL)
    assert first.end() == -signal.SIGKILL
    third.begin()
    assert second.end() == 0
    assert third.end() == 0

    sent = lines(tmp_path)
    counted = today(
        tmp_path / "state",
        QuotaSettings(),
        Limits(requests_per_day=PER_DAY),
        account="account",
        model="m",
        output="first",
        now=time.time(),
    )
    assert most_in_window([at for at, _ in sent], MINUTE) <= PER_MINUTE
    assert counted.used == PER_DAY
    # A permit between its reservation and its line when the signal came stays spent.
    assert PER_DAY - 4 <= len(sent) <= PER_DAY
    assert PER_DAY - len(sent) <= counted.unknown <= 8
    assert {output for _, output in sent} == {"first", "second", "third"}
