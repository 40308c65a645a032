"""Outages of the pictures' side under a real run: none fails an image that is whole."""

from __future__ import annotations

import asyncio
import random
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.images.hosts import host, reply
from tests.store.remote.buckets import BUCKET, ask, login, proxy, s3
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
            with suppress(psutil.Error):  # it has ended by itself meanwhile
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
        time.sleep(0.05)  # memory is short for a while


def descriptors_lowered(_: Path, run: Any, seconds: float) -> None:
    """A few can be opened, then none."""
    before = resource.prlimit(run.pid, resource.RLIMIT_NOFILE)
    most = max(int(path.name) for path in Path(f"/proc/{run.pid}/fd").iterdir())
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (max(most - 3, 3), before[1]))
    time.sleep(seconds)  # descriptors are short for a while
    with suppress(ProcessLookupError):
        resource.prlimit(run.pid, resource.RLIMIT_NOFILE, before)


def host_away(hosts: list[Host]) -> Outage:
    def strike(_: Path, run: Any, seconds: float) -> None:
        hosts[0].close()
        time.sleep(seconds)  # the outage of a real host
        hosts[0] = Host(hosts[0].port)

    return strike


Outage = Callable[[Path, Any, float], None]


@dataclass(frozen=True)
class Struck:
    """A manifest of `ROWS` pictures, and `images` of its job."""

    table: Path
    images: dict[str, Any] = field(default_factory=dict)


def struck(folder: Path, job: Struck, outage: Outage, seconds: float, after: int) -> None:
    """One run whose pictures are away for a while; then all is captioned."""
    with simulator(folder, "rpm=null", "latency=[0.02, 0.05]") as server:
        quota = {"requests_per_minute": None, "concurrency": 4}
        path = write_job(folder, server.base, job.table, quota=quota, images=job.images)
        run = start("run", path, forked=False)  # its workers are known by their command lines
        until(lambda: len(server.asked()) > after or run.poll() is not None)
        outage(folder, run, seconds)
        assert run.wait() == 0
        assert len(server.answered()) == ROWS
    assert counts(folder) == {"ok": ROWS}


@pytest.mark.parametrize("outage", [folder_away, workers_killed])
def test_an_outage_fails_no_picture(outage: Outage, tmp_path: Path) -> None:
    struck(tmp_path, Struck(folder_of(tmp_path, ROWS)), outage, 2.0, after=30)


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


def test_descriptors_that_do_not_come_back_end_no_run(tmp_path: Path) -> None:
    """What it kept in reserve is enough for pictures, parts and the ledger."""
    table = folder_of(tmp_path, ROWS)
    with simulator(tmp_path, "rpm=null", "latency=[0.02, 0.05]") as server:
        quota = {"requests_per_minute": 3000, "concurrency": 4}
        run = start("run", write_job(tmp_path, server.base, table, quota=quota))
        until(lambda: len(server.asked()) > 30)
        most = max(int(path.name) for path in Path(f"/proc/{run.pid}/fd").iterdir())
        resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (most - 3, 4096))
        assert run.wait() == 0
    assert counts(tmp_path) == {"ok": ROWS}


@pytest.mark.parametrize("root", ["the job's", "the manifest's"])
def test_a_folder_that_is_away_from_the_start_fails_nothing(root: str, tmp_path: Path) -> None:
    """75 and its name; with it there, all is captioned. A wrong path fails by itself."""
    table = folder_of(tmp_path, 12)
    with table.open("a") as file:
        file.write("row-x,images/none.jpg\n")
    away, images = tmp_path / "images", {}
    if root == "the job's":
        away, images = tmp_path / "nas", {"root": str(tmp_path / "nas")}
        away.mkdir()
        (tmp_path / "images").rename(away / "images")
    with simulator(tmp_path, "rpm=null") as server:
        endpoint = {"patience": 1}
        job = write_job(tmp_path, server.base, table, endpoint=endpoint, images=images)
        away.rename(tmp_path / "gone")
        ended = pipeline("run", job, "--json")
        assert (ended.code, ended.summary["failed"], ended.summary["left"]) == (75, 0, 13)
        assert str(away) in ended.summary["reason"]
        assert not server.asked()
        (tmp_path / "gone").rename(away)
        assert pipeline("run", job).code == 1
    assert counts(tmp_path) == {"ok": 12, "missing_file": 1}


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


