"""`images.identity: content`: which bytes the places of a manifest's pictures hold.

A row's key is made from the SHA-256 of its picture. Reading all pictures again to join, verify or
rerun would take as long as the run, so `_state/contents.db` keeps the hash of each place that was
read. A local file is believed while its size and times are the same, and when it is gone; another
place (a URL, an object) is believed once it has been read. What is not known yet is chosen under
the key of its place and gets its own with its bytes, which are then sent: one read of each picture.

Places stand there as hashes, since a URL may hold a secret. What is lost here is read again and
costs no request.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from pipeline import fs
from pipeline.errors import ImageError, OutputError
from pipeline.images.sources.base import Places, scheme_of
from pipeline.images.sources.data_uri import from_data_uri
from pipeline.images.sources.file import located
from pipeline.local_files import respelled

NAME = "contents.db"
#: Hashes that are written at once.
WRITTEN_AT_ONCE = 256
#: Seconds to wait for another process that reads or writes.
BUSY = 10.0
_TABLE = """CREATE TABLE IF NOT EXISTS contents
            (place BLOB PRIMARY KEY, stamp TEXT NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID"""
_RECONCILE = """INSERT INTO contents VALUES (?, '', ?) ON CONFLICT (place)
                DO UPDATE SET stamp = '', sha256 = excluded.sha256 WHERE sha256 != excluded.sha256"""
#: The stamp of a local file that is not there.
GONE = "gone"
_log = logging.getLogger("pipeline")


class Contents:
    """The hashes of an output. Read from any thread; written by its one run."""

    def __init__(self, path: Path, root: Path | None) -> None:
        """root: where relative paths start."""
        self._path, self._places = path, Places(root=root)
        #: Not yet written: place -> its stamp and hash.
        self._fresh: dict[bytes, tuple[str, bytes]] = {}
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None

    def sha256(self, image: str) -> str | None:
        """The hash of the picture at a place; None: it has to be read. image: `path:…` or `url:…`.

        OutputError when the file that holds it is damaged.
        """
        noted = self.noted(name_of(image))
        if noted is None or self.stamp(image) not in (noted[0], GONE):
            return None
        return noted[1].hex()

    @property
    def any(self) -> bool:
        """Does it hold anything?"""
        return bool(self._fresh) or self._path.exists()

    def stamp(self, image: str) -> str:
        """What changes when a local file does; empty where nothing tells."""
        text = image.partition(":")[2]
        if scheme_of(text) == "tar":
            text = text.partition("::")[2]
        if scheme_of(text) not in ("path", "file"):
            return ""
        try:
            facts = os.stat(self._file(text))
        except (OSError, ValueError, ImageError):
            return GONE
        return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"

    def hashed(self, image: str) -> bytes | None:
        """The SHA-256 of a file's bytes now; None where it cannot be read, or is inside another."""
        text = image.partition(":")[2]
        if scheme_of(text) not in ("path", "file"):
            return None
        try:
            return bytes.fromhex(fs.sha256_file(self._file(text)))
        except (OSError, ValueError, ImageError):
            return None

    def _file(self, text: str) -> Path:
        """Where a picture is, in whatever spelling its file is there."""
        path = located(text, self._places)
        return path if os.path.lexists(path) else respelled(Path("/"), str(path)) or path

    def put(self, name: bytes, stamp: str, digest: bytes) -> None:
        """Remember what was read. name: of its place, or the key of the record about it; stamp: as
        it was before the read."""
        with self._lock:
            self._fresh[name] = stamp, digest
            full = len(self._fresh) >= WRITTEN_AT_ONCE
        if full:
            self.flush()

    def flush(self) -> bool:
        """Write what is not written yet; was it? What cannot be written is read again by the next
        run."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            rows = [(name, *noted) for name, noted in fresh.items()]
            if rows and not self._write("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)", rows):
                self._fresh = fresh
        return not self._fresh

    def reconcile(self, hashes: Iterable[tuple[bytes, bytes]]) -> bool:
        """Note the hashes that records have (name, SHA-256) where another one is noted, or none:
        under no stamp, so that the file is looked at. False: they could not be written."""
        with self._lock:
            return self._write(_RECONCILE, hashes)

    def _write(self, sql: str, rows: Iterable[tuple[object, ...]]) -> bool:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(self._path, flags, fs.PRIVATE_FILE))
            with closing(sqlite3.connect(self._path, timeout=BUSY)) as db, db:
                db.execute(_TABLE)
                db.executemany(sql, rows)
        except (OSError, sqlite3.Error) as error:
            _log.warning("%s: cannot be written (%s)", self._path, error)
            return False
        return True

    def noted(self, name: bytes) -> tuple[str, bytes] | None:
        """Stamp and hash under a name."""
        with self._lock:
            if (fresh := self._fresh.get(name)) is not None:
                return fresh
            try:
                if self._db is None:
                    if not self._path.exists() or not self._path.stat().st_size:
                        return None
                    address = f"{self._path.absolute().as_uri()}?mode=ro"
                    self._db = sqlite3.connect(
                        address, uri=True, timeout=BUSY, check_same_thread=False
                    )
                sql = "SELECT stamp, sha256 FROM contents WHERE place = ?"
                noted: tuple[str, bytes] | None = self._db.execute(sql, (name,)).fetchone()
            except (OSError, sqlite3.Error) as error:
                raise OutputError(
                    f"{self._path}: cannot be read ({error}); remove it and run again: all pictures "
                    "are read once more, and none that was asked is asked again"
                ) from None
            return noted


def name_of(image: str) -> bytes:
    """16 bytes for a place."""
    return hashlib.sha256(image.encode("utf-8", "surrogatepass")).digest()[:16]


def data_uri_sha256(text: str) -> str | None:
    """The hash of the bytes in a data URI; None when it holds none."""
    try:
        return hashlib.sha256(from_data_uri(text, Places(root=None))).hexdigest()
    except ImageError:
        return None
