"""Outages of the pictures' side under a real run: none fails an image that is whole."""

from __future__ import annotations

import asyncio
import csv
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.images.hosts import host, reply
from tests.support.checker import published
from tests.support.command import pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of, picture

ROWS = 150


def counts(folder: Path) -> Counter[str]:
    return Counter(row["error_code"] or "ok" for row in published(folder / "out").values())


def folder_away(folder: Path, _: Any, seconds: float) -> None:
    (folder / "images").rename(folder / "gone")
    time.sleep(seconds)  # the outage of a real folder
    (folder / "gone").rename(folder / "images")


def workers_killed(_: Path, run: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.poll() is None:
        for child in psutil.Process(run.pid).children():
            if "spawn_main" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
        time.sleep(0.05)  # memory is short for a while


Outage = Callable[[Path, Any, float], None]


def struck(folder: Path, outage: Outage, seconds: float, after: int) -> None:
    """One run whose pictures are away for a while; then all is captioned."""
    table = folder_of(folder, ROWS)
    with simulator(folder, "rpm=null", "latency=[0.02, 0.05]") as server:
        quota = {"requests_per_minute": None, "concurrency": 4}
        job = write_job(folder, server.base, table, quota=quota)
        run = start("run", job)
        until(lambda: len(server.asked()) > after or run.poll() is not None)
        outage(folder, run, seconds)
        assert run.wait() == 0
        assert len(server.answered()) == ROWS
    assert counts(folder) == {"ok": ROWS}


@pytest.mark.parametrize("outage", [folder_away, workers_killed])
def test_an_outage_fails_no_picture(outage: Outage, tmp_path: Path) -> None:
    struck(tmp_path, outage, 2.0, after=30)


@pytest.mark.weekly
def test_thirty_random_outages_fail_no_picture(tmp_path: Path) -> None:
    """Folder and workers, at random instants, for random times."""
    for seed in range(30):
        rng = random.Random(seed)
        (tmp_path / str(seed)).mkdir()
        outage = rng.choice([folder_away, workers_killed])
        struck(tmp_path / str(seed), outage, rng.uniform(0.2, 4.0), after=rng.randrange(1, 100))


def test_what_is_left_when_patience_ends_is_asked_by_the_next_run(tmp_path: Path) -> None:
    """75 with the folder named; nothing failed."""
    table = folder_of(tmp_path, ROWS)
    with simulator(tmp_path, "rpm=null", "latency=[0.02, 0.05]") as server:
        quota = {"requests_per_minute": None, "concurrency": 4}
        job = write_job(
            tmp_path, server.base, table, quota=quota, endpoint={"patience": 2}, run={"drain": 5}
        )
        run = start("run", job, "--json")
        until(lambda: len(server.asked()) > 20)
        (tmp_path / "images").rename(tmp_path / "gone")
        assert run.wait() == 75
        assert set(counts(tmp_path)) == {"ok"}
        (tmp_path / "gone").rename(tmp_path / "images")
        assert pipeline("run", job).code == 0
    assert counts(tmp_path) == {"ok": ROWS}


class Host(threading.Thread):
    """A picture host on a port of its own that can be stopped and started again."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(daemon=True)
        self.port, self._wanted, self._ready = port, port, threading.Event()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self.start()
        self._ready.wait()

    def run(self) -> None:
        async def serve() -> None:
            async with host(self.answer, port=self._wanted) as seen:
                self.port = seen.port
                self._ready.set()
                await self._closing.wait()

        self._loop.run_until_complete(serve())

    @staticmethod
    def answer(asked: Any) -> bytes:
        return reply(picture(int(asked.path.strip("/").removesuffix(".jpg"))))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self.join()
        self._loop.close()


def test_a_host_that_dies_and_comes_back_fails_no_picture(tmp_path: Path) -> None:
    """Connection refused in mid-run: its images wait, the circuit probes, all are captioned."""
    pictures = Host()
    table = tmp_path / "urls.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["url"])
        rows.writerows([f"http://127.0.0.1:{pictures.port}/{n}.jpg"] for n in range(ROWS))
    with simulator(tmp_path, "rpm=null", "latency=[0.02, 0.05]") as server:
        quota = {"requests_per_minute": None, "concurrency": 4}
        allow = {"allow": [f"127.0.0.1:{pictures.port}"]}
        job = write_job(tmp_path, server.base, table, quota=quota, images=allow)
        run = start("run", job)
        until(lambda: len(server.asked()) > 30)
        pictures.close()
        until(lambda: "circuit open" in logged(tmp_path))
        pictures = Host(pictures.port)
        assert run.wait() == 0
        pictures.close()
    assert counts(tmp_path) == {"ok": ROWS}


def logged(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "out/_state/logs").glob("*"))