@contextmanager
def hosted(folder: Path, rows: int) -> Iterator[tuple[list[Host], Path, dict[str, Any]]]:
    """A host (in a list, to be replaced), a table of its pictures, `images` of the job."""
    hosts, table = [Host()], folder / "urls.csv"
    port = hosts[0].port
    lines = ["url", *(f"http://127.0.0.1:{port}/{n}.jpg" for n in range(rows))]
    table.write_text("\n".join(lines) + "\n")
    try:
        yield hosts, table, {"allow": [f"127.0.0.1:{port}"]}
    finally:
        hosts[0].close()


def test_a_host_that_dies_and_comes_back_fails_no_picture(tmp_path: Path) -> None:
    """Connection refused in mid-run: its images wait, the circuit probes, all are captioned."""
    with (
        hosted(tmp_path, ROWS) as (hosts, table, allow),
        simulator(tmp_path, "rpm=null", "latency=[0.02, 0.05]") as server,
    ):
        quota = {"requests_per_minute": None, "concurrency": 4}
        job = write_job(tmp_path, server.base, table, quota=quota, images=allow)
        run = start("run", job)
        until(lambda: len(server.asked()) > 30)
        hosts[0].close()
        until(lambda: "circuit open" in logged(tmp_path))
        hosts[0] = Host(hosts[0].port)
        assert run.wait() == 0
    assert counts(tmp_path) == {"ok": ROWS}


def logged(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "out/_state/logs").glob("*"))


@pytest.mark.weekly
@pytest.mark.parametrize("seed", range(30))
def test_a_random_outage_fails_no_picture(seed: int, tmp_path: Path) -> None:
    """Folder, host, workers or descriptors, at random instants, for random times."""
    rng = random.Random(seed)
    outage = ("folder", "host", "workers", "descriptors")[seed % 4]
    after, seconds = rng.randrange(1, 100), rng.uniform(0.2, 4.0)
    print(f"seed {seed}: {outage} after {after} requests for {seconds:.1f} s")
    if outage == "host":
        with hosted(tmp_path, ROWS) as (hosts, table, allow):
            struck(tmp_path, Struck(table, allow), host_away(hosts), seconds, after)
    else:
        strike = {
            "folder": folder_away,
            "workers": workers_killed,
            "descriptors": descriptors_lowered,
        }
        struck(tmp_path, Struck(folder_of(tmp_path, ROWS)), strike[outage], seconds, after)


@pytest.mark.parametrize(
    "seed", [3, *(pytest.param(n, marks=pytest.mark.weekly) for n in range(4, 14))]
)
def test_an_overloaded_bucket_fails_no_picture(seed: int, tmp_path: Path) -> None:
    """It says 503 or closes the connection for a share of all requests, and gives the others."""
    rng = random.Random(seed)
    share, faults = rng.uniform(0.4, 0.8), rng.choice([["503"], ["503", "500", "cut", "lost"]])
    after, seconds = rng.randrange(40), rng.uniform(6.0, 12.0)
    began: list[float] = []

    def storm(*_: str) -> str | None:
        raging = began and time.monotonic() - began[0] < seconds
        return rng.choice(faults) if raging and rng.random() < share else None

    table = tmp_path / "m.csv"
    table.write_text("url\n" + "".join(f"s3://{BUCKET}/{n}.jpg\n" for n in range(ROWS)))
    with (
        s3() as port,
        proxy(port, storm) as (through, happened),
        simulator(tmp_path, "rpm=null", "latency=[0.02, 0.05]") as server,
    ):
        for number in range(ROWS):
            assert ask(port, "PUT", f"/{BUCKET}/{number}.jpg", picture(number)) == 200
        quota = {"requests_per_minute": None, "concurrency": 4}
        job = write_job(tmp_path, server.base, table, quota=quota)
        run = start("run", job, env=login(through))
        until(lambda: len(server.asked()) > after or run.poll() is not None)
        began.append(time.monotonic())
        assert run.wait() == 0
    print(f"seed {seed}: {share:.0%} of all for {seconds:.0f} s: {dict(Counter(happened))}")
    assert sum(Counter(happened).values()) > 10, "there was no storm"
    assert counts(tmp_path) == {"ok": ROWS}
