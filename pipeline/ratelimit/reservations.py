"""What the gate and the ledger say to each other."""

from __future__ import annotations

from dataclasses import field

from pipeline.ratelimit.rules.base import Row
from pipeline.ratelimit.rules.daily import DayView
from pipeline.ratelimit.server_time import ServerTime
from pipeline.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRequest:
    """Requests that want a reservation each."""

    days: tuple[str, ...]
    #: When the days were worked out.
    uptime: float
    #: The wall clock, and the service's at the earliest, then.
    wall: float
    low: float
    #: At most `count` in `window` seconds, `spacing` apart with `burst` at once; count 0 = no
    #: minute limit.
    count: int
    window: float
    spacing: float
    burst: int
    per_day: int | None
    per_job: int | None
    #: Seconds that a request of a bucket takes to come back; 0: no bucket.
    interval: float = 0.0
    #: Requests that would go at once; as many as there is room for get a reservation.
    many: int = 1


@dataclass(slots=True)
class LedgerUpdates:
    """What has happened since the last transaction and goes along with the next."""

    #: Rows are (generation of the file, id).
    answered: list[Row] = field(default_factory=list)
    #: Refusals: the days that they count on.
    refused: list[tuple[str, ...]] = field(default_factory=list)
    #: Given back: row, days.
    returned: list[tuple[Row, tuple[str, ...]]] = field(default_factory=list)
    #: Committed so slowly that the request left at this uptime.
    late: list[tuple[Row, float]] = field(default_factory=list)
    #: Counted on one more day, as the service's clock turned out to be elsewhere.
    also: list[str] = field(default_factory=list)
    #: scope -> (until, told limit).
    holds: dict[str, tuple[float, int | None]] = field(default_factory=dict)
    #: scope -> until (uptime).
    pauses: dict[str, float] = field(default_factory=dict)
    clock: tuple[ServerTime, float] | None = None
    #: Name -> what was learnt of the limits. Of `empty_at` the largest counts.
    learned: dict[str, float] = field(default_factory=dict)
    #: Seconds that come back to the bucket, of requests that were not sent.
    unfilled: float = 0.0

    def __bool__(self) -> bool:
        return bool(
            self.answered or self.refused or self.returned or self.also
            or self.late or self.holds or self.pauses or self.clock
            or self.learned or self.unfilled
        )  # fmt: skip

    def put_back(self, older: LedgerUpdates) -> None:
        """Take along what could not be written before."""
        for name in ("answered", "refused", "returned", "late", "also"):
            getattr(self, name)[:0] = getattr(older, name)
        self.holds, self.pauses = older.holds | self.holds, older.pauses | self.pauses
        self.clock = self.clock or older.clock
        self.learned, self.unfilled = older.learned | self.learned, older.unfilled + self.unfilled


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The ledger's answer to a claim."""

    #: The reservations; none: not now.
    rows: tuple[Row, ...]
    #: Uptime at which asking again makes sense; None without rows: see the view.
    wait_until: float | None
    #: Uptime until which another process was told to pause.
    paused_until: float | None
    view: DayView

    @property
    def row(self) -> Row | None:
        """The first of them."""
        return self.rows[0] if self.rows else None
