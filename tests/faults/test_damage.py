"""Damage at every byte (at every 25th when it is not the weekly run): of the journal's last
commit, and of a part after its publication."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import OutputError
from pipeline.store import tables
from pipeline.store.journal import Journal
from pipeline.store.store import open_checkpoint
from pipeline.store.verify import check_output, repair
from tests.faults.conftest import Table
from tests.support.checker import check_whole
from tests.support.small_run import derive, reply, sent
from tests.support.weekly import weekly

BEFORE = 5
#: How the log's end is damaged from an offset on.
DAMAGES: dict[str, Callable[[bytes, int, random.Random], bytes]] = {
    "cut": lambda log, at, _: log[:at],
    "zeroed": lambda log, at, _: log[:at] + bytes(len(log) - at),
    "garbage": lambda log, at, rng: log[:at] + rng.randbytes(len(log) - at),
    "bit flipped": lambda log, at, rng: (
        log[:at] + bytes([log[at] ^ 1 << rng.randrange(8)]) + log[at + 1 :]
    ),
}


#: Every so manieth byte is damaged.
STEP = weekly(1, 25)


async def two_commits(folder: Path) -> tuple[int, list[tables.Entry]]:
    """A journal as a power cut leaves it: where its last commit begins, and all its entries."""
    live = folder / "live"
    live.mkdir()
    journal = Journal(live / "journal.db")
    await journal.open()
    rng = random.Random(1)

    async def append(size: int) -> int:
        """An answer that no compression makes smaller."""
        return await journal.append(tables.REPLY, b"{}", rng.randbytes(size), lambda seq: seq)

    # More than the log of a new journal, which is written over from its start.
    await asyncio.gather(*(append(9_000) for _ in range(BEFORE)))
    begins = (live / "journal.db-wal").stat().st_size
    await asyncio.gather(*(append(2_000) for _ in range(3)))
    entries = await journal.call(tables.some_entries, 0, 100)
    for name in ("journal.db", "journal.db-wal"):
        shutil.copyfile(live / name, folder / name)
    await journal.close()
    return begins, entries


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_last_commit_damaged_at_every_byte(tmp_path: Path, damage: str, table: Table) -> None:
    """What was committed before is there, of the last one all or nothing; or a named error."""
    begins, entries = asyncio.run(two_commits(tmp_path))
    assert len(entries) == BEFORE + 3
    whole, log = ((tmp_path / f"journal.db{end}").read_bytes() for end in ("", "-wal"))
    assert len(log) - begins > 4_000
    path, rng = tmp_path / "again/journal.db", random.Random(damage)
    found: Counter[str] = Counter()
    for at in range(begins, len(log), STEP):
        damaged = DAMAGES[damage](log, at, rng)
        if damaged == log:
            continue  # zeros over zeros
        found["runs"] += 1
        path.parent.mkdir()
        path.write_bytes(whole)
        path.with_name("journal.db-wal").write_bytes(damaged)
        try:
            db = tables.connect(path)
        except OutputError as error:
            assert str(path) in str(error)  # noqa: PT017 - most openings succeed
            found["named"] += 1
        else:
            left = tables.some_entries(db, 0, 100)
            db.close()
            found["fired"] += len(left) == BEFORE
            found["lost"] += len(left) < BEFORE
            assert left == entries[: len(left)], at
            found["unharmed"] += len(left) == len(entries)
        shutil.rmtree(path.parent)
    # Damage that leaves the commit whole is possible only behind its last frame.
    assert found.pop("unharmed") == 0, "void: the damage did not reach the commit"
    found["fired"] += found.pop("named", 0)
    table.add(f"last commit {damage}", of=(len(log) - begins) if STEP > 1 else 0, **found)


@pytest.mark.faults
def test_a_part_damaged_at_every_byte(tmp_path: Path, table: Table) -> None:
    """`verify` names it; `--repair` does not touch it; a run that meets it stops and names it."""

    async def run(numbers: tuple[int, ...] = ()) -> None:
        async with open_checkpoint(tmp_path, derive=derive, clock=SystemClock()) as checkpoint:
            for number in numbers:
                await checkpoint.reply(sent([number], 1), reply([number]))

    asyncio.run(run((1, 2)))
    check_whole(tmp_path)
    part, rng = tmp_path / "captions/part-00000001.parquet", random.Random(1)
    data, runs, fired = part.read_bytes(), 0, 0
    for at in range(0, len(data), STEP):
        broken = bytearray(data)
        broken[at] ^= rng.randrange(1, 256)
        part.write_bytes(broken)
        runs += 1
        fired += any(part.name in one.path and not one.mendable for one in check_output(tmp_path))
        if at % (40 * STEP) == 0:
            assert repair(tmp_path) == []
            assert part.read_bytes() == broken
            with pytest.raises(OutputError, match=part.name):
                asyncio.run(run())
    part.write_bytes(data)
    asyncio.run(run())
    check_whole(tmp_path)
    table.add("part damaged", runs=runs, of=len(data), fired=fired)


def test_a_copy_of_the_journal_is_what_it_was(tmp_path: Path) -> None:
    """The control: without damage the copied journal has every entry."""
    _, entries = asyncio.run(two_commits(tmp_path))
    db: sqlite3.Connection = tables.connect(tmp_path / "journal.db")
    assert tables.some_entries(db, 0, 100) == entries
    db.close()
