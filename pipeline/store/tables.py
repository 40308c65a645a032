"""The journal's tables, their versions, and the statements on them. All short, all synchronous.

    entries   what has been received and is in no part yet; `head` holds the body too, see `packed`
    parts     the published parts, with the SHA-256 of every byte
    planned   parts that are being replaced, with the SHA-256 that they will have
    meta      `published`: the number of the last entry that is in a part
    merging   a part that is put together, and (`goes`) the parts that make room for it
    sent      what a shared output holds (`arrived`) or may hold, where this one is its copy

`meta` also says (`log`) that a log belongs to the file: a file that says so without one has lost
the answers in it.

A file below `captions/`, `failures/` or `requests/` is always one that `parts`, `planned` or
`merging` name, whatever instant the power went.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from pipeline import fs
from pipeline.errors import OutputError, remedy
from pipeline.store.packed import pack, unpack

#: What reading a journal raises.
ERRORS = (sqlite3.Error, zlib.error)
#: Kinds of entry.
REPLY, RECORDS, LOST = 1, 2, 3
Entry = tuple[int, int, bytes, bytes | None]  # number, kind, head, body

#: One step from each version to the next; a new journal takes them all.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE entries (seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL,
                                 head BLOB NOT NULL, body BLOB)""",
        """CREATE TABLE parts (folder TEXT, name TEXT, rows INTEGER NOT NULL,
                               sha256 TEXT NOT NULL, size INTEGER NOT NULL,
                               mtime_ns INTEGER NOT NULL, PRIMARY KEY (folder, name)
                              ) WITHOUT ROWID""",
        """CREATE TABLE planned (folder TEXT, name TEXT, rows INTEGER NOT NULL,
                                 sha256 TEXT NOT NULL, size INTEGER NOT NULL,
                                 mtime_ns INTEGER NOT NULL, PRIMARY KEY (folder, name)
                                ) WITHOUT ROWID""",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('published', 0)",
    ),
    (
        """CREATE TABLE sent (folder TEXT, name TEXT, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
                              arrived INTEGER NOT NULL, PRIMARY KEY (folder, name, sha256)
                             ) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE merging (folder TEXT, name TEXT, rows INTEGER NOT NULL,
                                 sha256 TEXT NOT NULL, size INTEGER NOT NULL,
                                 mtime_ns INTEGER NOT NULL, goes INTEGER NOT NULL,
                                 PRIMARY KEY (folder, name)) WITHOUT ROWID""",
    ),
    *((),) * 3,  # packed, then with checksums, then sizes as sent: no earlier version reads these
)
#: A commit writes whole pages, and a packed reply has 300 bytes.
_PAGE_BYTES = 4096
#: Entries are added at the end and deleted from the start: nothing is looked at twice.
_CACHED_PAGES = 100
#: At close an empty journal larger than this is made anew.
_SHRINK_ABOVE = 8 * 2**20
#: Bytes of bodies that are read back at once, about.
READ_AT_ONCE = 16 * 2**20
#: The columns of a part.
_PART = ("folder", "name", "rows", "sha256", "size", "mtime_ns")
#: Entries of one statement; more of them take several in a transaction.
ADDED_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part's name and bytes, as the journal knows them."""

    folder: str
    name: str
    rows: int
    sha256: str
    size: int
    mtime_ns: int

    @property
    def place(self) -> tuple[str, str]:
        """Folder and name."""
        return self.folder, self.name


