"""The real command, killed with -9 at random instants, with the server's log as ground truth."""

from __future__ import annotations

import collections
import itertools
import random
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from tests.faults.conftest import Table
from tests.support.checker import check_whole, published
from tests.support.command import Server, pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of
from tests.support.weekly import weekly

ROWS, FLIGHT = 240, 8
#: Seconds of an answer, from … to.
LATENCY = (0.05, 0.25)


class Reader(threading.Thread):
    """Globs the output again and again, as a user's notebook would; keeps what went wrong."""

    def __init__(self, output: Path) -> None:
        super().__init__(daemon=True)
        self._output, self._ended = output, threading.Event()
        self.looks, self.trouble = 0, list[str]()

    def run(self) -> None:
        while not self._ended.wait(0.02):
            try:
                published(self._output)
                self.looks += 1
            except FileNotFoundError:
                continue  # a part that was emptied between the listing and the reading
            except (AssertionError, pa.ArrowException, OSError) as error:
                self.trouble.append(repr(error))

    def close(self) -> None:
        self._ended.set()
        self.join()


def answered(server: Server) -> collections.Counter[str]:
    """How often each image was answered, by the server's own log."""
    return collections.Counter(
        image["sha256"] for one in server.answered() for image in one["images"]
    )


def kill_until_done(tmp_path: Path, kills: int, packs: int, seed: int) -> dict[str, int]:
    """Start, kill at a random instant, check, again; at the end run to the end."""
    rng = random.Random(seed)
    images = folder_of(tmp_path, ROWS)
    output, fired = tmp_path / "out", 0
    #: Seconds that all requests take: the kills are spread over them.
    asking = ROWS / packs / FLIGHT * (LATENCY[0] + LATENCY[1]) / 2
    knobs = (f"latency={list(LATENCY)}", "rpm=null")
    with simulator(tmp_path, *knobs, seed=seed) as server:
        job = write_job(
            tmp_path,
            server.base,
            images,
            quota={"requests_per_minute": None, "concurrency": FLIGHT},
            packing={"images_per_request": packs},
        )
        reader = Reader(output)
        reader.start()
        for number in range(kills):
            process, before = start("run", job), len(server.asked())
            longest = 0.8
            if number % 5:  # else somewhere in the start-up
                until(lambda: len(server.asked()) > before or process.poll() is not None)  # noqa: B023
                longest = asking / kills
            time.sleep(rng.uniform(0.0, longest))  # an instant of the process's real life
            process.kill()
            fired += process.wait() == -signal.SIGKILL
            published(output)
        ended = pipeline("run", job, "--json")
        reader.close()
        total = answered(server)
    assert ended.code == 0, ended.err
    records = check_whole(output)
    assert len(records) == ROWS == len(total)
    assert all(record["status"] == "ok" for record in records.values())
    assert not reader.trouble, reader.trouble[:3]
    assert reader.looks > 0
    again = sum(total.values()) - ROWS
    assert again <= fired * FLIGHT * packs
    return {"kills": kills, "fired": fired, "again": again, "looks": reader.looks}


@pytest.mark.parametrize("packs", [1, 5])
def test_killed_a_few_times(tmp_path: Path, packs: int) -> None:
    """Five kills: nothing acknowledged is lost or doubled, asked again at most what was in flight."""
    assert kill_until_done(tmp_path, 5, packs, packs)["fired"] >= 3


@pytest.mark.faults
def test_killed_again_and_again(tmp_path: Path, table: Table) -> None:
    """At least so many kills that found the process alive, each folder of them a job."""
    wanted = weekly(1000, 20)
    found: collections.Counter[str] = collections.Counter()
    for seed in itertools.count():
        folder = tmp_path / str(seed)
        folder.mkdir()
        found.update(kill_until_done(folder, 10, (1, 4)[seed % 2], seed))
        if found["fired"] >= wanted:
            break
        assert seed < max(10, wanted * 3 // 10), (
            f"only {found['fired']} of {found['kills']} kills met a live process"
        )
    print(f"\nkill -9: {found['again']} images asked again, {found['looks']} looks by the reader")
    assert found["again"] > 0, "void: every kill came before the first request"
    # A kill that came after the run had ended is no kill: it is tried again, not counted.
    table.add("kill -9 of the command", runs=found["fired"], of=1000, fired=found["fired"])
