"""Raw bodies of answers that gave no caption, kept for a look: 14 days, 200 MB."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pipeline import fs
from pipeline.clock import Clock
from pipeline.records import Reply

KEEP_SECONDS, KEEP_BYTES = 14 * 86_400, 200_000_000
#: Longest body kept whole.
BODY_BYTES = 1_000_000


class Bodies:
    """`_state/bodies/REQUEST_ID`: the status line, then the body as it came."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._kept = 0
        fs.make_private_dir(folder)
        self.prune()

    def keep(self, request_id: str, reply: Reply) -> None:
        """Write one body aside. Not synced: the journal has it until its part is published."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        data = b"HTTP %d\n" % reply.status + reply.body[:BODY_BYTES]
        try:
            fd = os.open(self._folder / request_id, flags, fs.PRIVATE_FILE)
            try:
                fs.write_all(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            # A convenience: a full disk is noticed where it matters, at the journal.
            logging.getLogger("pipeline").warning("body of %s not kept: %s", request_id, error)
        self._kept += len(data)
        if self._kept > KEEP_BYTES // 10:
            self.prune()

    def prune(self) -> None:
        """Delete what is too old, then the oldest until the rest is small enough."""
        self._kept = 0
        files = [(path.stat(), path) for path in self._folder.iterdir()]
        files.sort(key=lambda one: one[0].st_mtime, reverse=True)
        total = 0
        for stat, path in files:
            total += stat.st_size
            if total > KEEP_BYTES or stat.st_mtime < self._clock.now() - KEEP_SECONDS:
                path.unlink()