def connect(path: Path) -> sqlite3.Connection:
    """Open (or make) the journal for its one writer. OutputError if it is newer or damaged."""
    try:
        # Made here for its mode and for O_NOFOLLOW; its log inherits the mode.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(path, flags, fs.PRIVATE_FILE))
        # A statement that is kept for the next time keeps the values that it had: megabytes, where
        # groups of every size come.
        db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=5, cached_statements=4
        )
        try:
            _prepare(db, path)
        except BaseException:
            let_go(db, path)
            raise
    except (OSError, sqlite3.Error) as error:
        message = f"the journal cannot be opened ({error}){remedy(error)}"
        raise OutputError(f"{path}: {message}") from error
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.executescript(f"PRAGMA page_size={_PAGE_BYTES}; PRAGMA cache_size={_CACHED_PAGES}")
    if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise OutputError(f"{path}: no journal with a log can be kept on this file system")
    # secure_delete: Debian's SQLite overwrites what is deleted, and so writes each entry once more.
    for pragma in ("synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("PRAGMA secure_delete=FAST")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise OutputError(
            f"{path}: written by a newer version of this program (journal {version}, this one "
            f"knows {len(MIGRATIONS)}); use that version, or another output.path"
        )
    if version and (damage := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise OutputError(f"{path}: the journal is damaged ({damage}); bring back a copy of it")
    if version < len(MIGRATIONS):
        with transaction(db):
            for step in MIGRATIONS[version:]:
                for statement in step:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        fs.sync_dir(path.parent)


class transaction:  # noqa: N801 - reads like a keyword: `with transaction(db):`
    """All of the block or nothing, durable when it is left."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, failed: object, *_: object) -> None:
        try:
            if failed is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def look(path: Path) -> sqlite3.Connection:
    """Open the journal from outside, to read: its log is never folded in from here."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)


def add(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Store entries, durable on return. Storing one again under its number changes nothing."""
    if len(entries) <= ADDED_AT_ONCE:
        insert(db, entries)
        return
    with transaction(db):
        for start in range(0, len(entries), ADDED_AT_ONCE):
            insert(db, entries[start : start + ADDED_AT_ONCE])


def insert(db: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """One statement, which by itself is a transaction. For each statement the interpreter's lock
    is let go and has to be fought for again with the loop's thread, which costs more than what
    SQLite does."""
    values = ", ".join(["(?, ?, ?, ?)"] * len(entries))
    sql = f"INSERT OR REPLACE INTO entries VALUES {values}"  # noqa: S608 - only marks
    rows = [(seq, kind, pack(head, body), None) for seq, kind, head, body in entries]
    db.execute(sql, [value for row in rows for value in row])


def published(db: sqlite3.Connection) -> int:
    """Number of the last entry that is in a part."""
    return int(db.execute("SELECT value FROM meta WHERE name = 'published'").fetchone()[0])


def last(db: sqlite3.Connection) -> int:
    """The highest number given so far."""
    return max(published(db), db.execute("SELECT max(seq) FROM entries").fetchone()[0] or 0)


def waiting(db: sqlite3.Connection) -> int:
    """How many entries are in no part."""
    sql = "SELECT count(*) FROM entries WHERE seq > ?"
    return int(db.execute(sql, (published(db),)).fetchone()[0])


def some_entries(db: sqlite3.Connection, after: int, most: int) -> list[Entry]:
    """Unpublished entries in order, from a number on: not so many that their bodies are large."""
    sql = "SELECT * FROM entries WHERE seq > ? ORDER BY seq LIMIT ?"
    entries: list[Entry] = []
    size = 0
    for seq, kind, *blobs in db.execute(sql, (max(after, published(db)), most)):
        head, body = unpack(*blobs)
        entries.append((seq, kind, head, body))
        size += len(body or b"")
        if size > READ_AT_ONCE:
            break
    return entries


def some_bodies(db: sqlite3.Connection, seqs: Sequence[int]) -> list[tuple[bytes, bytes]]:
    """Head and body of some entries."""
    marks = ", ".join("?" * len(seqs))
    sql = f"SELECT head, body FROM entries WHERE seq IN ({marks}) ORDER BY seq"  # noqa: S608 - marks
    return [(head, body or b"") for head, body in (unpack(*row) for row in db.execute(sql, seqs))]


def forget_entries(db: sqlite3.Connection, most: int) -> bool:
    """Delete some published entries; False when there are none left."""
    first = db.execute("SELECT min(seq) FROM entries").fetchone()[0]
    last_one = published(db)
    if first is None or first > last_one:
        return False
    with transaction(db):
        db.execute("DELETE FROM entries WHERE seq <= ?", (min(first + most - 1, last_one),))
    return True


# --- parts -------------------------------------------------------------------------------------


def parts(db: sqlite3.Connection, table: str = "parts") -> list[Part]:
    """The published parts, or (`planned`) those being replaced, in order of name."""
    sql = f"SELECT * FROM {table} ORDER BY folder, name"  # noqa: S608 - our own names
    return [Part(**dict(zip(_PART, row, strict=True))) for row in db.execute(sql)]


def plan_part(db: sqlite3.Connection, part: Part) -> None:
    """Say what a file will be, before it gets its name."""
    with transaction(db):
        db.execute("INSERT OR REPLACE INTO planned VALUES (?, ?, ?, ?, ?, ?)", astuple(part))


def mark_parts(db: sqlite3.Connection, named: Iterable[Part], *, upto: int | None = None) -> None:
    """These parts have their names; with `upto`, all entries up to that number are in parts."""
    with transaction(db):
        for part in named:
            db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", astuple(part))
        if upto is not None:
            db.execute("DELETE FROM planned")
            db.execute("UPDATE meta SET value = ? WHERE name = 'published'", (upto,))


def mark_taken(db: sqlite3.Connection, part: Part) -> None:
    """A part of another output has its name here; nothing of it waits in this journal."""
    mark_parts(db, [part])
    db.execute("DELETE FROM planned WHERE folder = ? AND name = ?", part.place)


def drop_part(db: sqlite3.Connection, part: Part) -> None:
    """This part is no more."""
    with transaction(db):
        for table in ("parts", "planned"):
            db.execute(f"DELETE FROM {table} WHERE folder = ? AND name = ?", part.place)  # noqa: S608 - our own names


def plan_merge(db: sqlite3.Connection, new: Part, old: Sequence[Part]) -> None:
    """Say that parts are about to go, and which one takes their records."""
    with transaction(db):
        for part, goes in ((new, 0), *((part, 1) for part in old)):
            db.execute("INSERT INTO merging VALUES (?, ?, ?, ?, ?, ?, ?)", (*astuple(part), goes))


def merging(db: sqlite3.Connection) -> tuple[Part, list[Part]] | None:
    """The part that is being put together and those that go, if that was cut short."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'merging'").fetchone():
        return None  # the journal of an earlier version that was opened for reading only
    sql = f"SELECT {', '.join(_PART)} FROM merging ORDER BY goes, name"  # noqa: S608 - our own names
    parts = [Part(**dict(zip(_PART, row, strict=True))) for row in db.execute(sql)]
    return (parts[0], parts[1:]) if parts else None


def mark_merge(db: sqlite3.Connection, *, done: bool) -> None:
    """The new part has its name and the old ones are gone; or (not done) nothing has happened."""
    with transaction(db):
        if done:
            old = "SELECT folder, name FROM merging WHERE goes"
            db.execute(f"DELETE FROM parts WHERE (folder, name) IN ({old})")  # noqa: S608 - our own names
            db.execute(
                "INSERT OR REPLACE INTO parts SELECT folder, name, rows, sha256, size, mtime_ns "
                "FROM merging WHERE NOT goes"
            )
        db.execute("DELETE FROM merging")


def expect_log(db: sqlite3.Connection) -> None:
    """Note in the file itself that a log belongs to it. The log stays: an empty one is a lost one."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('log', 1)")
    db.execute("PRAGMA wal_checkpoint(FULL)")


def forget_log(db: sqlite3.Connection) -> None:
    """The file is complete without its log as soon as this is folded in."""
    db.execute("DELETE FROM meta WHERE name = 'log'")


def log_of(path: Path) -> Path:
    """Where SQLite keeps the log of a journal."""
    return path.with_name(f"{path.name}-wal")


def log_is_lost(path: Path) -> bool:
    """Does the file expect a log that is not there? Answers that were in no part stood in it."""
    log = log_of(path)
    if not path.exists() or (log.exists() and log.stat().st_size):
        return False
    # Immutable: the file as it is, without a look at a log.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        db = sqlite3.connect(uri, uri=True)
        try:
            return bool(db.execute("SELECT value FROM meta WHERE name = 'log'").fetchone())
        finally:
            db.close()
    except sqlite3.Error:
        return False  # new or damaged: opening it tells which


def close(db: sqlite3.Connection, path: Path) -> None:
    """Fold the log into the file, which is whole without it from then on; where that cannot be
    written, leave both as they are."""
    try:
        forget_log(db)
        _shrink(db)
    except sqlite3.Error:
        let_go(db, path)  # the log is whole, and the next opening folds it in
    else:
        db.close()


def let_go(db: sqlite3.Connection, path: Path) -> None:
    """Close the file and leave its log where it is: the file says that it has one."""
    # SQLite folds the log in and deletes it when the last connection closes.
    with suppress(sqlite3.Error), closing(look(path)) as reader:
        reader.execute("PRAGMA user_version").fetchone()
        db.close()
    db.close()


def _shrink(db: sqlite3.Connection) -> None:
    """Fold the log into the file; make a file that is large and empty anew."""
    pages, free, size = (
        db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    if pages * size > _SHRINK_ABOVE and free * 2 > pages and not waiting(db):
        db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# --- what a shared output holds ----------------------------------------------------------------


def sent(db: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, int] | None]:
    """Place -> SHA-256 and size of what arrived there; None: only tried."""
    rows = db.execute("SELECT folder, name, sha256, size, arrived FROM sent ORDER BY arrived")
    return {
        (folder, name): (sha256, size) if arrived else None
        for folder, name, sha256, size, arrived in rows
    }


def send(db: sqlite3.Connection, part: Part) -> None:
    """Say what is about to be put."""
    with transaction(db):
        row = (part.folder, part.name, part.sha256, part.size)
        db.execute("UPDATE sent SET arrived = 0 WHERE folder = ? AND name = ?", row[:2])
        db.execute("INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, 0)", row)


def forget_sent(db: sqlite3.Connection, place: tuple[str, str]) -> None:
    """Nothing is under this name any more."""
    with transaction(db):
        db.execute("DELETE FROM sent WHERE folder = ? AND name = ?", place)


def arrived(db: sqlite3.Connection, part: Part) -> None:
    """It is there, and nothing else is under its name."""
    with transaction(db):
        row = (part.folder, part.name, part.sha256, part.size)
        db.execute("DELETE FROM sent WHERE folder = ? AND name = ?", row[:2])
        db.execute("INSERT INTO sent VALUES (?, ?, ?, ?, 1)", row)
