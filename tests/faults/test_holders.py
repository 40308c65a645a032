"""One run at a time, and how a run is ended: signals, a second run, a holder that was killed."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Table
from tests.support.checker import check_whole, published
from tests.support.command import Server, pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of
from tests.support.weekly import weekly

FLIGHT = 4
#: Some answers come at once, others never: sooner or later every slot waits for one of those.
HANGING = ("faulty=0.3", 'faults=["hang"]', "rpm=null")
#: How long a drain may take: far longer than any of these tests.
FOR_EVER = {"drain": 3600.0}


def job_on(folder: Path, server: Server, rows: int) -> Path:
    return write_job(
        folder,
        server.base,
        folder_of(folder, rows),
        quota={"requests_per_minute": None, "concurrency": FLIGHT},
        run=FOR_EVER,
    )


def hanging(server: Server) -> int:
    """Requests that will never get an answer."""
    return sum(one["fault"] == "hang" for one in server.asked())


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Its decode workers."""
    return [one for one in process.children() if "--multiprocessing-fork" in one.cmdline()]


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_second_signal_ends_at_once(tmp_path: Path, name: str, code: int, table: Table) -> None:
    """The first one waits for answers that never come; the second gives them up, and only them."""
    number = getattr(signal, name)
    with simulator(tmp_path, *HANGING) as server:
        job = job_on(tmp_path, server, 60)
        process = start("run", job)
        until(lambda: hanging(server) == FLIGHT)
        process.send_signal(number)
        with pytest.raises(AssertionError):
            until(lambda: process.poll() is not None, seconds=1)
        process.send_signal(number)
        assert process.wait(60) == code
        answered = len(server.asked()) - FLIGHT
    assert 0 < answered < 60
    lost = answered - len(published(tmp_path / "out"))
    table.add(f"{name} twice", runs=1, fired=1, lost=lost)


def test_a_second_run_sends_nothing_and_the_next_takes_over(tmp_path: Path, table: Table) -> None:
    """Refused by name while the holder lives, no request sent; once the holder was killed the next
    one gets in at once, although a decode worker of the dead one is still there."""
    with simulator(tmp_path, *HANGING) as server:
        job = job_on(tmp_path, server, 30)
        process = start("run", job, forked=False)  # its workers are known by their command lines
        until(lambda: hanging(server) == FLIGHT)
        before = server.received()

        second = pipeline("run", job)
        assert second.code == 76, second.err
        assert f"pid {process.pid} on " in second.err
        assert server.received() == before, "the second run sent something"

        workers = workers_of(psutil.Process(process.pid))
        try:
            for one in workers:
                one.suspend()  # or it would be gone before the next run starts
            process.kill()
            assert process.wait() == -signal.SIGKILL
            third = start("run", job)
            until(lambda: len(server.received()) > len(before))
            alive = [one for one in workers if one.is_running()]
            third.send_signal(signal.SIGTERM)
            third.send_signal(signal.SIGTERM)
            third.wait(60)
        finally:
            for one in workers:
                one.resume()
        psutil.wait_procs(workers, 20)
        assert not any(one.is_running() for one in workers), "a worker outlived its driver"
    with simulator(tmp_path, "rpm=null") as server:
        ended = pipeline("run", job, f"--set=endpoint.base_url={server.base}", "--json")
    assert ended.code == 0, ended.err
    assert len(check_whole(tmp_path / "out")) == 30
    table.add("holder killed, its child not", runs=1, fired=bool(alive))


@pytest.mark.faults
def test_takeover_again_and_again(tmp_path: Path, table: Table) -> None:
    """Holders killed one after the other: each next one is let in."""
    runs = weekly(100, 8)
    fired = 0
    with simulator(tmp_path, "latency=[3600, 3600]", "rpm=null") as server:
        job = job_on(tmp_path, server, 10)
        for _ in range(runs):
            record_result = len(server.asked())
            process = start("run", job)
            until(lambda: len(server.asked()) > record_result or process.poll() is not None)  # noqa: B023
            assert process.poll() is None, "it was not let in"
            process.kill()
            fired += process.wait() == -signal.SIGKILL
    table.add("takeover", runs=runs, of=100, fired=fired)
