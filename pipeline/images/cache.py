"""`images.cache`: downloads kept on disk, so that a rerun downloads nothing twice.

One file a URL, named by the hash of the URL as it stands (a URL that is signed anew is another
one). Nothing here may fail an image: a cache that cannot be written is only slow.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from contextlib import suppress
from pathlib import Path

from pipeline import fs
from pipeline.errors import JobError
from pipeline.images.limits import MAX_BYTES

_count = itertools.count()


class Cache:
    """A folder of downloads; several runs may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            fs.make_private_dir(folder)
        except OSError as error:
            raise JobError(f"images.cache: {folder}: {error.strerror}") from None

    def get(self, url: str) -> bytes | None:
        """The bytes of an earlier download; blocking."""
        with suppress(OSError):
            data = self._path(url).read_bytes()
            if 0 < len(data) <= MAX_BYTES:
                return data
        return None

    def put(self, url: str, data: bytes) -> None:
        """Keep a download; blocking."""
        path = self._path(url)
        # A name of its own: two runs may bring the same picture at once.
        tmp = path.with_name(f".{path.name}.{os.getpid()}.{next(_count)}.tmp")
        try:
            fs.write_tmp(tmp, data, private=True)
            fs.publish(tmp, path)
        except OSError:
            with suppress(OSError):
                tmp.unlink()

    def _path(self, url: str) -> Path:
        return self._folder / hashlib.sha256(url.encode()).hexdigest()
