"""What captioning uses of a rate limiter, as interfaces: `Gate` is one, and others may stand before it.

A stand-in (several gates as one, a gate in another process) is given to a run by its opener, so that
nothing in captioning knows which of them it has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from pipeline.clock import Clock
from pipeline.errors import StopReason
from pipeline.model import Limits, LimitTold
from pipeline.ratelimit.rules.base import Permit
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Verdict


class Circuit(Protocol):
    """What is known of outages. Times are this process's monotonic seconds."""

    @property
    def answered(self) -> bool:
        """Was anybody answered in this run?"""

    @property
    def last_success(self) -> float:
        """When the last answer came; -inf: none has."""

    @property
    def is_open(self) -> bool:
        """Is it an outage?"""

    @property
    def suspicious(self) -> bool:
        """Have several images failed in a row, though not enough of them to call it an outage?"""

    def answered_since(self, monotonic: float) -> bool:
        """Was anybody answered since then?"""


class RequestGate(Protocol):
    """Gives leave to send requests, and hears what came of each. See `Gate`."""

    @property
    def reason(self) -> StopReason | None:
        """Why the run is ending, once it is."""

    @property
    def stopped(self) -> asyncio.Event:
        """Set together with `reason`."""

    @property
    def circuit(self) -> Circuit:
        """What is known of outages."""

    async def permit(self, *, tokens: int, cost_usd: float = 0.0) -> Permit:
        """Wait for leave to send one request; send it at once. Raises Stopped, OutputError."""

    def written(self, permit: Permit) -> None:
        """The request has just gone to the socket."""

    def report(
        self,
        permit: Permit,
        verdict: Verdict | None,
        *,
        tokens: int | None,
        cost_usd: float | None,
        images: Sequence[str],
    ) -> None:
        """What came of a permit; None = no reply came, and the request stays spent."""

    def give_back(
        self, permit: Permit, verdict: Verdict | None = None, *, images: Sequence[str] = ()
    ) -> None:
        """It is certain that nothing was sent."""

    def heard_date(self, date: float, permit: Permit) -> None:
        """The `Date` header (epoch s) of the reply to `permit`, just received."""

    def heard_limits(self, limits: Sequence[LimitTold]) -> None:
        """Limits as the headers of an answer, just received and not yet reported, tell them."""

    def trip(self, message: str, wait: float) -> None:
        """An outage: from now on only probes go, the first after so many seconds."""

    def stop(self, reason: StopReason) -> None:
        """End the run: every waiting `permit` raises Stopped now. The first reason stays."""

    def snapshot(self) -> dict[str, object]:
        """The state of all limits, for progress and status. Instants are epoch seconds."""


class GateOpener(Protocol):
    """Opens the gate of a run, as `open_gate` does."""

    def __call__(
        self,
        settings: QuotaSettings,
        limits: Limits,
        *,
        account: str | None,
        model: str,
        output: str,
        patience: float,
        clock: Clock,
        rng: random.Random,
        state: Path,
        spent_usd: float = 0.0,
        beside: RequestGate | None = None,
    ) -> AbstractAsyncContextManager[RequestGate]: ...
