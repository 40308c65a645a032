"""What a run has done so far: exact counts, one progress line, and a file that `status` reads.

On a terminal tqdm draws the line; without one, a log line a minute. `live.json` is rewritten
at most every two seconds and is a convenience: nothing is recovered from it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pipeline import fs
from pipeline.captioning.counters import RunCounters
from pipeline.captioning.progress_line import events, fitted, progress_parts
from pipeline.clock import Clock
from pipeline.model import Record, RequestRow
from pipeline.redact import one_line

if TYPE_CHECKING:
    from tqdm import tqdm

LIVE = "live.json"
#: Captions of a run that are shown as they come, and their longest line: one sees that it works.
SHOWN_CAPTIONS, SHOWN_CHARS = 3, 200
LIVE_EVERY, LINE_EVERY = 2.0, 60.0
#: Columns of a terminal that does not say.
NARROW = 80


class Progress:
    """Keeps the counters and shows them."""

    def __init__(
        self,
        counters: RunCounters,
        *,
        total: int,
        state: Path,
        clock: Clock,
        quota: Callable[[], Mapping[str, Any]],
        stream: TextIO | None,
        each_minute: Callable[[], None] | None = None,
    ) -> None:
        self.counters = counters
        self._clock = clock
        self._quota = quota
        self._live = state / LIVE
        #: Only said once: it is a convenience.
        self._live_lost = False
        self._shown = 0
        self._started = self._lined = self._minute = clock.monotonic()
        self._each_minute = each_minute
        self._log = logging.getLogger("pipeline")
        terminal = stream is not None and stream.isatty()
        self._total = total
        self._seen: Mapping[str, Any] = {}
        self._bar: tqdm[Any] | None = None
        self._plain = stream is not None and not terminal
        if terminal:
            from tqdm import tqdm

            # Our own words alone: what does not fit is left out whole, not cut in the middle.
            self._bar = tqdm(total=total, file=stream, bar_format="{desc}", mininterval=0.5)
            self._draw()
        self.write_live()

    def landed(
        self,
        before: Sequence[str | None],
        records: Sequence[Record],
        row: RequestRow | None,
    ) -> None:
        """Count what an entry of the journal brings, once it is on disk.

        before: the state of each record's key until then.
        """
        if row is not None:
            self.counters.tried(row)
        for state, record in zip(before, records, strict=True):
            self.counters.settle(state, record)
            if record.caption and self._shown < SHOWN_CAPTIONS:
                self._shown += 1
                self.event(one_line(f"{record.image}: {record.caption}", SHOWN_CHARS))

    def event(self, message: str) -> None:
        """Something worth a line of its own; does not tear the progress line."""
        self._log.info(message)

    async def keep_showing(self) -> None:
        """Show the state every two seconds, until cancelled."""
        while True:
            await self._clock.sleep(LIVE_EVERY)
            self._show()

    def _show(self) -> None:
        now = self._clock.monotonic()
        self._hear()
        if self._bar is not None:
            self._draw()
        elif self._plain and now - self._lined >= LINE_EVERY:
            self._lined = now
            self._log.info("%s", ", ".join(self._parts()))
        if self._each_minute is not None and now - self._minute >= LINE_EVERY:
            self._minute = now
            self._each_minute()
        self.write_live()

    def _hear(self) -> None:
        """Say what happened to the quota since the last look."""
        quota = self._quota()
        for line in events(self._seen, quota):
            self.event(line)
        self._seen = dict(quota)

    def _draw(self) -> None:
        """The progress line, as wide as the terminal is now."""
        if self._bar is not None:
            try:
                width = os.get_terminal_size(self._bar.fp.fileno()).columns or NARROW
            except OSError:  # it went away, or is none after all
                width = NARROW
            self._bar.set_description_str(fitted(self._parts(), width - 1))

    def _parts(self) -> list[str]:
        minutes = (self._clock.monotonic() - self._started) / 60
        now = datetime.fromtimestamp(self._clock.now(), UTC).astimezone()
        return progress_parts(self.counters, self._total, self._quota(), minutes, now)

    def write_live(self, *, closed: bool = False) -> None:
        """Rewrite `live.json` (renamed into place, not synced: it is only for looking)."""
        counters = self.counters
        live = {
            "closed": closed,
            "pid": os.getpid(),
            "at": self._clock.now(),
            "seconds": round(self._clock.monotonic() - self._started, 3),
            "rows": counters.rows,
            "images": counters.images,
            "captioned": counters.captioned,
            "failed": counters.failures,
            "left": counters.left,
            "more": counters.more,
            "settled_this_run": counters.settled,
            "to_settle": max(self._total, counters.settled),
            "requests": counters.requests,
            "refused": counters.refused,
            "quota": dict(self._quota()),
        }
        try:
            self._replace_live(json.dumps(live).encode())
        except OSError as error:
            if not self._live_lost:
                self._log.warning("%s cannot be written (%s)", self._live, error.strerror)
            self._live_lost = True

    def _replace_live(self, data: bytes) -> None:
        tmp = self._live.with_suffix(".tmp")
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, fs.PRIVATE_FILE)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.replace(tmp, self._live)

    def close(self) -> None:
        """Take the line off the terminal and leave the last numbers in `live.json`."""
        self._hear()
        if self._bar is not None:
            self._draw()
            self._bar.close()
        self.write_live(closed=True)


__all__ = ["LIVE", "Progress", "RunCounters"]
