"""What a disk may hold after the power went, by the record of a process's file calls.

The model is what POSIX promises and no more: a file's bytes are safe once the file was synced, a
name (made, renamed, removed) once its folder was synced. Whatever was not synced may be there, or
not, or half of it, each piece on its own; only a rename is never seen half-way. The record comes
from `shim.c` in mode `record`, which holds all threads to one order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

#: none: nothing that was not synced; names: every name, but only synced bytes; bytes: every byte,
#: but only synced names; random: each piece or not.
Policy = Literal["none", "names", "bytes", "random"]
POLICIES: tuple[Policy, ...] = ("none", "names", "bytes", "random")
_SECTOR = 512


class Call(NamedTuple):
    """One call on a file: make, mkdir, write, cut (to a size), sync, rename, unlink."""

    name: str
    #: In bytes; -1: at the end of the file.
    at: int
    path: str
    #: The new name.
    other: str
    data: bytes


def read_record(log: Path) -> Iterator[Call]:
    """The calls in their order."""
    held = log.read_bytes()
    start = 0
    while start < len(held):
        end = held.index(b"\n", start)
        name, at, size, *lengths = held[start:end].decode().split()
        pieces, start = [], end + 1
        for length in (*map(int, lengths), int(size)):
            pieces.append(held[start : start + length])
            start += length
        path, other, data = pieces
        yield Call(name, int(at), os.fsdecode(path), os.fsdecode(other), data)


@dataclass(slots=True)
class _File:
    """A file's bytes: as they are, as they were synced, and what came between."""

    live: bytes = b""
    safe: bytes = b""
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, at: int, data: bytes | None) -> None:
        """data: None cuts the file to `at` bytes."""
        at = len(self.live) if at < 0 else at
        self.unsynced.append((at, data))
        self.live = _changed(self.live, at, data)

    def survivors(self, policy: Policy, rng: random.Random) -> bytes:
        """What is left of it."""
        if policy == "bytes":
            return self.live
        left = self.safe
        if policy == "random":
            for at, data in self.unsynced:
                if data is None:
                    left = _changed(left, at, None) if rng.random() < 0.5 else left
                    continue
                for start in range(0, len(data), _SECTOR):
                    if rng.random() < 0.5:
                        left = _changed(left, at + start, data[start : start + _SECTOR])
        return left


def _changed(held: bytes, at: int, data: bytes | None) -> bytes:
    if data is None:
        return held[:at].ljust(at, b"\0")
    return held[:at].ljust(at, b"\0") + data + held[at + len(data) :]


class Disk:
    """A folder tree under way, and what would be left of it."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        #: Names as they are, and as their folders were synced; a folder is a name for None.
        self._names: dict[str, _File | None] = {self._root: None}
        self._safe: dict[str, _File | None] = dict(self._names)
        #: Folder -> changes of its names that were not synced: (name, what it stands for; `gone`).
        self._unsynced: dict[str, list[list[tuple[str, _File | Literal["gone"] | None]]]] = {}

    def apply(self, call: Call) -> None:
        """One call more."""
        match call.name:
            case "make":
                self._name([(call.path, _File())])
            case "mkdir":
                self._name([(call.path, None)])
            case "rename":
                self._name([(call.path, "gone"), (call.other, self._names[call.path])])
            case "unlink":
                self._name([(call.path, "gone")])
            case "sync" if self._names.get(call.path) is None:
                for change in self._unsynced.pop(call.path, []):
                    _rename(self._safe, change)
            case "sync":
                file = self._file(call.path)
                file.safe, file.unsynced = file.live, []
            case "write":
                self._file(call.path).change(call.at, call.data)
            case "cut":
                self._file(call.path).change(call.at, None)

    def _file(self, path: str) -> _File:
        file = self._names[path]
        assert file is not None, path
        return file

    def _name(self, change: list[tuple[str, _File | Literal["gone"] | None]]) -> None:
        _rename(self._names, change)
        self._unsynced.setdefault(os.path.dirname(change[0][0]), []).append(change)  # noqa: PTH120 - text

    def after_cut(self, policy: Policy, rng: random.Random) -> dict[str, bytes | None]:
        """Path (from the root) -> bytes, or None for a folder."""
        names = dict(self._safe)
        for changes in self._unsynced.values():
            for change in changes:
                if policy == "names" or (policy == "random" and rng.random() < 0.5):
                    _rename(names, change)
        left: dict[str, bytes | None] = {}
        for path in sorted(names):
            short = os.path.relpath(path, self._root)
            folder = os.path.dirname(short)  # noqa: PTH120 - text
            if short != "." and (not folder or folder in left):
                file = names[path]
                left[short] = None if file is None else file.survivors(policy, rng)
        return left


def _rename(
    names: dict[str, _File | None], change: list[tuple[str, _File | Literal["gone"] | None]]
) -> None:
    for path, what in change:
        if what == "gone":
            names.pop(path, None)
        else:
            names[path] = what


def lay_out(left: dict[str, bytes | None], folder: Path) -> None:
    """Make it real, in the modes that a run gives. SQLite's shared memory is not on any disk."""
    for name, data in left.items():
        path = folder / name
        if data is None:
            path.mkdir(mode=0o700 if "_state" in name else 0o755)
        elif not name.endswith("-shm"):
            path.write_bytes(data)
            path.chmod(0o600 if "_state" in name else 0o644)
