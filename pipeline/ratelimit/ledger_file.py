"""The ledger's file: made, checked, set aside when it is damaged.

`quota.sqlite` lies in the state folder beside `quota.lock`. The lock file is held (flock) only
while the ledger is opened or set aside, so that two processes never mend it at once. It gets a
line when the first ledger was made: one that is missing later was deleted, which is not the same
as a first run; what today's requests were is then unknown, and the gate starts carefully.
journal_mode=TRUNCATE and synchronous=FULL: a commit is on the disk when it returns, also after
a power cut (WAL with several writers has a known bug in SQLite before 3.51.3).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.fs import PRIVATE_FILE, make_private_dir, sync_dir

NAME, LOCK = "quota.sqlite", "quota.lock"
#: PRAGMA user_version of the tables below.
VERSION = 1
#: Longest wait for another process's transaction, seconds.
BUSY = 30.0

TABLES = """
-- When earlier ledgers were found to be lost.
CREATE TABLE losses(at REAL, uptime REAL, boot TEXT);
-- How many requests were counted on a day of the service: one row for the account (or its
-- model), one for each output. `told`: the service's own count, where it was heard.
CREATE TABLE days(scope TEXT, day TEXT, used INTEGER DEFAULT 0, refused INTEGER DEFAULT 0,
    told INTEGER, PRIMARY KEY(scope, day)) WITHOUT ROWID;
-- One row for each permit of the last minutes, and for each that never got a reply.
CREATE TABLE permits(id INTEGER PRIMARY KEY, scope TEXT, output TEXT, boot TEXT, uptime REAL,
    at REAL, days TEXT, answered INTEGER DEFAULT 0);
CREATE INDEX permits_by_time ON permits(scope, uptime);
-- Spent by the service's word until an instant of its clock.
CREATE TABLE holds(scope TEXT PRIMARY KEY, until REAL, told_limit INTEGER) WITHOUT ROWID;
-- Minute limits and upstream refusals: until an uptime of this boot.
CREATE TABLE pauses(scope TEXT PRIMARY KEY, boot TEXT, until REAL) WITHOUT ROWID;
-- The service's clock against uptime.
CREATE TABLE clocks(account TEXT PRIMARY KEY, boot TEXT, low REAL, high REAL, wall REAL,
    heard INTEGER, seen REAL) WITHOUT ROWID;
"""


def open_ledger(folder: Path, now: float) -> tuple[sqlite3.Connection, str | None]:
    """Open (or make) the ledger; also the words for the user if an earlier one was lost.

    `now` is the wall clock, for the name of a file set aside. Raises OutputError.
    """
    path = folder / NAME
    try:
        if not folder.is_dir():
            make_private_dir(folder)
        with _locked(folder / LOCK) as lock:
            first = os.fstat(lock).st_size == 0
            connection, lost = _open(path, first=first, now=now)
            if first:
                os.write(lock, b"a ledger was made here\n")
            return connection, lost
    except OSError as error:
        raise unusable(path, error) from error
    except sqlite3.Error as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> OutputError:
    """The one way in which the ledger fails."""
    return OutputError(
        f"the quota ledger {path} cannot be written ({error}); without it the account's limit "
        "cannot be kept: make the folder writable, or set CAPTION_PIPELINE_STATE to one that is"
    )


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Hold the lock file; gives its descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, PRIVATE_FILE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _open(path: Path, *, first: bool, now: float) -> tuple[sqlite3.Connection, str | None]:
    lost = None if first or path.exists() else "was deleted"
    try:
        connection = _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise  # locked or not writable, which is not damage
        lost = f"was damaged ({error}) and set aside as {_set_aside(path, now).name}"
        connection = _connect(path)
    if lost is None:
        return connection, None
    return connection, (
        f"the quota ledger {path} {lost}: what was asked today is not known, so requests go one "
        "at a time until the service tells"
    )


def _connect(path: Path) -> sqlite3.Connection:
    """Open, check, and make the tables if the file is new."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE))
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=TRUNCATE")
        connection.execute("PRAGMA synchronous=FULL")
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("it does not pass SQLite's own check")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(
                f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version={VERSION}; COMMIT;"
            )
            sync_dir(path.parent)
        elif version != VERSION:
            raise OutputError(
                f"the quota ledger {path} is of a newer version of this program; use that one"
            )
        return connection
    except BaseException:
        connection.close()
        raise


def _set_aside(path: Path, now: float) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    number = 0
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    os.replace(path, aside)
    journal = path.with_name(f"{path.name}-journal")
    journal.unlink(missing_ok=True)  # a hot journal would be played into the new file
    sync_dir(path.parent)
    return aside
