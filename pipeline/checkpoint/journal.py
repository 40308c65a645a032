"""The journal: what has been received and is not yet in a part. SQLite, WAL, synchronous=FULL.

`NORMAL` would lose acknowledged rows at a power cut; a log without checksums would give wrong
rows after a damaged tail; SQLite under FULL did neither in measurement, and the same
transaction can hold the part plan. One connection, one thread: several writers and
checkpointers meet a known bug in SQLite before 3.51.3.

**Natural batching**: whoever waits is committed together as soon as the last commit has
returned. No timer: an idle journal commits at once, a busy one in groups that grow with the
disk's own slowness.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline import fs
from pipeline.errors import OutputError

VERSION = 1
#: Kinds of entry.
REPLY, RECORDS, LOST = 1, 2, 3
#: Really allocated, released when the disk is full, so that answers under way find room.
RESERVE_BYTES = 16 * 2**20
#: At close an empty journal larger than this is made small again.
SHRINK_ABOVE = 16 * 2**20

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL,
                      head BLOB NOT NULL, body BLOB);
CREATE TABLE parts (folder TEXT, name TEXT, rows INTEGER NOT NULL, sha256 TEXT NOT NULL,
                    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
                    PRIMARY KEY (folder, name)) WITHOUT ROWID;
"""

T = TypeVar("T")
Row = tuple[int, int, bytes, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A published part as the journal knows it."""

    folder: str
    name: str
    rows: int
    sha256: str
    size: int
    mtime_ns: int


def connect(path: Path) -> sqlite3.Connection:
    """Open (or make) the journal for its one writer; OutputError if it is newer or damaged."""
    with_file = path.exists()
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    except sqlite3.Error as error:
        raise OutputError(f"{path}: the journal cannot be opened ({error})") from error
    try:
        path.chmod(fs.PRIVATE_FILE)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        # A killed first run may have left a file without tables.
        found = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
        if not found:
            db.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('version', ?)", (VERSION,))
            db.execute("COMMIT")
            fs.sync_dir(path.parent)
        version = db.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()[0]
        if version > VERSION:
            raise OutputError(
                f"{path}: written by a newer version (journal {version}, this one knows "
                f"{VERSION}); use that version, or another output.path"
            )
        if with_file and (damage := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise OutputError(f"{path}: the journal is damaged ({damage}); keep it and see verify")
    except sqlite3.Error as error:
        db.close()
        raise OutputError(f"{path}: the journal cannot be opened ({error})") from error
    except BaseException:
        db.close()
        raise
    return db


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: tuple[int, bytes, bytes | None]
    landed: Callable[[int], Any]
    future: asyncio.Future[Any]


class Journal:
    """The writer's side. Every method but `append` and `call` runs in the journal's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reserve = path.with_name("reserve")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[_Waiting] = []
        self._busy = False
        self._broken: BaseException | None = None
        self._db = connect(path)
        self._make_reserve()

    def _make_reserve(self) -> None:
        """Keep 16 MB aside; a disk too full for it is `run.min_free`'s matter."""
        try:
            fd = os.open(
                self._reserve,
                os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
                fs.PRIVATE_FILE,
            )
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError:
            self._reserve.unlink(missing_ok=True)

    # --- appending -----------------------------------------------------------------------------

    async def append(
        self, kind: int, head: bytes, body: bytes | None, landed: Callable[[int], T]
    ) -> T:
        """Store one entry; once it is on disk, call `landed` with its number and return that.

        `landed` is called on the loop in the order of the numbers, also when the caller was
        cancelled meanwhile: what is in the journal is never forgotten. OutputError when the
        entry cannot be stored; from then on every append fails.
        """
        if self._broken is not None:
            raise self._broken
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting((kind, head, body), landed, future))
        if not self._busy:
            self._commit_waiting()
        return await future

    def _commit_waiting(self) -> None:
        """Hand everything that waits to the thread as one transaction."""
        group, self._waiting = self._waiting, []
        self._busy = True
        loop = asyncio.get_running_loop()
        committed = loop.run_in_executor(self._thread, self._commit, [one.entry for one in group])
        committed.add_done_callback(lambda done: self._landed(group, done))

    def _landed(self, group: list[_Waiting], done: asyncio.Future[int]) -> None:
        self._busy = False
        error = done.exception()
        for index, one in enumerate(group):
            if error is None:
                try:
                    result = one.landed(done.result() + index)
                except Exception as bug:  # noqa: BLE001 - whoever waits must hear of it
                    error = bug
                else:
                    if not one.future.done():
                        one.future.set_result(result)
                    continue
            if not one.future.done():
                one.future.set_exception(error)
        if error is not None:
            self._broken = error
            stranded, self._waiting = self._waiting, []
            for one in stranded:
                if not one.future.done():
                    one.future.set_exception(error)
        elif self._waiting:
            self._commit_waiting()

    def _commit(self, entries: list[tuple[int, bytes, bytes | None]]) -> int:
        """Write a group; returns the number of its first entry.

        After an error the connection is opened anew and the group written once more (never the
        same descriptor: Linux may report a later fsync as fine although pages were dropped).
        If the first try was durable after all, an entry is there twice; records are told apart
        by key, so nothing is doubled.
        """
        try:
            return self._write(entries)
        except sqlite3.Error as first:
            self._reserve.unlink(missing_ok=True)
            try:
                self._db.close()
                self._db = connect(self.path)
                return self._write(entries)
            except (sqlite3.Error, OutputError, OSError):
                raise OutputError(
                    f"{self.path}: the journal cannot be written ({first}); free some space or "
                    "mend the disk, then run again: nothing that was shown as done is lost"
                ) from first

    def _write(self, entries: list[tuple[int, bytes, bytes | None]]) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            last = 0
            for entry in entries:
                last = (
                    self._db.execute(
                        "INSERT INTO entries (kind, head, body) VALUES (?, ?, ?)", entry
                    ).lastrowid
                    or 0
                )
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return last - len(entries) + 1

    # --- the rest, in the journal's thread -----------------------------------------------------

    async def call(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """Run a short piece of work on the connection, between two commits."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._guarded, act)

    def _guarded(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return act(self._db)
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise OutputError(f"{self.path}: {error}") from error

    async def close(self) -> None:
        """Fold the log into the file, make a large empty file small, let go."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        try:
            empty = self._db.execute("SELECT count(*) FROM entries").fetchone()[0] == 0
            if empty and self.path.stat().st_size > SHRINK_ABOVE:
                self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # the log stays as it is: it is whole, and the next opening folds it in
        finally:
            self._db.close()
            self._reserve.unlink(missing_ok=True)


def entries(db: sqlite3.Connection) -> list[Row]:
    """Everything not yet published, in order."""
    return db.execute("SELECT seq, kind, head, body FROM entries ORDER BY seq").fetchall()


def parts(db: sqlite3.Connection) -> list[Part]:
    """The published parts."""
    rows = db.execute("SELECT folder, name, rows, sha256, size, mtime_ns FROM parts ORDER BY 1, 2")
    return [
        Part(folder=f, name=n, rows=r, sha256=d, size=s, mtime_ns=m) for f, n, r, d, s, m in rows
    ]


def transaction(db: sqlite3.Connection, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Run statements as one durable transaction."""
    db.execute("BEGIN IMMEDIATE")
    for sql, values in statements:
        db.execute(sql, values)
    db.execute("COMMIT")
