"""The ledger, off the event loop: one thread, one transaction for whatever has come together.

What happened to earlier permits waits for the next reservation and is committed with it, so a
paced run pays one commit a request. What others must hear at once (a spent day, a pause) is
written without waiting. An error of such a write is raised by the next call, never lost.

A process that has no file descriptor left cannot open the ledger's own journal: that passes, so a
reservation is tried again, and nothing is sent meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipeline.descriptors import none_left
from pipeline.errors import OutputError
from pipeline.ratelimit.ledger import Ledger
from pipeline.ratelimit.reservations import LedgerUpdates, Reservation, ReservationRequest
from pipeline.ratelimit.rules.daily import DayView
from pipeline.ratelimit.server_time import ServerTime

log = logging.getLogger(__name__)

#: Seconds until a reservation is tried again for which no descriptor was left.
AGAIN = 1.0


class LedgerThread:
    """An open ledger and its thread. Made and closed by `open_gate`."""

    def __init__(self, ledger: Ledger, thread: ThreadPoolExecutor) -> None:
        self._ledger, self._thread = ledger, thread
        #: Grows until the next transaction takes it along.
        self.pending = LedgerUpdates()
        self._reserving: asyncio.Future[Reservation] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._write_again = False
        self._error: BaseException | None = None
        #: As the ledger told it last; the gate counts on in it.
        self._view: DayView | None = None

    def tell(self, notices: list[str]) -> None:
        """Log what the ledger has to say, and add it to these."""
        while self._ledger.notices:
            notices.append(self._ledger.notices.pop(0))
            log.warning("%s", notices[-1])

    async def clock(self) -> ServerTime:
        """What is known of the service's clock."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ledger.clock)

    async def look(
        self, days: Sequence[str], used: int | None, most: int | None
    ) -> tuple[DayView, int]:
        """See `Ledger.look`."""
        looked = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._ledger.look, days, used, most
        )
        self._view = looked[0]
        return looked

    async def reserve(self, claim: ReservationRequest) -> Reservation:
        """A reservation on the disk, or why there is none. Raises OutputError.

        If the caller is cancelled meanwhile, the reservation is given back: nothing was sent.
        """
        if self._error is not None:
            raise self._error
        pending, self.pending = self.pending, LedgerUpdates()
        self._reserving = job = asyncio.get_running_loop().run_in_executor(
            self._thread, self._ledger.reserve, claim, pending
        )
        try:
            reservation = await asyncio.shield(job)
        except asyncio.CancelledError:
            job.add_done_callback(lambda done: self._return(done, claim))
            raise
        except OutputError as error:
            if self._view is None or not none_left(error.__cause__):
                self._error = error
                raise
            self.pending.put_back(pending)
            return Reservation(
                rows=(), wait_until=claim.uptime + AGAIN, paused_until=None, view=self._view
            )
        self._view = reservation.view
        return reservation

    def _return(self, done: asyncio.Future[Reservation], claim: ReservationRequest) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        self.pending.returned += [(row, claim.days) for row in done.result().rows]

    def write_soon(self) -> None:
        """Start writing what is pending; if a write is under way, after it."""
        if self._writing is not None:
            self._write_again = True
            return
        if not self.pending:
            return
        pending, self.pending = self.pending, LedgerUpdates()
        self._writing = asyncio.get_running_loop().run_in_executor(
            self._thread, self._ledger.write, pending
        )
        self._writing.add_done_callback(partial(self._written, pending))

    def _written(self, pending: LedgerUpdates, done: asyncio.Future[None]) -> None:
        self._writing = None
        if not done.cancelled() and (error := done.exception()) is not None:
            if none_left(error.__cause__):
                self.pending.put_back(pending)  # goes along with the next
            else:
                self._error = error
        elif self._write_again:
            self._write_again = False
            self.write_soon()

    async def close(self) -> None:
        """Write what is left and close. Raises OutputError if something could not be written."""
        loop = asyncio.get_running_loop()
        if self._reserving is not None:
            # Cancelled in the middle of a reservation: it is given back first.
            await asyncio.wait([self._reserving])
        try:
            # One thread: this comes after whatever is under way.
            await loop.run_in_executor(self._thread, self._ledger.write, self.pending)
        finally:
            await loop.run_in_executor(self._thread, self._ledger.close)
        if self._error is not None:
            raise self._error
