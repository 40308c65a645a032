"""File descriptors kept in reserve, as the journal keeps room on the disk.

A run that reaches its limit of open files can open neither a picture nor a part, and would stand
still until somebody raises the limit. The reserve is given up then, and the run goes on with it.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable

from pipeline.clock import Clock

#: A run without pictures from the network works with about so many.
KEPT = 32
#: Below this limit every descriptor is needed.
LEAST = 256
#: Seconds between two looks.
EVERY = 2.0
_SHORT = frozenset({errno.EMFILE, errno.ENFILE})

#: SQLite's word for any file that cannot be opened.
_CANTOPEN = 14


def none_left(error: BaseException | None) -> bool:
    """Is this error one for want of descriptors?"""
    if isinstance(error, OSError):
        return error.errno in _SHORT
    # SQLite does not say why a file cannot be opened.
    return getattr(error, "sqlite_errorcode", None) == _CANTOPEN and _short()


def _short() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in _SHORT
    return False


class SpareDescriptors:
    """Open descriptors that nobody uses, until none can be opened any more."""

    def __init__(self) -> None:
        """Fewer are kept, or none, where the limit is low."""
        self._kept: list[int] = []
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < LEAST:
            return
        try:
            for _ in range(KEPT):
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self.close()

    def released(self) -> bool:
        """Give the reserve up if no descriptor is left. Was it given up now?"""
        short = bool(self._kept) and _short()
        if short:
            self.close()
        return short

    async def keep_looking(self, clock: Clock, event: Callable[[str], None]) -> None:
        """Look again and again; they go when this is cancelled. event: tells the user one line."""
        try:
            while self._kept:
                await clock.sleep(EVERY)
                if self.released():
                    event(
                        "too many open files: the run goes on with descriptors that it kept in "
                        "reserve; raise the limit (ulimit -n)"
                    )
        finally:
            self.close()

    def close(self) -> None:
        """Let all of them go."""
        while self._kept:
            os.close(self._kept.pop())
