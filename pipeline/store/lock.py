"""The lock of an output: one run writes to it at a time.

`flock` on the folder `_state` itself and on `_state/lock` in it, held by the one driver process:
the kernel lets go the moment the process is gone, however it went, so there is never a stale lock
to clean up. The folder cannot be removed by the usual hand on a "stale" lock file; the file is
what earlier versions lock, and it names the holder. Process pools must spawn, not fork: a forked
child would keep the lock after its parent was killed.

`Lock.confirm` proves before each commit and each publication that the names still lead to what
is locked. `flock` does not reach through a second mount that gives the same files other inodes
(an overlay, a file system in user space): there the file's text tells, as long as its process
lives.

A look from outside (`held`) takes the locks shared for an instant. A run that meets it there
tries again, so that looking at an output never keeps a run from starting.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline import fs
from pipeline.clock import utc
from pipeline.errors import Held, OutputError

#: How often a run tries again when it met somebody who only looks, and the pause between.
_TRIES, _PAUSE = 100, 0.002
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | _FLAGS


class Lock:
    """The lock as its holder has it. Made by `locked`."""

    def __init__(self, path: Path, holder: str) -> None:
        #: The holder: pid, host and start, and which process that is.
        self.text = holder
        self._path, self._state = path, path.parent
        self._folder = os.open(self._state, _FOLDER)
        self._file = -1
        try:
            if not _take(self._folder):
                raise self._refused()
            self._folder_id = _identity(os.fstat(self._folder))
            self._lock_file()
        except BaseException:
            self.release()
            raise

    def _lock_file(self) -> None:
        """Lock the file under its name, made anew where it is gone, and name the holder in it."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | _FLAGS, fs.PRIVATE_FILE)
        if not _take(file) or lives(_lines(file)):
            os.close(file)
            raise self._refused()
        if self._file >= 0:
            os.close(self._file)
        self._file, self._file_id = file, _identity(os.fstat(file))
        os.fchmod(file, fs.PRIVATE_FILE)  # it may have been made by hand
        os.ftruncate(file, 0)
        os.pwrite(file, self.text.encode(), 0)

    def _refused(self) -> Held:
        return Held(
            f"{self._state.parent}: another run holds this output ({_named(self._path)}); "
            "wait for it or choose another output.path"
        )

    def confirm(self) -> None:
        """Prove that this run still holds the output. OutputError when `_state` is gone or is
        another folder; Held when another run has locked a new lock file. A lock file that was
        only removed is made anew."""
        if identity_of(self._state) != self._folder_id:
            raise OutputError(
                f"{self._state}: was deleted, moved or replaced while this run was at work, and "
                "with it every answer that was in no part yet; bring the folder back, or run again"
            )
        if identity_of(self._path) != self._file_id:
            try:
                self._lock_file()
            except OSError as error:
                raise OutputError(f"{self._path}: cannot be made anew ({error})") from error

    def release(self) -> None:
        """Let go. The file stays: who waits for it must meet the same one."""
        if self._file >= 0:
            with suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
        os.close(self._folder)


@contextmanager
def locked(path: Path, *, now: float) -> Iterator[Lock]:
    """Hold the output of lock file `path`; Held (76) names the other holder's pid, host and start.
    OSError if it cannot be."""
    pid = os.getpid()
    holder = f"pid {pid} on {socket.gethostname()} since {utc(now)}\n{_process(pid)}\n"
    lock = Lock(path, holder)
    try:
        yield lock
    finally:
        lock.release()


def holder_of(path: Path) -> str | None:
    """Who holds the lock of file `path` right now, or None."""
    for name, flags in ((path.parent, _FOLDER), (path, os.O_RDONLY | _FLAGS)):
        try:
            fd = os.open(name, flags)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            if not _try(fd, fcntl.LOCK_SH) or (name == path and lives(_lines(fd))):
                return _named(path)
        finally:
            os.close(fd)
    return None


def _take(fd: int) -> bool:
    """Lock for a run; False when another run has it."""
    for _ in range(_TRIES):
        if _try(fd, fcntl.LOCK_EX):
            return True
        if not _try(fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(_PAUSE)  # somebody looks; that takes microseconds
    return False


def _try(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file a name leads to; None when it leads nowhere."""
    try:
        return _identity(os.lstat(path))
    except OSError:
        return None


def _lines(fd: int) -> list[str]:
    return os.pread(fd, 500, 0).decode("utf-8", "replace").splitlines()


def _named(path: Path) -> str:
    """The holder, by the text of the lock file."""
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError:
        return "its _state/lock was removed"
    try:
        lines = _lines(fd)
    finally:
        os.close(fd)
    return lines[0].strip() if lines else "it is just starting"


def lives(lines: Sequence[str]) -> bool:
    """Does the process that a lock file names live, on this machine? A run that ends empties the
    file, so it is one that holds the output where our lock does not reach."""
    pid = lines[0].split()[1:2] if lines else []
    known = len(lines) > 1 and pid and pid[0].isdecimal() and lines[1]
    return bool(known) and _process(int(pid[0])) == lines[1]


def _process(pid: int) -> str:
    """A process as no other one is named: machine's start, pid's start. Empty where the system
    does not tell (no /proc) or there is no such process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"  # a dead one may still be listed
