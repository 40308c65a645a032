"""One run holds an output at a time.

`flock` on `_state/lock`, held by the one driver process: the kernel lets go the moment the
process is gone, however it went, so there is never a stale lock to clean up. Process pools must
spawn, not fork: a forked child would keep the lock after its parent was killed.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import fs
from pipeline.clock import utc
from pipeline.errors import Held


@contextmanager
def locked(path: Path, *, now: float) -> Iterator[None]:
    """Hold `path`; Held names the other holder's pid, host and start. Never waits."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, fs.PRIVATE_FILE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 500, 0).decode("utf-8", "replace").strip() or "an unknown process"
            raise Held(
                f"{path.parent.parent}: another run holds this output ({holder}); "
                "wait for it or choose another output.path"
            ) from None
        holder = f"pid {os.getpid()} on {socket.gethostname()} since {utc(now)}\n"
        os.ftruncate(fd, 0)
        os.pwrite(fd, holder.encode(), 0)
        yield
    finally:
        os.close(fd)


def held(path: Path) -> str | None:
    """Who holds the lock right now, or None. Takes nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(fd, 500, 0).decode("utf-8", "replace").strip()
    else:
        return None
    finally:
        os.close(fd)
