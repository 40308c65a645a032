"""What a run has done so far: exact counts, one progress line, and a file that `status` reads.

On a terminal tqdm draws the line; without one, a log line a minute. `live.json` is rewritten
at most every two seconds and is a convenience: nothing is recovered from it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from pipeline import fs
from pipeline.clock import Clock
from pipeline.records import Record, RequestRow

LIVE = "live.json"
LIVE_EVERY, LINE_EVERY = 2.0, 60.0

_REFUSED = frozenset(
    {"account_minute", "model_minute", "account_day", "model_day", "upstream", "budget"}
)


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of this manifest (from the survey on) and of this run (from zero)."""

    rows: int = 0
    images: int = 0
    captioned: int = 0
    #: code -> images that have a failure record.
    failed: dict[str, int] = field(default_factory=dict)
    #: Settled in this run.
    settled: int = 0
    new_captions: int = 0
    requests: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def left(self) -> int:
        return max(0, self.images - self.captioned - self.failures)

    def move(self, before: str | None, after: str) -> None:
        """One image went from `before` (None, `ok` or a code) to `after` (`ok` or a code)."""
        if before == "ok":
            self.captioned -= 1
        elif before is not None:
            self.failed[before] = self.failed.get(before, 0) - 1
            if not self.failed[before]:
                del self.failed[before]
        if after == "ok":
            self.captioned += 1
        else:
            self.failed[after] = self.failed.get(after, 0) + 1

    def tried(self, row: RequestRow) -> None:
        """One HTTP attempt went into the account book."""
        self.requests += 1
        self.refused += row.class_ in _REFUSED
        self.prompt_tokens += row.prompt_tokens or 0
        self.completion_tokens += row.completion_tokens or 0
        self.cost_usd += row.cost_usd or 0.0


class Progress:
    """Keeps the tally and shows it. Give it records only once they are on disk."""

    def __init__(
        self,
        tally: Tally,
        *,
        total: int,
        state: Path,
        clock: Clock,
        quota: Callable[[], Mapping[str, Any]],
        stream: TextIO | None,
        each_minute: Callable[[], None] | None = None,
    ) -> None:
        self.tally = tally
        self._clock = clock
        self._quota = quota
        self._live = state / LIVE
        self._started = self._lined = self._minute = clock.monotonic()
        self._each_minute = each_minute
        self._log = logging.getLogger("pipeline")
        terminal = stream is not None and stream.isatty()
        self._total = total
        self._bar: tqdm[Any] | None = None
        self._plain = stream is not None and not terminal
        if terminal:
            self._bar = tqdm(
                total=total, unit="img", file=stream, dynamic_ncols=True, smoothing=0.1
            )
        self.write_live()

    def records(self, settled: Sequence[tuple[str | None, Record]]) -> None:
        """Images settled: (what the checkpoint said of the key before, its record)."""
        for before, record in settled:
            after = "ok" if record.status == "ok" else str(record.error_code)
            if not (before == "ok" and after != "ok"):  # a failure never replaces a caption
                self.tally.move(before, after)
            self.tally.settled += 1
            if after == "ok":
                self.tally.new_captions += 1
        if self._bar is not None:
            self._bar.update(len(settled))

    def tried(self, row: RequestRow) -> None:
        self.tally.tried(row)

    def event(self, words: str) -> None:
        """Something worth a line of its own; does not tear the progress line."""
        self._log.info(words)

    async def keep_showing(self) -> None:
        """Show the state every two seconds, until cancelled."""
        while True:
            await self._clock.sleep(LIVE_EVERY)
            self._show()

    def _show(self) -> None:
        now = self._clock.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(self._words())
        elif self._plain and now - self._lined >= LINE_EVERY:
            self._lined = now
            self._log.info(f"{self.tally.settled}/{self._total} images, {self._words()}")
        if self._each_minute is not None and now - self._minute >= LINE_EVERY:
            self._minute = now
            self._each_minute()
        self.write_live()

    def _words(self) -> str:
        tally, quota = self.tally, self._quota()
        minutes = max(1e-9, (self._clock.monotonic() - self._started) / 60)
        words = [f"{tally.new_captions / minutes:.0f}/min", f"{tally.requests} req"]
        if quota.get("limit"):
            words.append(f"{quota.get('used', 0)}/{quota['limit']} today")
        if quota.get("in_flight"):
            words.append(f"{quota['in_flight']} in flight")
        if tally.failures:
            words.append(f"{tally.failures} failed")
        if tally.refused:
            words.append(f"{tally.refused} refused")
        return ", ".join(words)

    def write_live(self, *, closed: bool = False) -> None:
        """Rewrite `live.json` (renamed into place, not synced: it is only for looking)."""
        tally = self.tally
        live = {
            "closed": closed,
            "pid": os.getpid(),
            "at": self._clock.now(),
            "seconds": round(self._clock.monotonic() - self._started, 3),
            "rows": tally.rows,
            "images": tally.images,
            "captioned": tally.captioned,
            "failed": tally.failures,
            "left": tally.left,
            "settled_this_run": tally.settled,
            "to_settle": self._total,
            "requests": tally.requests,
            "refused": tally.refused,
            "quota": dict(self._quota()),
        }
        tmp = self._live.with_suffix(".tmp")
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, fs.PRIVATE_FILE)
        with os.fdopen(fd, "wb") as file:
            file.write(json.dumps(live).encode())
        os.replace(tmp, self._live)

    def close(self) -> None:
        """Take the line off the terminal and leave the last numbers in `live.json`."""
        if self._bar is not None:
            self._bar.close()
        self.write_live(closed=True)
