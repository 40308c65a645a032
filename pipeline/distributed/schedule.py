"""Which shard starts when, and what the end of one means. Pure: times come in by argument.

A worker that died is replaced after a pause that doubles, so that what kills workers is not fed with
them; one that died too often in a row ends the job. Ray's own retries are not used: they begin at once, also
beside a worker that is only taken for dead.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.errors import Exit, StopReason

#: Seconds before a shard is started again, doubled each time up to the longest.
FIRST, LONGEST = 1.0, 60.0
#: So many deaths in a row end the job. A worker that lived so many seconds begins a new row.
DEATHS, LIVED = 6, 600.0
#: A shard ended, well or not, and need not be asked again now.
OVER = frozenset({Exit.DONE, Exit.SOME_FAILED, Exit.LATER})
#: Somebody else is at work on the shard, or only this worker was told to end: to be started again.
AGAIN = frozenset({Exit.HELD, Exit.SIGINT, Exit.SIGTERM, Exit.SIGHUP})


@dataclass(slots=True)
class Schedule:
    """The shards that are left, in order."""

    shards: Iterable[int]
    _left: list[tuple[float, int]] = field(init=False)
    _deaths: dict[int, int] = field(init=False, default_factory=dict)
    _began: dict[int, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._left = [(0.0, shard) for shard in self.shards]
        heapq.heapify(self._left)

    def __len__(self) -> int:
        """Shards that are still to be started."""
        return len(self._left)

    def start(self, now: float) -> int | None:
        """The shard that may start now; None: none yet."""
        if not self._left or self._left[0][0] > now:
            return None
        _, shard = heapq.heappop(self._left)
        self._began[shard] = now
        return shard

    def died(self, shard: int, why: str, now: float, *, least: float = 0.0) -> StopReason | None:
        """A worker ended without a result; least: seconds until it is surely gone. Why the job has to
        end, if it has."""
        row = 1 if now - self._began[shard] > LIVED else self._deaths.get(shard, 0) + 1
        self._deaths[shard] = row
        if row >= DEATHS:
            message = f"shard {shard}: its worker ended {row} times in a row ({why})"
            return StopReason(exit=Exit.SERVICE, message=message)
        pause = max(least, min(LONGEST, FIRST * 2.0 ** (row - 1)))
        heapq.heappush(self._left, (now + pause, shard))
        return None
