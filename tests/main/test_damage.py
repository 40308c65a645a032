"""Damage to an output: named, never called whole, and with a way on that asks no caption again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.interpret import derive
from pipeline.store.parts import part_files
from pipeline.store.snapshot import read_state
from pipeline.store.unpublished import with_unpublished
from tests.store.test_store import opened, reply, sent
from tests.support.checker import check_whole, published
from tests.support.command import Server, pipeline, simulator, start, until, write_job
from tests.support.outputs import record, request, write_output
from tests.support.pictures import folder_of

ROWS = 30


def finished(folder: Path, server: Server) -> Path:
    job = write_job(folder, server.base, folder_of(folder, ROWS))
    assert pipeline("run", job).code == 0
    return job


def no_requests(out: Path) -> None:
    next((out / "requests").glob("*.parquet")).unlink()


def edited_requests(out: Path) -> None:
    path = next((out / "requests").glob("*.parquet"))
    pq.write_table(pq.read_table(path).slice(1), path)


def no_state(out: Path) -> None:
    shutil.rmtree(out / "_state")


def no_journal(out: Path) -> None:
    (out / "_state/journal.db").unlink()


@pytest.mark.parametrize("damage", [no_requests, edited_requests, no_state, no_journal])
def test_repair_asks_no_caption_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    with simulator(tmp_path, "rpm=null") as server:
        job = finished(tmp_path, server)
        damage(tmp_path / "out")
        assert pipeline("run", job).code == 73
        verified = pipeline("verify", job)
        assert verified.code == 73
        assert "all promises hold" not in verified.out
        repaired = pipeline("verify", job, "--repair")
        assert repaired.code == 0, repaired.out + repaired.err
        again = pipeline("run", job)
        assert again.code == 0, again.err
        assert len(server.asked()) == ROWS
    assert len(check_whole(tmp_path / "out")) == ROWS


def test_a_lost_part_of_captions_is_given_up_only_when_told(tmp_path: Path) -> None:
    with simulator(tmp_path, "rpm=null") as server:
        job = finished(tmp_path, server)
        part = next((tmp_path / "out/captions").glob("*.parquet"))
        part.unlink()
        assert pipeline("verify", job, "--repair").code == 73
        assert pipeline("verify", job, "--forget", "captions/x.parquet").code == 64
        unknown = pipeline("verify", job, "--repair", "--forget", "captions/x.parquet")
        assert unknown.code == 73
        assert "no such part" in unknown.err
        told = pipeline("verify", job, "--repair", "--forget", f"captions/{part.name}")
        assert told.code == 0, told.out + told.err
        assert f"its {ROWS} images are asked again" in told.out
        assert pipeline("run", job).code == 0
        assert len(server.asked()) == 2 * ROWS
    assert len(check_whole(tmp_path / "out")) == ROWS


def test_a_key_that_stands_twice_is_kept_once(tmp_path: Path) -> None:
    """As an earlier version could write them, by two runs at once."""
    with simulator(tmp_path, "rpm=null") as server:
        job = finished(tmp_path, server)
        first = next((tmp_path / "out/captions").glob("*.parquet"))
        table = pq.ParquetFile(first).read().slice(0, 3)
        pq.write_table(table, first.with_name("part-00000099.parquet"))
        (tmp_path / "out/_state/journal.db").unlink()
        assert pipeline("verify", job).code == 73
        repaired = pipeline("verify", job, "--repair")
        assert repaired.code == 0, repaired.out + repaired.err
        assert "3 records of keys that stand twice dropped" in repaired.out
    assert len(check_whole(tmp_path / "out")) == ROWS


def killed(folder: Path, server: Server) -> Path:
    """A run killed with answers that are in no part yet."""
    job = write_job(folder, server.base, folder_of(folder, 200))
    run = start("run", job)
    until(lambda: len(server.answered()) > 40)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    return job


def test_a_missing_log_of_the_journal_is_noticed(tmp_path: Path) -> None:
    """A copy that left it out: 73 with the remedy, before anything is asked again."""
    with simulator(tmp_path, "rpm=null", "latency=[0.02, 0.03]") as server:
        job = killed(tmp_path, server)
        (tmp_path / "out/_state/journal.db-wal").unlink()
        asked = len(server.asked())
        ended = pipeline("run", job)
        assert ended.code == 73
        assert "journal.db-wal: is missing" in ended.err
        assert "verify --repair" in ended.err
        assert len(server.asked()) == asked
        assert pipeline("verify", job).code == 73
        repaired = pipeline("verify", job, "--repair")
        assert repaired.code == 0, repaired.out + repaired.err
        assert pipeline("run", job).code == 0
    assert len(check_whole(tmp_path / "out")) == 200


def test_repair_leaves_a_killed_run_to_the_next_one(tmp_path: Path) -> None:
    """Nothing is damaged: the run goes on, and asks nothing again that was answered."""
    with simulator(tmp_path, "rpm=null", "latency=[0.02, 0.03]") as server:
        job = killed(tmp_path, server)
        repaired = pipeline("verify", job, "--repair")
        assert repaired.code == 0, repaired.out + repaired.err
        ended = pipeline("run", job)
        assert ended.code == 0, ended.err
        asked = len(server.asked())
    assert len(check_whole(tmp_path / "out")) == 200
    assert asked <= 200 + 8, "those in flight when it was killed, and no other, are asked again"


@contextmanager
def at_work(folder: Path) -> Iterator[tuple[Server, Path, subprocess.Popen[bytes]]]:
    """A run of 200 images that has asked some of them."""
    with simulator(folder, "rpm=null", "latency=[0.05, 0.06]") as server:
        job = write_job(folder, server.base, folder_of(folder, 200), quota={"concurrency": 4})
        run = start("run", job, stderr=subprocess.PIPE)
        until(lambda: len(server.asked()) > 20)
        yield server, job, run


def test_a_lock_file_that_is_removed_lets_nobody_in(tmp_path: Path) -> None:
    """The usual hand on a "stale" lock: the second run is refused, no key is asked twice."""
    with at_work(tmp_path) as (server, job, run):
        (tmp_path / "out/_state/lock").unlink()
        second = pipeline("run", job)
        assert second.code == 76, second.err
        run.communicate()
        assert run.returncode == 0
        assert len(server.asked()) == 200
    assert len(check_whole(tmp_path / "out")) == 200


def all_of_it(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)


def captions_then_journal(out: Path) -> None:
    shutil.rmtree(out / "captions")
    for path in (out / "_state").glob("journal.db*"):
        path.unlink()


@pytest.mark.parametrize("delete", [all_of_it, captions_then_journal])
def test_an_output_that_is_deleted_is_not_called_safe(
    delete: Callable[[Path], None], tmp_path: Path
) -> None:
    with at_work(tmp_path) as (_, job, run):
        delete(tmp_path / "out")
        err = run.communicate()[1].decode()
        assert run.returncode == 73, err
        assert "deleted" in err.splitlines()[-1]
        assert "safe in the journal" not in err
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert pipeline("run", job).code == 0
    assert len(published(tmp_path / "out")) == 200


def test_parts_that_cannot_be_written_leave_their_answers_in_the_journal(tmp_path: Path) -> None:
    """Said so, and true: the next run asks the rest alone."""
    with at_work(tmp_path) as (server, job, run):
        shutil.rmtree(tmp_path / "out/captions")
        (tmp_path / "out/captions").touch()
        until(lambda: len(server.asked()) > 40)
        run.terminate()
        err = run.communicate()[1].decode()
        assert "safe in the journal" in err.splitlines()[-1]
        answered = len(server.answered())
        (tmp_path / "out/captions").unlink()
        assert pipeline("run", job).code == 0
        assert len(server.answered()) <= 200 + 4  # those in flight, at most
        assert answered > 40
    assert len(check_whole(tmp_path / "out")) == 200


def test_readers_beside_a_run_see_whole_parts(tmp_path: Path) -> None:
    """Parts are new files that nobody replaces while a run goes on: readers that open a path two
    or three times read each of them whole, through many publications."""
    pattern = str(tmp_path / "captions/*.parquet")
    trouble: list[str] = []

    def read_all() -> None:
        for path in sorted((tmp_path / "captions").glob("*.parquet")):
            for read in (pq.read_table, pd.read_parquet, pl.read_parquet):
                try:
                    read(path)
                except FileNotFoundError:
                    continue
                except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
                    trouble.append(repr(error))
        try:
            duckdb.sql(f"SELECT count(*) FROM '{pattern}'").fetchall()
        except duckdb.IOException as error:
            if "No files" not in str(error) and "No such file" not in str(error):
                trouble.append(repr(error))

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            for number in range(40):
                await checkpoint.reply(sent([number], 1), reply([number]))
                reading = asyncio.to_thread(read_all)
                publishing = checkpoint._publisher.publish()
                await asyncio.gather(reading, publishing)

    asyncio.run(main())
    assert not trouble, trouble[:3]
    assert len(check_whole(tmp_path)) == 40
    assert len(list((tmp_path / "captions").iterdir())) == 1  # put together at the end


def test_a_reader_beside_a_run_that_puts_parts_together_begins_again(tmp_path: Path) -> None:
    """Parts go while they are read, again and again: no reader fails, and an export that has
    begun reads what it opened."""
    job = write_output(tmp_path, [record(at) for at in range(4)], [request(1)])
    out, ended = tmp_path / "out", threading.Event()

    def put_together() -> None:
        for number in range(2, 100_000):
            for folder in ("captions", "requests"):
                (old,) = (out / folder).glob("*.parquet")
                os.replace(old, old.with_name(f"part-{number:08d}.parquet"))
            if ended.wait(0.03):
                return

    thread = threading.Thread(target=put_together)
    thread.start()
    try:
        for _ in range(10):
            assert read_state(out).captions == 4
            with with_unpublished(out, derive) as whole:
                time.sleep(0.005)
                assert [pq.read_table(p).num_rows for p in part_files(whole, "captions")] == [4]
        for words in (["status"], ["report"], ["export", job.parent / "d.jsonl"]):
            done = pipeline(words[0], job, *words[1:])
            assert done.code == 0, done.err
    finally:
        ended.set()
        thread.join()
