"""The journal: what is committed together, older versions brought up to date whole, looks from
outside that change nothing."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import OutputError, remedy
from pipeline.store import journal, tables
from pipeline.store.journal import Journal
from pipeline.store.snapshot import read_state
from pipeline.store.store import open_checkpoint
from tests.support.checker import published
from tests.support.small_run import append, derive, key, reply, sent


async def unpublished(output: Path, numbers: list[int]) -> None:
    """Answers in the journal alone, as a crash leaves them."""
    (output / "_state").mkdir(parents=True)
    journal = Journal(output / "_state/journal.db")
    await journal.open()
    for number in numbers:
        await append(journal, number)
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


def test_a_full_disk_is_named_with_its_remedy(tmp_path: Path) -> None:
    """Work on the journal beside appends (plans of parts, deleting) that finds no room."""

    async def main() -> None:
        book = Journal(tmp_path / "journal.db")
        await book.open()
        await book.call(lambda db: db.execute("PRAGMA max_page_count=1").fetchone())
        await book.call(lambda db: db.execute("CREATE TABLE large (x)"))

    with pytest.raises(OutputError, match=r"disk is full; make room and run again$"):
        asyncio.run(main())


def test_a_journal_that_cannot_be_made_is_named_with_its_remedy(tmp_path: Path) -> None:
    """The system's reason, and what to do."""
    (tmp_path / "journal.db").mkdir()

    with pytest.raises(OutputError, match="move that folder away and run again"):
        tables.connect(tmp_path / "journal.db")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (sqlite3.SQLITE_FULL, "; make room and run again"),
        (sqlite3.SQLITE_IOERR_WRITE, "; see to the disk and run again"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "; let this user write there and run again"),
        (sqlite3.SQLITE_CORRUPT, "; bring back a copy of it and run again"),
        (sqlite3.SQLITE_BUSY, ""),
    ],
)
def test_each_trouble_of_a_database_has_its_own_remedy(code: int, advice: str) -> None:
    """A full disk is not mended by rights."""
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code

    assert remedy(error) == advice


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


