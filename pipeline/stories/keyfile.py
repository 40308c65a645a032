"""The keys of all rows, as the survey named them, kept for the run and the dataset.

Naming a row again costs more than reading 16 bytes, which are read in the order in which they
were written. So they wait in a file without a name, and in memory only where there can be none.
"""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

_KEY = 16
#: Keys read at once when they are wanted one by one.
_BLOCK = 2_048


class KeyFile:
    """Keys by the ordinals of their rows. Goes with its last holder."""

    def __init__(self, keys: bytes | bytearray, folder: Path) -> None:
        self._held: bytes | bytearray = b""
        self._file: BinaryIO | None = None
        self._first, self._block = 0, b""
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - kept open
            weakref.finalize(self, self._file.close)
            self._file.write(keys)
            whole = self._file.tell() == len(keys)
        except OSError:  # a disk that is full has no room for this, and stops the run soon enough
            whole = False
        if not whole:
            self._held, self._file = keys, None

    def read(self, start: int, count: int) -> bytes:
        """The keys of some rows in a row, 16 bytes each."""
        if self._file is None:
            return bytes(self._held[start * _KEY : (start + count) * _KEY])
        self._file.seek(start * _KEY)
        return self._file.read(count * _KEY)

    def of(self, ordinal: int) -> bytes:
        """The key of one row."""
        at = ordinal - self._first
        if not 0 <= at * _KEY < len(self._block):
            self._first, at = ordinal, 0
            self._block = self.read(ordinal, _BLOCK)
        return self._block[at * _KEY : (at + 1) * _KEY]
