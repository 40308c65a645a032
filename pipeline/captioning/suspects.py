"""`_state/suspects.db`: the images of refused packs of which the culprit is not found yet.

A refusal is an answer that was paid for: the next run goes on with the search where this one ended. What
is lost of it costs the requests of that search once more and no caption, so it is written beside the
journal and not synced with each answer.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

from pipeline import fs
from pipeline.store.keys import KeyMap
from pipeline.store.parts import part_files, read_part

NAME = "suspects.db"
#: Seconds to wait for another process that reads.
BUSY = 10.0
_TABLE = """CREATE TABLE IF NOT EXISTS suspects
            (key BLOB PRIMARY KEY, pack INTEGER NOT NULL, images INTEGER NOT NULL) WITHOUT ROWID"""
_WAITS, _CAME = "waits", "came"
_log = logging.getLogger("pipeline")
#: Keys that are under suspicion, and those that were until then.
_Note = tuple[Sequence[str], Sequence[str]]


class Suspects:
    """The suspects of an output, written by its one run. Only `write` may be called from another thread."""

    def __init__(self, state: Path) -> None:
        self._path = state / NAME
        self._db: sqlite3.Connection | None = None
        #: Those that are to come: of earlier runs, or put off by this one.
        self._keys = KeyMap()
        #: Packs that were refused and not searched to the end, about: those of earlier runs, and those
        #: that this one has put off.
        self.packs = 0
        #: Not yet written.
        self._notes: list[_Note] = []
        self._last = 0
        self._lock = threading.Lock()

    def open(self, state: Callable[[str], str | None]) -> None:
        """Read what earlier runs have left. state: of a key (None, `ok` or the code of its failure).
        Blocking."""
        if not self._path.exists():
            return
        try:
            db = self._connection()
            with db:
                for number, keys in _packs(db):
                    self._last = max(self._last, number)
                    left = _left(keys, state)
                    self.packs += bool(left)
                    for key in left:
                        self._keys.set(key, _WAITS)
                    if len(left) < len(keys):
                        _replace(db, number, left, keys)
        except sqlite3.Error as error:
            _log.warning(
                "%s: cannot be read, packs that were refused are asked again (%s)",
                self._path,
                error,
            )
            self._keys = KeyMap()
            self.close()
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the file go."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def __contains__(self, key: str) -> bool:
        return bool(self._keys) and self._keys.get(key) == _WAITS

    def __bool__(self) -> bool:
        return len(self._keys) > 0

    def pack_of(self, key: str) -> tuple[int, int] | None:
        """Number and images of the pack that a key belongs to, once."""
        if key not in self:
            return None
        self._keys.set(key, _CAME)
        self.write()  # what was put off just now
        sql = "SELECT pack, images FROM suspects WHERE key = ?"
        try:
            with self._lock:
                row = self._connection().execute(sql, (bytes.fromhex(key),)).fetchone()
        except (OSError, sqlite3.Error):
            return None
        return row and (int(row[0]), int(row[1]))

    def suspect(self, keys: Sequence[str], of: Sequence[str]) -> None:
        """One of `keys` must be why a request was refused, and none of the others `of` these is."""
        self._notes.append((keys, of))

    def put_off(self, keys: Sequence[str]) -> None:
        """The images of a pack are to come again."""
        self.packs += 1
        for key in keys:
            self._keys.set(key, _WAITS)

    def write(self) -> None:
        """Write what was noted. Blocking."""
        with self._lock:
            notes, self._notes = self._notes, []
            try:
                db = self._connection()
                with db:
                    for keys, of in notes:
                        self._last += 1
                        _replace(db, self._last, keys, of)
            except (OSError, sqlite3.Error) as error:
                _log.warning("%s: cannot be written (%s)", self._path, error)

    @property
    def unwritten(self) -> bool:
        """Is there something to write?"""
        return bool(self._notes)

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._path, flags, fs.PRIVATE_FILE))
            self._db = sqlite3.connect(self._path, timeout=BUSY, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute(_TABLE)
        return self._db


def remembered(output: Path) -> list[int]:
    """Images of each refused pack whose culprit no run has found yet; writes nothing."""
    path = output / "_state" / NAME
    if not path.exists():
        return []
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY)
        with closing(db):
            packs = [keys for _, keys in _packs(db)]
    except sqlite3.Error:
        return []
    failures = (
        read_part(part, ["key"])["key"].to_pylist() for part in part_files(output, "failures")
    )
    failed = set(chain.from_iterable(failures)) if packs else set()
    return [len(keys) for keys in packs if failed.isdisjoint(keys)]


def _packs(db: sqlite3.Connection) -> Iterator[tuple[int, list[str]]]:
    """The packs and their keys."""
    rows = db.execute("SELECT pack, hex(key) FROM suspects ORDER BY pack").fetchall()
    for number, pack in groupby(rows, itemgetter(0)):
        yield int(number), [key.lower() for _, key in pack]


def _left(keys: Sequence[str], state: Callable[[str], str | None]) -> list[str]:
    """The keys of a pack that must still hold the culprit: none, once one of them has failed."""
    states = [state(key) for key in keys]
    if any(word not in (None, "ok") for word in states):
        return []
    return [key for key, word in zip(keys, states, strict=True) if word is None]


def _replace(db: sqlite3.Connection, number: int, keys: Sequence[str], of: Sequence[str]) -> None:
    db.executemany("DELETE FROM suspects WHERE key = ?", [(bytes.fromhex(key),) for key in of])
    rows = [(bytes.fromhex(key), number, len(keys)) for key in keys]
    db.executemany("INSERT OR REPLACE INTO suspects VALUES (?, ?, ?)", rows)
