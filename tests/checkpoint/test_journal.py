"""The journal's file: older versions are brought up to date whole, looks from outside change nothing."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from pipeline.checkpoint import codec, tables
from pipeline.checkpoint.checkpoint import open_checkpoint
from pipeline.checkpoint.journal import Journal
from pipeline.checkpoint.look import read_state
from pipeline.clock import SystemClock
from pipeline.errors import OutputError
from tests.support.checker import published
from tests.support.small_run import derive, key, reply, sent


async def unpublished(output: Path, numbers: list[int]) -> None:
    """Answers in the journal alone, as a crash leaves them."""
    (output / "_state").mkdir(parents=True)
    journal = Journal(output / "_state/journal.db")
    await journal.open()
    for number in numbers:
        answer = reply([number])
        head = codec.reply_head(sent([number], 1), answer)
        await journal.append(tables.REPLY, head, answer.body, lambda seq: seq)
    await journal.close()


async def opened(output: Path) -> None:
    async with open_checkpoint(output, derive=derive, clock=SystemClock()):
        pass


def version(output: Path) -> tuple[int, set[str]]:
    db = sqlite3.connect(output / "_state/journal.db")
    try:
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return db.execute("PRAGMA user_version").fetchone()[0], {name for (name,) in names}
    finally:
        db.close()


@pytest.mark.parametrize("old", range(1, len(tables.MIGRATIONS)))
def test_an_older_journal_is_brought_up_to_date_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: int
) -> None:
    """What an older version received and did not publish is published by this one."""
    with monkeypatch.context() as patch:
        patch.setattr(tables, "MIGRATIONS", tables.MIGRATIONS[:old])
        asyncio.run(unpublished(tmp_path, [1, 2]))
    assert version(tmp_path)[0] == old
    asyncio.run(opened(tmp_path))

    assert version(tmp_path)[0] == len(tables.MIGRATIONS)
    assert published(tmp_path).keys() == {key(1), key(2)}


def test_a_migration_happens_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that fails half-way leaves the journal as the older version can read it."""
    with monkeypatch.context() as patch:
        patch.setattr(tables, "MIGRATIONS", tables.MIGRATIONS[:1])
        asyncio.run(unpublished(tmp_path, [1]))
        before = version(tmp_path)
        broken = ("CREATE TABLE half (x)", "CREATE TABLE no such thing")
        patch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, broken))
        with pytest.raises(OutputError, match="cannot be opened"):
            asyncio.run(opened(tmp_path))
        assert version(tmp_path) == before
    asyncio.run(opened(tmp_path))
    assert published(tmp_path).keys() == {key(1)}


def test_a_look_from_outside_never_folds_the_log_in(tmp_path: Path) -> None:
    """`status` on a running or crashed run: the journal and its log keep every byte."""
    crashed = tmp_path / "crashed"

    async def main() -> None:
        async with open_checkpoint(
            tmp_path / "out", derive=derive, clock=SystemClock()
        ) as checkpoint:
            await checkpoint.reply(sent([1], 1), reply([1]))
            shutil.copytree(tmp_path / "out", crashed)
            assert read_state(tmp_path / "out").unpublished == 1

    asyncio.run(main())
    files = [crashed / "_state" / name for name in ("journal.db", "journal.db-wal")]
    before = [file.read_bytes() for file in files]
    assert before[1], "there is no log to fold in"

    assert read_state(crashed).unpublished == 1
    assert [file.read_bytes() for file in files] == before
