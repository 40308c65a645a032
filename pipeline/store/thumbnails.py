"""`_state/thumbnails.db`: small copies of some of the pictures that were sent, for reports.

A run sends bytes and forgets them, and a report must not download a data set again. Kept are the
pictures with the smallest keys (`report/sample.py` chooses the same ones), at most `MOST`, which
takes some 45 MB however large the job is. Nothing is recovered from here: a crash or a full disk
may lose thumbnails, never a caption, and nothing that fails here fails an image.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from pipeline import fs
from pipeline.store.shards import outputs_of

NAME = "thumbnails.db"
MOST = 5_000
#: Bytes of one thumbnail, about.
BYTES = 9_000


class Thumbnails:
    """Opened for writing by the one run of an output."""

    def __init__(self, state: Path, *, most: int = MOST) -> None:
        self._most = most
        self._db: sqlite3.Connection | None = None
        self._count = 0
        #: The largest key that is kept.
        self._last = ""
        try:
            path = state / NAME
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(path, flags, fs.PRIVATE_FILE))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute("PRAGMA journal_mode=MEMORY")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS thumbnails (key TEXT PRIMARY KEY, data BLOB)"
            )
            self._count, last = self._db.execute(
                "SELECT count(*), max(key) FROM thumbnails"
            ).fetchone()
            self._last = last or ""
        except (OSError, sqlite3.Error):
            self._db = None

    def wants(self, key: str) -> bool:
        """Would this key's picture be kept?"""
        return self._db is not None and (self._count < self._most or key < self._last)

    def put(self, key: str, data: bytes) -> None:
        """Keep a thumbnail; the one with the largest key goes when there are too many."""
        if self._db is None:
            return
        try:
            kept = self._db.execute("SELECT 1 FROM thumbnails WHERE key = ?", (key,)).fetchone()
            self._db.execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?)", (key, data))
            self._count += kept is None
            if self._count > self._most:
                self._db.execute("DELETE FROM thumbnails WHERE key = ?", (self._last,))
                self._count -= 1
            self._last = self._db.execute("SELECT max(key) FROM thumbnails").fetchone()[0]
        except sqlite3.Error:
            self._db = None

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()


def read_thumbnails(output: Path, keys: Iterable[str]) -> dict[str, bytes]:
    """Those of some keys that are kept, in shards as well; {} where a file does not read."""
    kept, wanted = dict[str, bytes](), list(keys)
    for folder in outputs_of(output):
        kept |= _read_thumbnails(folder / "_state" / NAME, wanted)
    return kept


def _read_thumbnails(path: Path, wanted: list[str]) -> dict[str, bytes]:
    kept: dict[str, bytes] = {}
    if not path.exists():
        return kept
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)
        try:
            for start in range(0, len(wanted), 500):
                batch = wanted[start : start + 500]
                marks = ", ".join("?" * len(batch))
                sql = f"SELECT key, data FROM thumbnails WHERE key IN ({marks})"  # noqa: S608 - marks
                kept.update(db.execute(sql, batch).fetchall())
        finally:
            db.close()
    except sqlite3.Error:
        return kept
    return kept