def test_a_refused_journal_of_a_killed_run_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version refuses it by name; the version that wrote it goes on from there."""
    crashed = tmp_path / "crashed"

    async def main() -> None:
        async with open_checkpoint(
            tmp_path / "out", derive=derive, clock=SystemClock()
        ) as checkpoint:
            await checkpoint.reply(sent([1], 1), reply([1]))
            shutil.copytree(tmp_path / "out", crashed)

    asyncio.run(main())
    (crashed / "_state/lock").write_text("")  # it names this process, which lives
    with monkeypatch.context() as patch:
        patch.setattr(tables, "MIGRATIONS", tables.MIGRATIONS[:-1])
        with pytest.raises(OutputError, match="newer version"):
            asyncio.run(opened(crashed))
    asyncio.run(opened(crashed))
    assert published(crashed).keys() == {key(1)}


@pytest.mark.parametrize("then", ["killed", "still full"])
def test_a_journal_that_was_begun_anew_after_an_error_is_whole_at_each_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Its log was emptied while the file still said that it has one, so that the next run missed
    the answers that it holds itself."""
    output, crashed = tmp_path / "out", tmp_path / "crashed"
    stored = tables.add

    def add(db: sqlite3.Connection, entries: Sequence[tables.Entry]) -> None:
        calls.append(entries[0][0])
        if len(calls) == 2 and then == "killed":
            shutil.copytree(output, crashed)
            stored(db, entries)
            return
        raise sqlite3.OperationalError("database or disk is full")

    def no_room(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def main() -> None:
        book = Journal(output / "_state/journal.db")
        (output / "_state").mkdir(parents=True)
        await book.open()
        await append(book, 1)
        monkeypatch.setattr(tables, "add", add)
        if then == "killed":
            await append(book, 2)
        else:
            with pytest.raises(OutputError):
                await append(book, 2)
            monkeypatch.setattr(tables, "forget_log", no_room)
        await book.close()

    calls: list[int] = []
    asyncio.run(main())
    monkeypatch.undo()
    assert len(calls) == 2
    left = crashed if then == "killed" else output
    asyncio.run(opened(left))
    assert published(left).keys() == {key(1)}


def test_a_log_that_was_removed_is_folded_in_for_good(tmp_path: Path) -> None:
    """What it held is in the file; a kill after that costs nothing, and the next run goes on."""
    output, killed = tmp_path / "out", tmp_path / "killed"

    async def main() -> None:
        book = Journal(output / "_state/journal.db")
        (output / "_state").mkdir(parents=True)
        await book.open()
        tables.log_of(book.path).unlink()
        for number in (1, 2):
            await append(book, number)
        assert "was deleted while this run was at work" in str(book.trouble)
        (killed / "_state").mkdir(parents=True)
        shutil.copy(book.path, killed / "_state")
        await book.close()

    asyncio.run(main())
    asyncio.run(opened(killed))
    assert published(killed).keys() == {key(1), key(2)}


class Groups:
    """What is committed together; a commit waits until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.began, self.go = threading.Event(), threading.Event()
        real = tables.add

        def add(db: sqlite3.Connection, entries: Sequence[tables.Entry]) -> None:
            self.began.set()
            assert self.go.wait(60)
            real(db, entries)
            self.sizes.append(len(entries))

        monkeypatch.setattr(tables, "add", add)


async def while_busy(groups: Groups, book: Journal, numbers: range) -> list[asyncio.Task[int]]:
    """One entry alone, and others that come while it is being written."""
    alone = asyncio.create_task(append(book, 0))
    await asyncio.to_thread(groups.began.wait, 60)
    others = [asyncio.create_task(append(book, number)) for number in numbers]
    await asyncio.sleep(0)
    groups.go.set()
    await alone
    return others


@pytest.mark.parametrize("more", [journal.ENOUGH - 4, journal.ENOUGH])
def test_answers_that_keep_coming_are_committed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    """One alone goes at once. What comes during its commit waits for company: until there is
    enough of it, never for the timer's sake alone; or, with little, until the timer."""
    groups = Groups(monkeypatch)
    monkeypatch.setattr(journal, "GATHER", 3_600.0)

    async def main() -> None:
        book = Journal(tmp_path / "journal.db")
        await book.open()
        others = await while_busy(groups, book, range(1, 1 + more))
        if more < journal.ENOUGH:
            assert groups.sizes == [1]
            others += [
                asyncio.create_task(append(book, number))
                for number in range(1 + more, 1 + journal.ENOUGH)
            ]
        await asyncio.gather(*others)
        await book.close()

    asyncio.run(main())
    assert groups.sizes == [1, journal.ENOUGH]


def test_a_few_answers_wait_for_company_no_longer_than_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = Groups(monkeypatch)

    async def main() -> None:
        book = Journal(tmp_path / "journal.db")
        await book.open()
        await asyncio.gather(*await while_busy(groups, book, range(1, 4)))
        # Nothing more comes: the next one goes at once again.
        await append(book, 4)
        await book.close()

    asyncio.run(main())
    assert groups.sizes == [1, 3, 1]


def test_more_than_one_statement_holds_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    """A transaction of several statements: the last of them fails, and none is there."""
    db = tables.connect(tmp_path / "journal.db")
    many: list[tables.Entry] = [
        (number, tables.REPLY, b"head", b"") for number in range(1, 3 * tables.ADDED_AT_ONCE)
    ]
    broken = [*many, (len(many) + 1, None, b"head", b"")]

    with pytest.raises(sqlite3.IntegrityError):
        tables.add(db, broken)  # type: ignore[arg-type] # an entry that cannot be stored
    assert tables.waiting(db) == 0
    assert not db.in_transaction
    tables.add(db, many)
    assert tables.waiting(db) == len(many)
    db.close()


#: Groups of every size, 2,080 answers of 64 KB; says by how many bytes the process has grown.
GROUPS = """
import re, sys
from pathlib import Path
from pipeline.store import tables

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

db = tables.connect(Path(sys.argv[1]))
before, number = held(), 0
for size in range(1, 65):
    group = [(number + n, tables.REPLY, b"{}", bytes(65_536)) for n in range(size)]
    tables.add(db, group)
    number += size
del group
print(held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_answers_that_were_written_take_no_memory(tmp_path: Path) -> None:
    """A statement kept for groups of one size would hold its last answers for good: 136 MB."""
    done = subprocess.run(
        [sys.executable, "-c", GROUPS, str(tmp_path / "journal.db")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) < 50e6
