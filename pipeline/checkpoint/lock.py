"""One run holds an output at a time.

`flock` on `_state/lock`, held by the one driver process: the kernel lets go the moment the
process is gone, however it went, so there is never a stale lock to clean up. Process pools must
spawn, not fork: a forked child would keep the lock after its parent was killed.

A look from outside (`held`) takes the lock shared for an instant. A run that meets it there
tries again, so that looking at an output never keeps a run from starting.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import fs
from pipeline.clock import utc
from pipeline.errors import Held

#: How often a run tries again when it met somebody who only looks, and the pause between.
_TRIES, _PAUSE = 100, 0.002
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def locked(path: Path, *, now: float) -> Iterator[None]:
    """Hold `path`; Held (76) names the other holder's pid, host and start. OSError if it cannot be."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, fs.PRIVATE_FILE)
    try:
        if not _take(fd):
            raise Held(
                f"{path.parent.parent}: another run holds this output ({_holder(fd)}); "
                "wait for it or choose another output.path"
            )
        holder = f"pid {os.getpid()} on {socket.gethostname()} since {utc(now)}\n"
        os.ftruncate(fd, 0)
        os.pwrite(fd, holder.encode(), 0)
        yield
    finally:
        os.close(fd)


def held(path: Path) -> str | None:
    """Who holds the lock right now, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _try(fd, fcntl.LOCK_SH) else _holder(fd)
    finally:
        os.close(fd)


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


def _holder(fd: int) -> str:
    return os.pread(fd, 500, 0).decode("utf-8", "replace").strip() or "it is just starting"
