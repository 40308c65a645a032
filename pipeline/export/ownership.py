"""Which text files beside the pictures this job has written: no other is ever replaced unasked.

A list of paths and SHA-256 in the output's `_state/`; a line is there before its file is.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from pipeline import fs


class Owned:
    """The files that were written before, and those that are written now."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        #: All that was ever written: after a crash the last line's file may still be the one before.
        self._known = set[tuple[str, str]]()
        self._file: IO[bytes] | None = None
        if ledger.exists():
            for line in ledger.read_bytes().splitlines():
                try:
                    path, digest = json.loads(line)
                except ValueError:
                    continue  # cut by a crash: that file was not written yet
                self._known.add((path, digest))

    def knows(self, path: Path) -> bool:
        """Has this job written a file of this name before?"""
        return any(name == str(path) for name, _ in self._known)

    def write(self, path: Path, content: bytes, *, overwrite: bool) -> bool:
        """Write a whole file under its name, or nothing; True when it is there.

        A file of the same content stays as it is, and whose it was. False where a file is there
        that this job did not write, unless it may be overwritten. OSError when it cannot be written.
        """
        try:
            present = path.read_bytes()
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            return False
        else:
            if present == content:
                return True
            if not overwrite and (str(path), _digest(present)) not in self._known:
                return False
        self._note(str(path), _digest(content))
        tmp = path.with_name(f".caption-{os.getpid()}.tmp")
        try:
            tmp.write_bytes(content)
            os.replace(tmp, path)
        except OSError:
            with suppress(OSError):
                tmp.unlink()
            raise
        return True

    def _note(self, path: str, digest: str) -> None:
        if self._file is None:
            fs.make_private_dir(self._ledger.parent)
            self._file = fs.append_private(self._ledger)
        if (path, digest) not in self._known:
            self._known.add((path, digest))
            self._file.write(json.dumps([path, digest]).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Everything is on disk."""
        if self._file is not None:
            self._file.close()
            os.sync()  # many small files: one sync for all of them


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
