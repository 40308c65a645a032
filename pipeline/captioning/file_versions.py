"""`images.identity: auto`: which version of a local file each record is about.

Under this identity a picture is its path, so that one replaced in place has the key of the one
before. `_state/contents.db` keeps size, times and SHA-256 of the file behind each record; a row
whose file has others is chosen, and asked again where its bytes have changed as well: a copy of the
folder, or `touch`, costs reading it and no request.

What a record was made from must last as long as the record, and that is written for each by a
transaction of its own. So these notes are believed only while `_state/contents.whole` stands, which
is taken away before the first record and written once all are noted. Without it, as after `kill
-9`, a power cut or under an output of an earlier version, the next run takes the hash that each
record has itself, and looks at the files that have no note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from pipeline import fs
from pipeline.captioning.contents import GONE, Contents
from pipeline.images.sources.base import scheme_of
from pipeline.model import Record
from pipeline.store.keys import KeyMap
from pipeline.store.snapshot import record_batches

#: Stands in `_state` while all records are noted. It belongs to the output, which may be a shard's.
WHOLE = "contents.whole"


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
        if noted is None or (stamp := self.contents.stamp(image)) in (noted[0], "", GONE):
            return False
        if not noted[0] and self.contents.hashed(image) == noted[1]:
            self.contents.put(key, stamp, noted[1])  # needs no service
            return False
        return True

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
        """Records are on disk. Those that have no hash of their own are noted at once."""
        for record in records:
            key = bytes.fromhex(record.key)
            if (read := self._read.pop(key, None)) is not None:
                self.contents.put(key, *read)
                if record.image_sha256 is None:
                    self.contents.flush()

    def reconcile(self, output: Path) -> None:
        """Let the notes say what the published records say, unless they are whole. Blocking."""
        whole = output / "_state" / WHOLE
        if whole.exists():
            return
        hashes = _of_files(output)
        if (first := next(hashes, None)) is None or self.contents.reconcile(chain([first], hashes)):
            _touch(whole)

    def begin(self, output: Path) -> None:
        """Records come that are not noted yet. OSError."""
        (output / "_state" / WHOLE).unlink(missing_ok=True)
        fs.sync_dir(output / "_state")

    def end(self, output: Path) -> None:
        """Write what is not written yet; all records that will come have come."""
        if self.contents.flush() and not self._read:
            _touch(output / "_state" / WHOLE)


def _touch(whole: Path) -> None:
    with suppress(OSError):  # then the next run reconciles
        whole.touch(fs.PRIVATE_FILE)


def _of_files(output: Path) -> Iterator[tuple[bytes, bytes]]:
    """Key and SHA-256 of each published record about a local file."""
    for batch in record_batches(output, ["key", "image", "image_sha256"]):
        for key, image, sha256 in zip(*(column.to_pylist() for column in batch), strict=True):
            if sha256 is not None and scheme_of(image) in ("path", "file", "tar"):
                yield bytes.fromhex(key), bytes.fromhex(sha256)
