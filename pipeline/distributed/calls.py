"""Messages between a worker and the quota actor. Plain values: they are pickled, and no instant of
one machine's clock is among them, only ages and durations, as the clocks of two machines differ.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from pipeline.errors import StopReason
from pipeline.model import Limits, LimitTold
from pipeline.ratelimit.rules.base import Ask, Permit
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Verdict

#: Seconds for which a permit may be used after it was given. Windows of the rate limits are longer by as much.
LEASE = 1.0
#: Longest that the actor keeps a call which waits for a permit: by then it answers that there is none.
LONGEST_WAIT = 10.0


class Written(NamedTuple):
    """A request went to the socket so many seconds after its permit."""

    number: int
    delay: float


class Reported(NamedTuple):
    """What came of a permit; see `RequestGate.report`."""

    number: int
    verdict: Verdict | None
    tokens: int | None
    cost_usd: float | None
    #: Keys, where something was amiss.
    images: tuple[str, ...]


class Returned(NamedTuple):
    """Nothing was sent."""

    number: int
    verdict: Verdict | None
    images: tuple[str, ...]


class Dated(NamedTuple):
    """The `Date` header of a reply."""

    number: int
    date: float


class LimitsHeard(NamedTuple):
    """Limits by an answer's headers."""

    limits: tuple[LimitTold, ...]


class Tripped(NamedTuple):
    """The service refuses what it answered before."""

    message: str
    wait: float


class Ended(NamedTuple):
    """Why the whole job has to end."""

    reason: StopReason


Event = Written | Reported | Returned | Dated | LimitsHeard | Tripped | Ended


class Opening(NamedTuple):
    """The gate that a worker's requests go through; the first worker's opens it for all."""

    worker: str
    model: str
    limits: Limits
    account: str
    patience: float
    #: Longest that a request may be under way, in seconds.
    timeout: float
    #: It stands beside the run's first gate, for another model.
    beside: bool
    #: Permits that an earlier actor gave out and that are still under way.
    flying: tuple[Permit, ...] = ()


class Call(NamedTuple):
    """What has happened, and what is wanted."""

    worker: str
    model: str
    #: Of the actor that gave out what `events` are about.
    epoch: str
    events: tuple[Event, ...] = ()
    asks: tuple[Ask, ...] = ()


class State(NamedTuple):
    """What is true for all workers."""

    #: Another one: the actor has begun anew, and knows nothing of earlier permits.
    epoch: str
    reason: StopReason | None = None
    #: Seconds since anybody was answered; None: nobody was.
    success_age: float | None = None
    is_open: bool = False
    suspicious: bool = False
    facts: dict[str, object] | None = None


class Reply(NamedTuple):
    """What the actor answers."""

    state: State
    permits: tuple[Permit, ...] = ()
    #: Seconds from the call's arrival to the permits.
    waited: float = 0.0


class Quota(Protocol):
    """The actor, as workers reach it. Whatever goes wrong on the way is an exception."""

    def open(self, opening: Opening) -> Awaitable[Reply]:
        """The gate of a model; the permits are those of `flying`, under new numbers."""

    def call(self, call: Call) -> Awaitable[Reply]:
        """Take in what has happened, give out as many permits as may go now."""


class Setting(NamedTuple):
    """What the actor is made with: of the whole job, where a worker has a part."""

    quota: QuotaSettings
    #: The job's own name in the ledger, and the ledger's folder on the actor's machine.
    output: str
    state: str
