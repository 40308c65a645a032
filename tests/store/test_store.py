"""The checkpoint: what is settled, what replaces what, what a damaged or full disk does to it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.captioning.interpret import derive as real_derive
from pipeline.clock import SystemClock
from pipeline.errors import Held, OutputError, UsageError
from pipeline.model import Reply
from pipeline.store import parts, tables
from pipeline.store import publish as publisher
from pipeline.store import publish_plan as plan
from pipeline.store.bodies import read_bodies
from pipeline.store.snapshot import record_batches
from pipeline.store.store import open_checkpoint
from pipeline.store.tables import Part
from pipeline.store.verify import check_output
from tests.support import small_run
from tests.support.checker import check_whole, published
from tests.support.command import ROOT, environment
from tests.support.small_run import derive, failed, key, reply, sent
from tests.support.virtual import VirtualClock, run


def opened(output: Path, **more: object):  # type: ignore[no-untyped-def] # an async context manager
    options = {"derive": derive, "clock": SystemClock(), **more}
    return open_checkpoint(output, **options)


def test_a_caption_replaces_a_failure_and_never_the_other_way_round(tmp_path: Path) -> None:
    """One record per key at every step; a failed redo keeps the caption that there was."""

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            await checkpoint.settle([failed(1), failed(2)])
            await checkpoint.finish()
            assert checkpoint.state(key(1)) == "timeout"
            await checkpoint.reply(sent([1], 2), reply([1]))
            assert checkpoint.state(key(1)) == "ok"
        async with opened(tmp_path) as checkpoint:
            assert checkpoint.state(key(1)) == "ok"
            await checkpoint.settle([failed(1)])
            assert checkpoint.state(key(1)) == "ok"
            await checkpoint.settle([failed(2)._replace(error_code="connect")])

    asyncio.run(main())
    records = check_whole(tmp_path)
    assert (records[key(1)]["status"], records[key(2)]["error_code"]) == ("ok", "connect")
    assert len(records) == 2


def test_a_redone_caption_replaces_the_old_one_where_it_stands(tmp_path: Path) -> None:
    """A new ok record takes the place of the old one; the others stay."""

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            for number in range(3):
                await checkpoint.reply(sent([number], 1), reply([number]))
        async with opened(tmp_path) as checkpoint:
            chosen = await checkpoint.redo_keys("caption LIKE '%image 1'")
            assert (key(1) in chosen, len(chosen)) == (True, 1)
            body = json.dumps({"content": "another caption"}).encode()
            again = Reply(status=200, headers={}, body=body, latency_ms=1, at=2)
            await checkpoint.reply(sent([1], 2), again)
            with pytest.raises(UsageError):
                await checkpoint.redo_keys("no such column = 1 (")

    asyncio.run(main())
    records = check_whole(tmp_path)
    assert records[key(1)]["caption"] == "another caption"
    assert len(records) == 3


def test_parts_hold_at_most_so_many_and_small_ones_are_put_together(tmp_path: Path) -> None:
    """22,000 records in three publications: full parts are never touched again, and afterwards no
    two of the others fit into one."""

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            for start, stop in ((0, 4_000), (4_000, 16_000), (16_000, 22_000)):
                await checkpoint.settle([failed(number) for number in range(start, stop)])
                await checkpoint.finish()

    asyncio.run(main())
    sizes = [pq.read_metadata(p).num_rows for p in sorted((tmp_path / "failures").iterdir())]
    assert sum(sizes) == 22_000
    assert max(sizes) == 5_000
    small = sorted(size for size in sizes if size < 5_000)
    assert len(small) < 2 or sum(small[:2]) > 5_000, sizes
    check_whole(tmp_path)


def test_parts_that_are_larger_than_ours_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version made parts of 10,000: what is new goes into a part of its own, and is
    still published once a minute only."""
    monkeypatch.setattr(plan, "PART_ROWS", 10)

    async def main() -> int:
        clock = VirtualClock()
        async with opened(tmp_path, clock=clock) as checkpoint:
            for number in range(9):
                await checkpoint.reply(sent([number], 1), reply([number]))
        monkeypatch.setattr(plan, "PART_ROWS", 5)
        async with opened(tmp_path, clock=clock) as checkpoint:
            await checkpoint.reply(sent([9], 1), reply([9]))
            await clock.sleep(1)
            return len(published(tmp_path))

    assert run(main()) == 9
    sizes = [pq.read_metadata(p).num_rows for p in sorted((tmp_path / "captions").iterdir())]
    assert sizes == [9, 1]


