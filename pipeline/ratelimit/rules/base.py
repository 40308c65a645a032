"""What every limit is: a small object that decides when, on times that come in by argument.

The gate asks each rule when a request may go and takes the latest answer; it tells those that
count when a permit was given, and each what came of it, or that nothing was sent after all. Rules
never wait, never read a clock and never touch the network or the disk.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from pipeline.errors import StopReason
from pipeline.ratelimit.limits import QuotaLimits
from pipeline.verdict import Kind, Verdict

#: Not until something is reported.
NEVER = math.inf

#: Refusals that are waits: the service said "later", not "no".
MINUTE = frozenset({Kind.ACCOUNT_MINUTE, Kind.MODEL_MINUTE})
DAY = frozenset({Kind.ACCOUNT_DAY, Kind.MODEL_DAY})
LIMITED = MINUTE | DAY | {Kind.UPSTREAM}
#: Answers that show the service at work.
SUCCESS = frozenset({Kind.OK, Kind.TRUNCATED, Kind.REFUSED, Kind.SAFETY})


#: A reservation in the ledger: (generation of the file, row).
Row = tuple[int, int]


class Now(NamedTuple):
    """One instant on the clocks that matter."""

    #: Monotonic seconds: spacing and waits.
    mono: float
    #: Seconds since boot, the same for all processes.
    uptime: float
    #: This machine's wall clock.
    wall: float
    #: The service's clock is between these two.
    low: float
    high: float


class Ask(NamedTuple):
    """What a worker wants to send."""

    tokens: int
    cost_usd: float


class Permit(NamedTuple):
    """Leave to send one request, now."""

    number: int
    #: Monotonic and since-boot time of the permit.
    at: float
    uptime: float
    tokens: int
    cost_usd: float
    #: The service's days that it is counted on.
    days: tuple[str, ...]
    #: Its reservation in the ledger, if there is one.
    row: Row | None


class Outcome(NamedTuple):
    """What came of a permit."""

    #: None: no reply came.
    verdict: Verdict | None
    kind: Kind | None
    #: As the service counts them, if it told.
    tokens: int | None
    cost_usd: float | None
    #: Keys of the images that travelled.
    images: Sequence[str]
    #: The first refusal of its episode: later ones of the same burst teach nothing new.
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What rules are made from."""

    quota_limits: QuotaLimits
    #: Longest outage to wait out, in seconds.
    patience: float
    #: A spent day is waited out instead of ending the run.
    wait_when_spent: bool
    #: Already spent by this job in earlier runs, in US dollars.
    spent_usd: float
    rng: random.Random
    #: Seconds that a permit may be on its way to whoever uses it.
    lease: float = 0.0


class Rule(Protocol):
    """One limit. `opens_at` decides, the rest (and `take` of `Counts`) keeps the count."""

    def __init__(self, setup: Setup) -> None: ...

    @property
    def idle(self) -> bool:
        """No such limit, now or later: it need not be asked or told anything."""
        ...

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        """Monotonic time from which on `ask` may go; NEVER = after a report; or why not at all."""
        ...

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        """Its request has ended, one way or the other."""
        ...

    def give_back(self, permit: Permit, now: Now) -> None:
        """Nothing was sent: as if the permit had never been."""
        ...

    def facts(self, now: Now) -> Mapping[str, object]:
        """Its part of the gate's snapshot."""
        ...


@runtime_checkable
class Counts(Protocol):
    """A limit that wants to know of every permit."""

    def take(self, permit: Permit, now: Now) -> None:
        """A permit was given."""
        ...
