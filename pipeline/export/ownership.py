"""Which text files beside the pictures this job has written: no other is ever replaced unasked.

A list of paths and SHA-256 in the output's `_state/`; a line is there before its file is.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import IO

from pipeline import fs


class Owned:
    """The files that were written before, and those that are written now."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._known: dict[str, str] = {}
        self._file: IO[bytes] | None = None
        if ledger.exists():
            for line in ledger.read_bytes().splitlines():
                try:
                    path, digest = json.loads(line)
                except ValueError:
                    continue  # cut by a crash: that file was not written yet
                self._known[path] = digest

    def may_write(self, path: Path, content: bytes) -> bool:
        """Is nothing there, or what this job wrote, or the very same?"""
        try:
            present = path.read_bytes()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return present == content or self._known.get(str(path)) == _digest(present)

    def write(self, path: Path, content: bytes) -> None:
        """Write a whole file under its name, or nothing."""
        if self._file is None:
            fs.make_private_dir(self._ledger.parent)
            self._file = self._ledger.open("ab")
        self._known[str(path)] = _digest(content)
        self._file.write(json.dumps([str(path), _digest(content)]).encode() + b"\n")
        self._file.flush()
        tmp = path.with_name(f".{path.name[:200]}.tmp")
        try:
            tmp.write_bytes(content)
            os.replace(tmp, path)
        finally:
            tmp.unlink(missing_ok=True)

    def close(self) -> None:
        """Everything is on disk."""
        if self._file is not None:
            self._file.close()
            os.sync()  # many small files: one sync for all of them


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
