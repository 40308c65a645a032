"""Requests per day: a count for each day that the service may be counting on.

The truth is in the ledger where there is one (other processes spend of the same day), and this
rule holds the last view of it; without a ledger it counts by itself. A day is spent when the
account's limit or the job's own cap is reached, when the service said so, or when refusals have
used up a tenth of it: refused requests count at the service too, and a storm of them would burn
the day for nothing. As long as that is possible, no more are in flight than may be refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.clock import utc
from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.days import MARGIN, day_of, days_touched, end_of, resume_words
from pipeline.ratelimit.rules.base import (
    DAY,
    LIMITED,
    NEVER,
    SUCCESS,
    Ask,
    Now,
    Outcome,
    Permit,
    Setup,
)
from pipeline.verdict import Verdict

#: Share of a day that refusals may spend, and so many always.
REFUSED_SHARE, REFUSED_LEAST = 0.1, 3
#: A day that ends within a minute is waited for: a run that was told to resume at the reset may
#: start a second or two before it on the service's clock.
NEARLY = 60.0
#: A wait is slept this much longer at most, so that nobody's restart is everybody's.
WAIT_JITTER = 20.0
#: A told reset further off than this is not believed.
FURTHEST = 48 * 3600.0
#: Where a day's limit and zone are known, a told wait shorter than this says nothing about the day
#: (Google gives seconds for both); elsewhere a day may roll, and the told wait is all there is.
DAY_WAIT = 600.0
#: Share of a day that must have been counted before a service is believed at once that the day is
#: spent, when it does not say until when; else it is asked once more after so many seconds.
BELIEVED_SHARE, PROBE_AFTER = 0.5, 61.0
#: Seconds of doubt about the service's clock from which on nothing is asked: each request would
#: count on every day in between.
DOUBT = 2 * 86400.0
#: No clock that is right says less (2025) or more (2200).
EARLIEST, LATEST = 1_735_689_600.0, 7_258_118_400.0


@dataclass(slots=True)
class DayView:
    """What is known of the counts; as the ledger last told."""

    #: Day -> requests counted on it: the account's (or model's), and this job's.
    used: dict[str, int] = field(default_factory=dict)
    used_by_job: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    #: Spent by the service's own word until this instant of its clock.
    hold_until: float = 0.0
    #: The limit's size as the service named it then.
    hold_limit: int | None = None
    #: Name -> what was learnt of the limits and is kept (`learned.py`).
    learned: dict[str, float] = field(default_factory=dict)
    #: The ledger was lost: today's count is not to be trusted.
    careful: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """A day with nothing left: until when (the service's clock), and what is spent."""

    until: float
    what: str


def clock_trouble(now: Now) -> str | None:
    """Why no day can be told, if this machine's clock is beyond belief."""
    if now.wall < EARLIEST or now.wall > LATEST:
        return f"this machine's clock says {utc(now.wall)}: set the clock, then run again"
    if now.high - now.low > DOUBT:
        return (
            f"this machine's clock says {utc(now.wall)}, and the quota ledger has seen times from "
            f"{utc(now.low)} to {utc(now.high)}: set the clock, then run again (if it is right, "
            "remove quota.sqlite from the state folder)"
        )
    return None


def refusals_allowed(limit: int | None) -> int | None:
    """Requests that may be refused in a day before it is given up; None: no daily limit."""
    return None if limit is None else max(REFUSED_LEAST, int(limit * REFUSED_SHARE))


class Daily:
    """The rule `daily`."""

    idle = False

    def __init__(self, setup: Setup) -> None:
        self._allowance = setup.quota_limits
        self.zone = setup.quota_limits.zone
        self._wait = setup.wait_when_spent
        self._rng = setup.rng
        self.view = DayView()
        #: A limit that the service named in a refusal of this run.
        self.told_limit: int | None = None
        #: Reservations of this output that never got a reply: of earlier runs, and of this one.
        self.unknown = 0
        self.in_flight = 0
        #: When the service said that the day is spent and was not believed; until when nothing
        #: goes; both None when all is well.
        self._doubted_at: float | None = None
        self._probe_at = float("-inf")
        #: The days of a span of instants that is surely one day: (start, end, days).
        self._span: tuple[float, float, tuple[str, ...]] = (0.0, 0.0, ())
        self._jitter: dict[float, float] = {}
        self._work_out()

    @property
    def limit(self) -> int | None:
        """The account's, as the service last named it."""
        return self.told_limit or self._allowance.per_day

    def _work_out(self) -> None:
        """The binding limit, and so what refusals may spend."""
        known = [limit for limit in (self.limit, self._allowance.per_job) if limit is not None]
        self._smallest = min(known) if known else None
        self._allowed = refusals_allowed(self._smallest)

    def days(self, now: Now) -> tuple[str, ...]:
        """The days that a request sent now may count on."""
        if clock_trouble(now) is not None:
            return (day_of(now.high, self.zone),)  # nothing will be asked
        start, end, days = self._span
        if start <= now.low - MARGIN and now.high + MARGIN < end:
            return days
        days = days_touched(now.low, now.high, self.zone)
        if len(days) == 1:
            self._span = (now.low - MARGIN, end_of(days[0], self.zone), days)
        return days

    def end(self, now: Now) -> float:
        """When the day ends, on the service's clock."""
        return end_of(self.days(now)[0], self.zone)

    def spent(self, now: Now) -> Spent | None:
        """Why nothing more may go today, if so."""
        view, quota_limits = self.view, self._allowance
        if now.low < view.hold_until:
            limit = view.hold_limit or self.limit
            what = "today's quota" if limit is None else f"quota of {limit}"
            return Spent(view.hold_until, f"{what} spent")
        limit, allowed = self.limit, self._allowed
        if allowed is None:
            return None
        for day in self.days(now):
            if limit is not None and view.used.get(day, 0) >= limit:
                return self._till_end(day, f"quota of {limit} spent")
            if (
                quota_limits.per_job is not None
                and view.used_by_job.get(day, 0) >= quota_limits.per_job
            ):
                return self._till_end(day, f"this job's cap of {quota_limits.per_job} a day spent")
            if view.refused.get(day, 0) >= allowed:
                what = f"{view.refused[day]} requests refused today, more would waste the quota"
                return self._till_end(day, what)
        return None

    def _till_end(self, day: str, what: str) -> Spent:
        return Spent(end_of(day, self.zone) + MARGIN, what)

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        if self._allowance.shared and (trouble := clock_trouble(now)) is not None:
            return StopReason(exit=Exit.LATER, message=trouble)
        spent = self.spent(now)
        if spent is not None:
            return self._closed(spent, now)
        if self.view.careful and self.in_flight > 0:
            return NEVER
        if self._doubted_at is not None:
            return NEVER if self.in_flight > 0 else self._probe_at
        allowed = self._allowed
        if allowed is not None and self.in_flight > 0:
            refused = max((self.view.refused.get(day, 0) for day in self.days(now)), default=0)
            if self.in_flight >= allowed - refused:
                return NEVER
        return now.mono

    def _closed(self, spent: Spent, now: Now) -> float | StopReason:
        if spent.until - now.low <= NEARLY:
            return now.mono + (spent.until - now.low)
        if self._wait:
            if spent.until not in self._jitter:
                self._jitter = {spent.until: self._rng.uniform(0.0, WAIT_JITTER)}
            return now.mono + (spent.until - now.low) + self._jitter[spent.until]
        resume = self.resume_after(spent, now)
        return StopReason(
            exit=Exit.LATER,
            message=f"{spent.what}, {resume_words(resume)}",
            resume_after=resume,
        )

    @staticmethod
    def resume_after(spent: Spent, now: Now) -> float:
        """The instant on this machine's clock; a skew of a second or two is inside the margin."""
        skew = now.wall - now.low
        return spent.until if abs(skew) < 2.0 else spent.until + skew

    def take(self, permit: Permit, now: Now) -> None:
        self.in_flight += 1
        if permit.row is None:
            self.count(permit.days, 1)

    def count(self, days: tuple[str, ...], by: int) -> None:
        """Count by ourselves what the ledger's next view will hold, if there is one."""
        for counts in (self.view.used, self.view.used_by_job):
            for day in days:
                counts[day] = max(0, counts.get(day, 0) + by)

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        self.in_flight -= 1
        if outcome.kind is None:
            self.unknown += 1
        elif outcome.kind in SUCCESS and permit.at > (self._doubted_at or now.mono):
            self._doubted_at = None
        if outcome.kind not in LIMITED:
            return
        for day in permit.days:
            self.view.refused[day] = self.view.refused.get(day, 0) + 1
        if outcome.kind in DAY:
            assert outcome.verdict is not None
            self._day_refused(permit, outcome.verdict, now)

    def _day_refused(self, permit: Permit, verdict: Verdict, now: Now) -> None:
        """The service says that the day is spent."""
        until = self.told_reset(verdict.until, verdict.wait, now)
        if until is None and not self._believes(permit, verdict.limit or self.limit, now):
            return
        if until is None:
            until = end_of(day_of(now.low, self.zone), self.zone)
        self._doubted_at = None
        self.view.hold_until = max(self.view.hold_until, until + MARGIN)
        if verdict.limit:
            self.view.hold_limit = verdict.limit
            self.limit_is(verdict.limit)

    def limit_is(self, limit: int | None) -> None:
        """The limit's size, as the service named it or as it was learnt before; None: there is none."""
        self.told_limit = limit
        self._work_out()

    def told_reset(self, until: float | None, wait: float | None, now: Now) -> float | None:
        """When a spent day is over by the service's word, on its clock; None when it did not say."""
        known = self.limit is not None or self.zone != "UTC"
        least = DAY_WAIT if known else 0.0
        if until is None and wait is not None and wait > least:
            until = now.low + wait
        return until if until is not None and now.low < until < now.low + FURTHEST else None

    def _believes(self, permit: Permit, limit: int | None, now: Now) -> bool:
        """Is the day spent, though nobody says until when? Where little of it was counted, only
        when a request after a pause hears the same."""
        used = max(self.view.used.get(day, 0) for day in self.days(now))
        if limit is not None and used >= BELIEVED_SHARE * limit:
            return True
        if self._doubted_at is None:
            self._doubted_at, self._probe_at = now.mono, now.mono + PROBE_AFTER
            return False
        return permit.at > self._doubted_at

    def give_back(self, permit: Permit, now: Now) -> None:
        self.in_flight -= 1
        self.count(permit.days, -1)

    def learned(self, view: DayView) -> None:
        """The ledger's newest view."""
        if view.hold_until < self.view.hold_until:
            view.hold_until, view.hold_limit = self.view.hold_until, self.view.hold_limit
        for day, refused in view.refused.items():
            # A refusal reported while the ledger was being asked is not in its answer yet.
            view.refused[day] = max(refused, self.view.refused.get(day, 0))
        self.view = view

    def facts(self, now: Now) -> Mapping[str, object]:
        day = self.days(now)[-1]
        limit = self._smallest
        by_job = limit is not None and limit != self.limit
        used = (self.view.used_by_job if by_job else self.view.used).get(day, 0)
        spent = self.spent(now)
        resets = self.resume_after(spent or self._till_end(day, ""), now)
        left = None if limit is None else (0 if spent else max(0, limit - used))
        return {
            "used": used,
            "limit": limit,
            "left": left,
            "resets_at": None if limit is None and spent is None else resets,
            "refused": self.view.refused.get(day, 0),
            "unknown": self.unknown,
            "careful": self.view.careful,
        }
