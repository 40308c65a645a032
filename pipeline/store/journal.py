"""The journal's writer: what has been received is on disk before anybody hears of it.

SQLite, WAL, `synchronous=FULL`. `NORMAL` would lose acknowledged rows at a power cut, a log
without checksums would give wrong rows after a damaged tail; this did neither in measurement.
One connection, one thread: several writers and checkpointers meet a known bug in SQLite before
3.51.3.

**Natural batching**: an idle journal commits at once, a busy one in groups: what came during a
commit waits up to 5 ms more for company. A commit is a hand-over to a thread and back, and where
several a millisecond land at once that costs more than the requests (1.6 against 2.5 times the
CPU of a bare HTTP loop, on one core).

**Fail-stop**: after the first error nothing more may be asked (`trouble` says why), but what is
under way still finds a place: the reserve is released, the file opened anew, the group written
once more. Only if that fails too do appends fail, from then on all of them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from pipeline import fs
from pipeline.errors import Held, OutputError, remedy
from pipeline.store import tables
from pipeline.store.lock import Lock, identity_of

#: Really allocated, released when the disk is full, so that answers under way find room.
RESERVE_BYTES = 16 * 2**20
#: While answers keep coming, the next commit waits until so many are there, or so many seconds.
ENOUGH, GATHER = 24, 0.005

T = TypeVar("T")
P = ParamSpec("P")


class JournaledResult(NamedTuple):
    entry: tables.Entry
    landed: Callable[[int], Any]
    future: asyncio.Future[Any]


class Journal:
    """The journal of a locked output; every database call happens in the journal's own thread."""

    def __init__(self, path: Path, lock: Lock | None = None) -> None:
        self.path, self._lock = path, lock
        #: Why nothing more may be asked, once something could not be written.
        self.trouble: OutputError | Held | None = None
        self._lost = False
        self._reserve = path.with_name("reserve")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[JournaledResult] = []
        #: Runs out when the next group has waited long enough.
        self._gathering: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self) -> None:
        """Open the file and put the reserve aside."""
        try:
            await self._run(self._open)
        except BaseException:
            self._thread.shutdown()
            raise

    def _open(self) -> None:
        if tables.log_is_lost(self.path):
            raise OutputError(
                f"{tables.log_of(self.path)}: is missing, and with it the answers that were in no "
                "part yet when the last run was killed; bring it back, or go on without it with "
                "verify --repair (those images are asked again)"
            )
        self._db = tables.connect(self.path)
        self._identity = identity_of(self.path)
        try:
            self._next = tables.last(self._db) + 1
            tables.expect_log(self._db)
        except sqlite3.Error as error:
            tables.let_go(self._db, self.path)
            raise OutputError(
                f"{self.path}: the journal cannot be opened ({error}){remedy(error)}"
            ) from error
        self._make_reserve()

    def _make_reserve(self) -> None:
        """A disk too full for it is `run.min_free`'s matter."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._reserve, flags, fs.PRIVATE_FILE)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError:
            self._reserve.unlink(missing_ok=True)

    async def _run(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(act, *args, **kwargs))

    # --- appending -----------------------------------------------------------------------------

    async def append(
        self, kind: int, head: bytes, body: bytes | None, landed: Callable[[int], T]
    ) -> T:
        """Store one entry; once it is on disk, call `landed` with its number and return that.

        `landed` is called on the loop in the order of the numbers, also when the caller was
        cancelled meanwhile: what is in the journal is never forgotten. OutputError when the
        entry cannot be stored.
        """
        if self._lost:
            raise self._stopped()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(JournaledResult((self._next, kind, head, body), landed, future))
        self._next += 1
        if self._idle.is_set():
            self._idle.clear()
            # Not at once: others that are ready in this turn of the loop come along.
            loop.call_soon(self._commit_waiting)
        elif self._gathering is not None and len(self._waiting) >= ENOUGH:
            self._gathering.cancel()
            self._commit_waiting()
        return await future

    def _commit_waiting(self) -> None:
        """Hand everything that waits to the thread as one transaction."""
        self._gathering = None
        group, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        entries = [waiting.entry for waiting in group]
        committed = loop.run_in_executor(self._thread, self._commit, entries)
        committed.add_done_callback(partial(self._landed, group))

    def _landed(self, group: list[JournaledResult], done: asyncio.Future[None]) -> None:
        error = done.exception()
        for waiting in group:
            _tell(waiting, error)
        if error is not None:
            self._lost = True
            stranded, self._waiting = self._waiting, []
            for waiting in stranded:
                _tell(waiting, error)
        if not self._waiting:
            self._idle.set()
        elif len(self._waiting) >= ENOUGH:
            self._commit_waiting()
        else:
            # They came while the last group was written, so more are to be expected.
            self._gathering = asyncio.get_running_loop().call_later(GATHER, self._commit_waiting)

    def _commit(self, entries: list[tables.Entry]) -> None:
        self._confirm()
        try:
            tables.add(self._db, entries)
        except sqlite3.Error as first:
            self._note(first)
            try:
                self._reopen()
                tables.add(self._db, entries)
            except (sqlite3.Error, OutputError, OSError):
                raise self._stopped() from first
        if not os.path.exists(tables.log_of(self.path)):  # noqa: PTH110 - a third of the time, for each commit
            self._fold_removed_log()

    async def confirm(self) -> None:
        """Is every answer that was stored still there? OutputError or Held when it is not."""
        await self._run(self._confirm)

    def _confirm(self) -> None:
        """Is this still the journal of this output, and the output ours? What is written into a
        file without a name is lost."""
        try:
            if self._lock is not None:
                self._lock.confirm()
            if identity_of(self.path) != self._identity:
                raise OutputError(
                    f"{self.path}: was deleted or replaced while this run was at work, and with it "
                    "every answer that was in no part yet; bring it back, or see verify --repair"
                )
        except (OutputError, Held) as error:
            self.trouble = self.trouble or error
            raise

    def _fold_removed_log(self) -> None:
        """The log has lost its name: what it holds goes into the file, which is whole without it
        from then on, and the run ends."""
        self.trouble = self.trouble or OutputError(
            f"{tables.log_of(self.path)}: was deleted while this run was at work; nothing is lost, "
            "run again and leave _state alone"
        )
        try:
            tables.forget_log(self._db)
            self._db.execute("PRAGMA wal_checkpoint(FULL)")
        except sqlite3.Error as error:
            raise self._stopped() from error

    def _note(self, error: Exception) -> None:
        self.trouble = self.trouble or OutputError(
            f"{self.path}: the journal cannot be written ({error}); make room or mend the "
            "disk, then run again: nothing that was shown as done is lost"
        )

    def _stopped(self) -> OutputError | Held:
        """The trouble, as an exception of its own for each that meets it."""
        assert self.trouble is not None  # nothing is lost without a reason
        return type(self.trouble)(str(self.trouble))

    def _reopen(self) -> None:
        """Start over with a log that was synced from its first byte on.

        After a failed fsync Linux may drop the pages and report the next one as fine. So nothing
        that the old log holds is relied on before it has been copied into the file and that
        has been synced. The log is written over from its start, not emptied: the file says that
        it has one, and an empty one is a lost one.
        """
        self._reserve.unlink(missing_ok=True)
        tables.let_go(self._db, self.path)
        self._db = tables.connect(self.path)
        busy, left, copied = self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        if busy or left != copied:
            raise self._stopped()

    # --- the rest ------------------------------------------------------------------------------

    async def call(
        self,
        act: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a short piece of work on the connection, between two commits."""

        def guarded() -> T:
            try:
                return act(self._db, *args, **kwargs)
            except tables.ERRORS as error:
                self._note(error)
                raise OutputError(f"{self.path}: {error}{remedy(error)}") from error

        return await self._run(guarded)

    async def idle(self) -> None:
        """Wait until everything appended so far has landed."""
        await self._idle.wait()

    async def close(self) -> None:
        """Fold the log into the file, make a large empty file anew, let go."""
        await self._idle.wait()
        await self._run(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        try:
            tables.close(self._db, self.path)
        finally:
            self._reserve.unlink(missing_ok=True)


def _tell(waiting: JournaledResult, error: BaseException | None) -> None:
    """Let a waiter know how its entry fared; its own `landed` may fail too, and only for it."""
    result = None
    if error is None:
        try:
            result = waiting.landed(waiting.entry[0])
        except Exception as bug:  # noqa: BLE001 - whoever waits hears of it, the others go on
            error = bug
    if waiting.future.done():
        return
    if error is None:
        waiting.future.set_result(result)
    else:
        waiting.future.set_exception(error)
