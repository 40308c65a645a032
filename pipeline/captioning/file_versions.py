"""`images.identity: auto`: which version of a local file each record is about.

Under this identity a picture is its path, so that one replaced in place has the key of the one
before. `_state/contents.db` keeps size, times and SHA-256 of the file behind each record; a row
whose file has others is chosen, and asked again where its bytes have changed as well: a copy of the
folder, or `touch`, costs reading it and no request.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.captioning.contents import GONE, Contents
from pipeline.model import Record
from pipeline.store.keys import KeyMap


class FileVersions:
    """The versions of an output. Read from any thread; written by its one run."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        #: Keys that were chosen only as their files look changed.
        self._chosen = KeyMap()
        #: Key -> stamp and hash of what was read, until its record is on disk.
        self._read: dict[bytes, tuple[str, bytes]] = {}

    @property
    def any(self) -> bool:
        """Is a record about a local file?"""
        return self.contents.any

    def stamp(self, image: str) -> str | None:
        """Size and times of a local file; None for other places. image: `path:…` or `url:…`."""
        return self.contents.stamp(image) or None

    def changed(self, image: str, key: bytes) -> bool:
        """Has the file of a record other size or times now?"""
        noted = self.contents.noted(key)
        return noted is not None and self.contents.stamp(image) not in (noted[0], "", GONE)

    def choose(self, key: bytes) -> None:
        """A row is asked again for no other reason than its file."""
        self._chosen.set(key.hex(), "")

    def same(self, key: bytes, stamp: str, digest: bytes) -> bool:
        """Is what was read of a file what its record is about, and nothing else wants it asked?"""
        noted = self.contents.noted(key)
        if noted is not None and noted[1] == digest and key.hex() in self._chosen:
            self.contents.put(key, stamp, digest)
            return True
        self._read[key] = stamp, digest
        return False

    def failed(self, key: bytes, stamp: str) -> None:
        """What a row names was not in its file, as in a shard that is being written: it is looked
        for again when that file changes."""
        if stamp != GONE:
            self._read.setdefault(key, (stamp, b""))

    def landed(self, records: Iterable[Record]) -> None:
        """Records are on disk. Those that replace others are noted at once, lest they are asked a
        third time after a kill."""
        for record in records:
            key = bytes.fromhex(record.key)
            if (read := self._read.pop(key, None)) is not None:
                self.contents.put(key, *read)
                if record.key in self._chosen:
                    self.contents.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        self.contents.flush()
