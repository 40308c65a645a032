"""The ledger: what this host has asked of an account, kept before it is asked.

SQLite because it must hold between processes and across `kill -9` and power cuts: a reservation
is committed before its request is sent, so a crash can only leave the count too high. One
`BEGIN IMMEDIATE` transaction looks at the day, the last minute, what the service has said, and
reserves; therefore the sum over all processes keeps every limit. All calls block, and are made
from one thread (see `ledger_thread.py`).

Days are rows of counts. The last minute is rows of permits, timed by seconds since boot, which
nobody can set. Rows without an answer stay (`unknown`): they stay spent.
It must never hold a key: scopes are hashes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pipeline.ratelimit.days import MARGIN
from pipeline.ratelimit.learned import fill, open_table, room_at, write_learned
from pipeline.ratelimit.ledger_file import NAME, open_ledger, unusable
from pipeline.ratelimit.ledger_view import Loss, Names, lift, loss_of, unknown_of, view_of
from pipeline.ratelimit.reservations import LedgerUpdates, Reservation, ReservationRequest
from pipeline.ratelimit.rules.base import Row
from pipeline.ratelimit.rules.daily import DayView
from pipeline.ratelimit.server_time import ServerTime, Uptime

T = TypeVar("T")

#: Rows older than this many windows are forgotten once answered.
KEEP_WINDOWS = 2
#: So many days of counts are kept, and reservations without a reply.
KEEP_DAYS = 31
#: A transaction that waited so long for its turn looks at the clock again.
STALE = 4.0


class Ledger:
    """One connection. Not for several threads at once."""

    def __init__(self, folder: Path, names: Names, uptime: Uptime, wall: float):
        self._folder, self._names, self._uptime = folder, names, uptime
        #: Wall clock - uptime, as the last caller had it.
        self._wall_offset = wall - uptime.seconds()
        #: Counts the files that this object has worked on: rows of another file are strangers.
        self.generation = 0
        #: What the user should hear.
        self.notices: list[str] = []
        self._last = DayView()
        self._connect()

    # Opening

    def _wall(self) -> float:
        return self._wall_offset + self._uptime.seconds()

    def _connect(self) -> None:
        self._connection, lost = open_ledger(self._folder, self._wall())
        stat = os.stat(self._folder / NAME)
        self._file = (stat.st_dev, stat.st_ino)
        self.generation += 1
        with self._transaction() as db:
            open_table(db, self._wall())
            if lost is not None:
                self.notices.append(lost)
                loss = (self._wall(), self._uptime.seconds(), self._uptime.boot)
                db.execute("INSERT INTO losses VALUES (?,?,?)", loss)
            self._loss: Loss | None = loss_of(db)
            self._adopt(db)

    def _adopt(self, db: sqlite3.Connection) -> None:
        """Bring the rows of another boot onto this one's clock."""
        now, wall, scope = self._uptime.seconds(), self._wall(), self._names.limits
        # A row of an unknown clock counts as made just now, unless it is clearly old.
        db.execute(
            "UPDATE permits SET boot=?, uptime=CASE WHEN at > ? THEN ? ELSE ? END"
            " WHERE scope=? AND (boot != ? OR uptime > ?)",
            (self._uptime.boot, wall - 300.0, now, now - 86400.0, scope, self._uptime.boot, now),
        )
        db.execute(
            "DELETE FROM pauses WHERE boot != ? OR until > ?", (self._uptime.boot, now + 4000)
        )
        for name in (scope, self._names.output):
            db.execute(
                "DELETE FROM days WHERE scope=? AND day < (SELECT day FROM days WHERE scope=?"
                " ORDER BY day DESC LIMIT 1 OFFSET ?)",
                (name, name, KEEP_DAYS),
            )
        db.execute(
            "DELETE FROM permits WHERE scope=? AND at < ? AND uptime < ?",
            (scope, wall - KEEP_DAYS * 86400.0, now - 3600.0),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """BEGIN IMMEDIATE … COMMIT. Raises OutputError, or sqlite3.DatabaseError for damage."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise unusable(self._folder / NAME, error) from error

    def _on_the_named_file(self, act: Callable[[], T]) -> T:
        """Act on the file that has the name now; once more on a new one if it is damaged."""
        try:
            if not self._same_file():
                self._reopen()
            return act()
        except sqlite3.DatabaseError:
            pass
        try:
            self._reopen()
            return act()
        except sqlite3.Error as error:
            raise unusable(self._folder / NAME, error) from error

    def _same_file(self) -> bool:
        try:
            stat = os.stat(self._folder / NAME)
        except OSError:
            return False
        return (stat.st_dev, stat.st_ino) == self._file

    def _reopen(self) -> None:
        """The file was deleted, set aside or damaged while we ran: a new one, from our view."""
        self._connection.close()
        self._connect()
        last, scope = self._last, self._names.limits
        with self._transaction() as db:
            for name, counts in ((scope, last.used), (self._names.output, last.used_by_job)):
                for day, used in counts.items():
                    db.execute(
                        "INSERT INTO days(scope, day, used) VALUES (?,?,?)"
                        " ON CONFLICT DO UPDATE SET used=max(used, excluded.used)",
                        (name, day, used),
                    )

    def close(self) -> None:
        self._connection.close()

    # The service's clock

    def clock(self) -> ServerTime:
        """What is known of the service's clock, against this machine's."""
        wall, now = self._wall(), self._uptime.seconds()
        row = self._connection.execute(
            "SELECT boot, low, high, wall, heard, seen FROM clocks WHERE account=?",
            (self._names.account,),
        ).fetchone()
        if row is None:
            return ServerTime.trusting(wall, now)
        boot, low, high, offset, record_result, seen = row
        if boot == self._uptime.boot and low + now >= seen - MARGIN:
            known = ServerTime(low=low, high=high, wall=offset, record_result=bool(record_result))
            known.observe(wall, now)
            return known
        known = ServerTime.trusting(wall, now)
        if wall < seen - MARGIN:
            # The wall clock is behind what was seen before: it, or what was seen, is wrong.
            known.high = seen - now
        return known

    # Permits

    def reserve(self, claim: ReservationRequest, pending: LedgerUpdates) -> Reservation:
        """Count requests, or say why not now. `pending` is written either way."""
        self._wall_offset = claim.wall - claim.uptime
        return self._on_the_named_file(lambda: self._reserve(claim, pending))

    def _reserve(self, claim: ReservationRequest, pending: LedgerUpdates) -> Reservation:
        with self._transaction() as db:
            self._write(db, pending)
            now = self._uptime.seconds()
            if now - claim.uptime > STALE:
                return self._refuse(db, claim, wait=now)
            view = view_of(db, self._names, claim.days, self._loss)
            paused = self._paused(db, now)
            if paused is not None:
                return self._answer(view, paused=paused)
            rows: list[Row] = []
            while len(rows) < claim.many and not self._full(claim, view, now):
                wait = room_at(claim, view.learned.get("empty_at", 0.0), now)
                wait = wait or self._minute(db, claim, now)
                if wait is not None:
                    return self._answer(view, rows, wait=wait)
                rows.append((self.generation, self._insert(db, claim, view, now)))
            return self._answer(view, rows)

    def _answer(
        self,
        view: DayView,
        rows: Sequence[Row] = (),
        *,
        wait: float | None = None,
        paused: float | None = None,
    ) -> Reservation:
        self._last = _counts(view)
        return Reservation(rows=tuple(rows), wait_until=wait, paused_until=paused, view=view)

    def _refuse(
        self, db: sqlite3.Connection, claim: ReservationRequest, *, wait: float
    ) -> Reservation:
        return self._answer(view_of(db, self._names, claim.days, self._loss), wait=wait)

    def _full(self, claim: ReservationRequest, view: DayView, now: float) -> bool:
        """The same decision as the rule's, on counts that cannot change under it."""
        if view.hold_until > claim.low + (now - claim.uptime):
            return True
        for day in claim.days:
            if claim.per_day is not None and view.used.get(day, 0) >= claim.per_day:
                return True
            if claim.per_job is not None and view.used_by_job.get(day, 0) >= claim.per_job:
                return True
        return False

    def _paused(self, db: sqlite3.Connection, now: float) -> float | None:
        row = db.execute(
            "SELECT max(until) FROM pauses WHERE scope IN (?,?) AND boot=?",
            (self._names.account, self._names.model, self._uptime.boot),
        ).fetchone()
        return row[0] if row[0] is not None and row[0] > now else None

    def _minute(
        self, db: sqlite3.Connection, claim: ReservationRequest, now: float
    ) -> float | None:
        """Uptime at which the sliding minute has room again, or None: it has."""
        if not claim.count:
            return None
        wait = now
        loss = self._loss
        if loss is not None and loss.uptime <= now and loss.boot == self._uptime.boot:
            # Whoever asked before the ledger was lost may have filled the minute.
            wait = max(wait, loss.uptime + claim.window)
        recent = "SELECT uptime FROM permits WHERE scope=? ORDER BY uptime DESC LIMIT 1 OFFSET ?"
        last = db.execute(recent, (self._names.limits, claim.burst - 1)).fetchone()
        if last is not None:
            # Spacing over all processes; our own is kept by the gate, a little of it is jitter.
            wait = max(wait, last[0] + 0.9 * claim.burst * claim.spacing)
        nth = db.execute(recent, (self._names.limits, claim.count - 1)).fetchone()
        if nth is not None:
            wait = max(wait, nth[0] + claim.window)
        return wait if wait > now else None

    def _insert(
        self, db: sqlite3.Connection, claim: ReservationRequest, view: DayView, now: float
    ) -> int:
        names = self._names
        for day in claim.days:
            self._add(db, names.limits, day, 1)
            self._add(db, names.output, day, 1)
            view.used[day] = view.used.get(day, 0) + 1
            view.used_by_job[day] = view.used_by_job.get(day, 0) + 1
        fill(db, names.limits, claim, view.learned, now)
        row = db.execute(
            "INSERT INTO permits(scope, output, boot, uptime, at, days) VALUES (?,?,?,?,?,?)",
            (
                names.limits,
                names.output,
                self._uptime.boot,
                now,
                self._wall(),
                ",".join(claim.days),
            ),
        ).lastrowid
        assert row is not None
        if row % 16 == 0:
            db.execute(
                "DELETE FROM permits WHERE scope=? AND uptime<? AND answered=1",
                (names.limits, now - KEEP_WINDOWS * max(claim.window, 60.0)),
            )
        return row

    @staticmethod
    def _add(db: sqlite3.Connection, scope: str, day: str, by: int) -> None:
        db.execute(
            "INSERT INTO days(scope, day, used) VALUES (?,?,?)"
            " ON CONFLICT DO UPDATE SET used=max(0, used + ?)",
            (scope, day, max(0, by), by),
        )

    # Everything else that is written

    def write(self, pending: LedgerUpdates) -> None:
        """Write what has happened, in one transaction."""

        def act() -> None:
            with self._transaction() as db:
                self._write(db, pending)

        self._on_the_named_file(act)

    def _write(self, db: sqlite3.Connection, pending: LedgerUpdates) -> None:
        names = self._names
        for row in pending.answered:
            if row[0] == self.generation:
                db.execute("UPDATE permits SET answered=1 WHERE id=?", row[1:])
        for row, left in pending.late:
            if row[0] == self.generation:
                db.execute("UPDATE permits SET uptime=? WHERE id=?", (left, row[1]))
        for days in pending.refused:
            for day in days:
                db.execute(
                    "INSERT INTO days(scope, day, refused) VALUES (?,?,1)"
                    " ON CONFLICT DO UPDATE SET refused=refused + 1",
                    (names.limits, day),
                )
        for row, days in pending.returned:
            if row[0] == self.generation:
                db.execute("DELETE FROM permits WHERE id=?", row[1:])
            for day in days:
                self._add(db, names.limits, day, -1)
                self._add(db, names.output, day, -1)
        for day in pending.also:
            self._add(db, names.limits, day, 1)
            self._add(db, names.output, day, 1)
        for scope, (until, limit) in pending.holds.items():
            db.execute(
                "INSERT INTO holds VALUES (?,?,?) ON CONFLICT DO UPDATE SET"
                " until=max(until, excluded.until),"
                " told_limit=coalesce(excluded.told_limit, told_limit)",
                (scope, until, limit),
            )
        write_learned(db, names.limits, pending, self._wall())
        for scope, until in pending.pauses.items():
            db.execute(
                "INSERT OR REPLACE INTO pauses VALUES (?,?,?)", (scope, self._uptime.boot, until)
            )
        if pending.clock is not None:
            time, seen = pending.clock
            db.execute(
                "INSERT OR REPLACE INTO clocks VALUES (?,?,?,?,?,?,?)",
                (
                    names.account,
                    self._uptime.boot,
                    time.low,
                    time.high,
                    time.wall,
                    time.record_result,
                    seen,
                ),
            )

    def correct(self, day: str, stated: int) -> None:
        """The service's own count of today. More than ours: others ask too. Less: it forgives some.

        Lowered only to the told count plus what may not have reached it yet.
        """
        self._on_the_named_file(lambda: self._correct(day, stated))

    def _correct(self, day: str, stated: int) -> None:
        names = self._names
        with self._transaction() as db:
            row = db.execute(
                "SELECT used FROM days WHERE scope=? AND day=?", (names.limits, day)
            ).fetchone()
            used = row[0] if row else 0
            flying = db.execute(
                "SELECT count(*) FROM permits WHERE scope=? AND (uptime>? OR (answered=0 AND uptime>?))",
                (names.limits, self._uptime.seconds() - 120, self._uptime.seconds() - 1200),
            ).fetchone()[0]
            correct = stated if stated >= used else min(used, stated + flying)
            db.execute(
                "INSERT INTO days(scope, day, used, told) VALUES (?,?,?,?)"
                " ON CONFLICT DO UPDATE SET used=excluded.used, told=excluded.told",
                (names.limits, day, correct, stated),
            )

    # Looking

    def look(
        self, days: Sequence[str], stated: int | None, most: int | None
    ) -> tuple[DayView, int]:
        """The counts, and the reservations of this output that never got a reply. stated: the service's
        own count of the (only) day; most: its own limit, while some is left."""
        if stated is not None:
            self.correct(days[0], stated)
        if most is not None:
            self._on_the_named_file(lambda: lift(self._connection, self._names, most))
        try:
            view = view_of(self._connection, self._names, days, self._loss)
            self._last = _counts(view)
            return view, unknown_of(self._connection, self._names)
        except sqlite3.Error as error:
            raise unusable(self._folder / NAME, error) from error


def _counts(view: DayView) -> DayView:
    """A copy: the gate changes what it is given, in another thread."""
    return DayView(used=dict(view.used), used_by_job=dict(view.used_by_job))