@pytest.mark.parametrize("well", [True, False])
def test_who_asks_waits_for_a_slow_disk_and_not_for_a_broken_one(
    well: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been answered and is in no part is held in memory, so it must not grow without
    bounds while a part is written; but answers that are safe in the journal are enough."""
    monkeypatch.setattr(publisher, "CROWDED", 2)
    writes, go_on = threading.Event(), threading.Event()
    stage = parts.stage

    def slow(output: Path, step: plan.Step, base: Part | None) -> Part:
        writes.set()
        go_on.wait(10)
        if not well:
            raise OSError(errno.EIO, "the disk is gone")
        return stage(output, step, base)

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            monkeypatch.setattr(parts, "stage", slow)
            await checkpoint.settle([failed(number) for number in range(3)])
            assert not checkpoint.crowded
            publishing = asyncio.create_task(checkpoint.finish())
            await asyncio.to_thread(writes.wait, 10)
            assert checkpoint.crowded
            asking = asyncio.create_task(checkpoint.room())
            await asyncio.sleep(0.05)
            assert not asking.done()
            go_on.set()
            await asking
            with nullcontext() if well else pytest.raises(OutputError):
                await publishing
            assert not checkpoint.crowded
            monkeypatch.setattr(parts, "stage", stage)

    asyncio.run(main())
    assert len(check_whole(tmp_path)) == 3


@pytest.mark.parametrize("well", [True, False])
def test_a_slow_disk_holds_up_who_asks_and_only_a_broken_one_ends_the_run(
    well: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers of megabytes came so fast that publishing was said to have failed (73). While parts
    are being written, nobody asks between two publications either."""
    monkeypatch.setattr(publisher, "CROWDED", 2)
    monkeypatch.setattr(publisher, "BACKLOG", 2)
    forget = tables.forget_entries
    writes, go_on, stage = threading.Event(), threading.Event(), parts.stage

    def slowly(output: Path, step: plan.Step, base: Part | None) -> Part:
        writes.set()
        go_on.wait(10)
        if not well:
            raise OSError(errno.EIO, "the disk is gone")
        return stage(output, step, base)

    def forgotten(db: sqlite3.Connection, most: int) -> bool:
        time.sleep(0.05)  # a slow disk
        return forget(db, most)

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            monkeypatch.setattr(parts, "stage", slowly)
            monkeypatch.setattr(tables, "forget_entries", forgotten)
            await checkpoint.settle([failed(0), failed(1)])
            publishing = asyncio.create_task(checkpoint._publisher.publish())
            await asyncio.to_thread(writes.wait, 10)
            await checkpoint.settle([failed(number) for number in range(2, 7)])
            go_on.set()
            while not publishing.done():
                assert checkpoint.crowded
                assert checkpoint.full() is None
                await asyncio.sleep(0.001)
            with nullcontext() if well else pytest.raises(OSError, match="gone"):
                await publishing
            assert (checkpoint.full() is None) == well
            monkeypatch.setattr(parts, "stage", stage)

    asyncio.run(main())
    assert len(check_whole(tmp_path)) == 7


def test_something_new_is_published_within_a_minute(tmp_path: Path) -> None:
    """While a run goes on, readers see what is at most a minute old."""

    async def main() -> int:
        clock = VirtualClock()
        async with opened(tmp_path, clock=clock) as checkpoint:
            await checkpoint.reply(sent([1], 1), reply([1]))
            await clock.sleep(59)
            early = len(published(tmp_path))
            await clock.sleep(5)
            assert early == 0
            return len(published(tmp_path))

    assert run(main()) == 1


ODD_BODIES = {
    "lone surrogate": rb'{"choices":[{"message":{"content":"a \ud800 cat"},"finish_reason":"stop"}]}',
    "NUL": rb'{"choices":[{"message":{"content":"a \u0000 cat"},"finish_reason":"stop"}]}',
    "NaN": b'{"choices":[{"message":{"content":"a cat"}}],"usage":{"cost":NaN}}',
    "invalid UTF-8": b'{"choices":[{"message":{"content":"a \xff cat"}}]}',
    "10 MB": json.dumps({"choices": [{"message": {"content": "x" * 10_000_000}}]}).encode(),
    "empty": b"",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", ODD_BODIES)
def test_an_odd_body_harms_no_neighbour_and_its_bytes_are_kept(tmp_path: Path, name: str) -> None:
    """Its image is captioned from what is readable, or not at all; the others of the group stay."""
    odd = Reply(status=200, headers={}, body=ODD_BODIES[name], latency_ms=1, at=1)
    good = json.dumps({"choices": [{"message": {"content": "fine"}}]}).encode()

    async def main() -> int:
        async with opened(tmp_path, derive=real_derive) as checkpoint:
            fine = Reply(status=200, headers={}, body=good, latency_ms=1, at=1)
            told = await asyncio.gather(
                checkpoint.reply(sent([1], 1), fine),
                checkpoint.reply(sent([2], 1), odd),
                checkpoint.reply(sent([3], 1), fine),
            )
            return len(told[1][0].records)

    settled = asyncio.run(main())
    records = check_whole(tmp_path)
    assert records[key(1)]["caption"] == records[key(3)]["caption"] == "fine"
    assert len(records) == 2 + settled
    kept = [body for _, body in read_bodies(tmp_path / "_state/bodies")]
    assert settled or kept == [ODD_BODIES[name]]


def write_two_groups(output: Path) -> None:
    """A run that is killed after two commits that are in no part yet."""
    code = f"""
import asyncio, os, signal
from pathlib import Path
from tests.support.small_run import derive, reply, sent
from pipeline.store.store import open_checkpoint
from pipeline import schema
from pipeline.clock import SystemClock
async def main():
    async with open_checkpoint(Path({str(output)!r}), derive=derive, clock=SystemClock()) as c:
        for n in range(6):
            await c.reply(sent([n], 1), reply([n]))
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment())
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("damage", ["truncate", "zero", "garbage", "flip"])
def test_a_damaged_tail_of_the_journal_gives_a_prefix_or_a_named_error(
    tmp_path: Path, damage: str
) -> None:
    """Never a wrong record: what comes back is right, and missing ones are simply asked again."""
    write_two_groups(tmp_path / "whole")
    log = tmp_path / "whole/_state/journal.db-wal"
    data, rng = log.read_bytes(), random.Random(1)
    tail, named = len(data) - 9_000, list[bool]()
    for at in range(tail, len(data), 700):
        output = tmp_path / f"{damage}-{at}"
        shutil.copytree(tmp_path / "whole", output)
        broken = bytearray(data)
        if damage == "truncate":
            del broken[at:]
        elif damage == "zero":
            broken[at:] = bytes(len(broken) - at)
        elif damage == "garbage":
            broken[at:] = rng.randbytes(len(broken) - at)
        else:
            broken[at] ^= 1 << rng.randrange(8)
        (output / "_state/journal.db-wal").write_bytes(broken)
        (output / "_state/journal.db-shm").unlink(missing_ok=True)

        async def main(output: Path = output) -> None:
            async with opened(output):
                pass

        try:
            asyncio.run(main())
        except OutputError as error:
            named.append("journal" in str(error))
            continue
        records = check_whole(output)
        assert all(
            records[key(n)]["caption"] == small_run.caption(n)
            for n in range(6)
            if key(n) in records
        )
    assert all(named)


def test_every_damaged_byte_of_a_part_is_found(tmp_path: Path) -> None:
    """A changed part stops the next run by name and is found by verify; nothing is deleted."""
    write_two_groups(tmp_path / "out")

    async def main() -> None:
        async with opened(tmp_path / "out"):
            pass

    asyncio.run(main())
    part = tmp_path / "out/captions/part-00000001.parquet"
    data = part.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 60)):
        broken = bytearray(data)
        broken[at] ^= 0x10
        part.write_bytes(broken)
        findings = check_output(tmp_path / "out")
        assert any(part.name in finding.path for finding in findings), at
        with pytest.raises(OutputError, match=part.name):
            asyncio.run(main())
        assert part.read_bytes() == broken
    part.write_bytes(data)
    asyncio.run(main())
    check_whole(tmp_path / "out")


def test_a_part_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """A link whose end has gone is listed like a part; looking at it is no accident."""
    write_two_groups(tmp_path / "out")

    async def main() -> None:
        async with opened(tmp_path / "out"):
            pass

    asyncio.run(main())
    part = tmp_path / "out/captions/part-00000001.parquet"
    part.unlink()
    part.symlink_to(tmp_path / "gone")

    found = [one.problem for one in check_output(tmp_path / "out") if one.path == str(part)]
    assert [words.partition(" (")[0] for words in found] == ["is missing", "cannot be read"]
    with pytest.raises(OutputError, match=part.name):
        list(record_batches(tmp_path / "out"))


def test_missing_and_unknown_parts_stop_the_run_by_name(tmp_path: Path) -> None:
    """Nothing is guessed about a part that the journal does not know or cannot find."""

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            await checkpoint.settle([failed(1)])

    asyncio.run(main())
    part = tmp_path / "failures/part-00000001.parquet"
    shutil.copy(part, tmp_path / "captions/part-00000009.parquet")
    with pytest.raises(OutputError, match="part-00000009"):
        asyncio.run(main())
    (tmp_path / "captions/part-00000009.parquet").unlink()
    part.unlink()
    with pytest.raises(OutputError, match="part-00000001"):
        asyncio.run(main())


def test_a_newer_journal_is_refused_by_name(tmp_path: Path) -> None:
    """Its version is named; nothing is touched."""

    async def main() -> None:
        async with opened(tmp_path):
            pass

    asyncio.run(main())
    with sqlite3.connect(tmp_path / "_state/journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OutputError, match="99"):
        asyncio.run(main())


def test_state_is_private_and_results_are_not_hidden(tmp_path: Path) -> None:
    """0700 and 0600 below `_state`; nothing Parquet-named in there."""

    async def main() -> None:
        async with opened(tmp_path) as checkpoint:
            await checkpoint.settle([failed(1)])
            for path in [tmp_path / "_state", *(tmp_path / "_state").rglob("*")]:
                assert path.stat().st_mode & 0o077 == 0, path

    asyncio.run(main())
    assert not list((tmp_path / "_state").rglob("*.parquet"))


def test_a_symlinked_lock_or_state_is_refused(tmp_path: Path) -> None:
    """Another user's trap is not followed."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    (out / "_state").mkdir(parents=True)
    (out / "_state/lock").symlink_to(victim)

    async def main(output: Path) -> None:
        async with opened(output):
            pass

    with pytest.raises((OSError, OutputError)):
        asyncio.run(main(out))
    assert victim.read_text() == "precious"
    other = tmp_path / "other"
    other.mkdir()
    (other / "_state").symlink_to(tmp_path)
    with pytest.raises(OutputError):
        asyncio.run(main(other))


def test_the_lock_names_its_holder_and_goes_with_it(tmp_path: Path) -> None:
    """A second opener is refused at once; after kill -9 of the first the next one gets in, also
    while a spawned child of the dead one is still alive."""
    code = f"""
import asyncio, subprocess, sys, time
from pathlib import Path
from tests.support.small_run import derive
from pipeline.store.store import open_checkpoint
from pipeline import schema
from pipeline.clock import SystemClock
async def main():
    async with open_checkpoint(Path({str(tmp_path)!r}), derive=derive, clock=SystemClock()):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print(child.pid, flush=True)
        time.sleep(60)
asyncio.run(main())
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())

    async def main() -> None:
        async with opened(tmp_path):
            pass

    try:
        with pytest.raises(Held, match=f"pid {holder.pid} on .* since"):
            asyncio.run(main())
        holder.kill()
        holder.wait()
        asyncio.run(main())
        os.kill(child, 0)  # the child is alive: it holds nothing
    finally:
        os.kill(child, signal.SIGKILL)
        holder.kill()
        holder.wait()
        holder.stdout.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_loses_nothing_and_goes_on_after_room_was_made(tmp_path: Path) -> None:
    """On a file system of 24 MB: every acknowledged answer is there after space was freed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    acked: list[int] = []

    async def fill() -> None:
        async with opened(disk / "out") as checkpoint:
            for number in range(4_000):
                body = json.dumps(
                    {"content": f"caption of image {number}", "x": os.urandom(10_000).hex()}
                )
                big = Reply(status=200, headers={}, body=body.encode(), latency_ms=1, at=1)
                await checkpoint.reply(sent([number], 1), big)
                acked.append(number)

    async def resume() -> None:
        async with opened(disk / "out"):
            pass

    try:
        (disk / "ballast").write_bytes(bytes(2_000_000))
        with pytest.raises(OutputError):
            asyncio.run(fill())
        assert acked
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        asyncio.run(resume())
        records = check_whole(disk / "out")
        assert {key(number) for number in acked} <= records.keys()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_part_with_other_columns_is_not_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that an earlier version began, and one of now: what is taken has the columns of the
    output; the others' records go there one by one."""
    former, main, third = (tmp_path / name for name in ("former", "main", "third"))
    earlier = schema.earlier(schema.RECORDS)

    async def begin(output: Path, number: int) -> None:
        async with opened(output) as checkpoint:
            await checkpoint.reply(sent([number], 1), reply([number]))

    async def takes(output: Path, other: Path) -> bool:
        async with opened(output) as checkpoint, opened(other) as shard:
            (part,) = [each for each in await shard.published() if each.folder == "captions"]
            return await checkpoint.take_part(other, part)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "shape_of", lambda _: earlier)
        asyncio.run(begin(former, 1))
    for number, output in ((2, main), (3, third)):
        asyncio.run(begin(output, number))

    pairs = ((main, former), (former, main), (main, third))
    assert [asyncio.run(takes(*pair)) for pair in pairs] == [False, False, True]
    asyncio.run(begin(former, 4))
    for output, shape in ((former, earlier), (main, schema.RECORDS)):
        names = [pq.read_schema(path).names for path in (output / "captions").iterdir()]
        assert names == [shape.names] * len(names)
        assert len(names) == (1 if output == former else 2)
    assert published(former).keys() == {key(1), key(4)}
