"""Raw bodies of answers that did not caption all they were asked for, kept for a look.

They are durable in the journal from the moment they arrive; when their account rows are
published they move here, one file a publication or more. An entry is a line of JSON that ends with the
body's length (`bytes`), then the body as it came, then a line end, so that `grep -a` finds
request ids as well as words. Kept for 14 days, 200 MB at most.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import fs
from pipeline.clock import iso
from pipeline.store import codec

KEEP_SECONDS, KEEP_BYTES = 14 * 86_400, 200_000_000
#: A file that has grown to this is followed by another: whole files are deleted.
FILE_BYTES = 16_000_000
_STAMP = "%Y%m%dT%H%M%SZ"


class BodyFile:
    """One new file of bodies; synced when it is closed."""

    def __init__(self, folder: Path, *, now: float, number: int) -> None:
        stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
        self.path = folder / f"{stamp}-{number:012d}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, fs.PRIVATE_FILE)
        #: Bytes of bodies in it.
        self.size = 0

    def add(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write journal entries: (head, body) each. OSError when the disk does not take them."""
        for head, body in entries:
            sent, reply = codec.read_reply(head, body)
            line = {
                "request_id": sent.request_id,
                "run_id": sent.run_id,
                "at": iso(reply.at / 1e6),
                "keys": [asked.key for asked in sent.items],
                "status": reply.status,
                "headers": dict(reply.headers),
                "bytes": len(body),
            }
            fs.write_all(self._fd, codec.write(line) + b"\n" + body + b"\n")
            self.size += len(body)

    def close(self) -> None:
        """Sync and let go."""
        try:
            os.fsync(self._fd)
        finally:
            os.close(self._fd)
        fs.sync_dir(self.path.parent)


def read_bodies(folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Every kept body with its line, oldest first; the end of a torn file is passed over."""
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while (end := data.find(b"\n", at)) >= 0:
            line = codec.read(data[at:end])
            at = end + 1 + line["bytes"] + 1
            if at > len(data):
                break
            yield line, data[end + 1 : at - 1]


def prune(folder: Path, *, now: float) -> None:
    """Delete what is too old, then the oldest until the rest is small enough."""
    oldest = datetime.fromtimestamp(now - KEEP_SECONDS, UTC).strftime(_STAMP)
    total = 0
    for path in sorted(folder.iterdir(), reverse=True):
        total += path.stat().st_size
        if total > KEEP_BYTES or path.name < oldest:
            path.unlink()
