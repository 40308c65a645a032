"""Reading the ledger: the counts of an endpoint, without changing anything.

Used by the ledger itself inside its transactions, and by `today.py` from other processes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from pipeline.model import Limits
from pipeline.ratelimit.days import day_of
from pipeline.ratelimit.learned import learned_of
from pipeline.ratelimit.limits import window_of
from pipeline.ratelimit.rules.daily import DayView


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Under what the ledger keeps an endpoint's counts."""

    account: str
    #: The account and the model.
    model: str
    #: Whichever of the two the limits belong to.
    limits: str
    #: This output on this account.
    output: str
    #: What the service's day is (`days.day_of`).
    zone: str


def names_of(account: str, model: str, output: str, limits: Limits) -> Names:
    """Under what the ledger keeps an endpoint. `account` is a hash, never a key."""
    per_model = f"{account}/{model}"
    return Names(
        account=account,
        model=per_model,
        limits=account if limits.day_scope == "account" else per_model,
        output=f"{account}>{sha256(output.encode()).hexdigest()[:16]}",
        zone=window_of(limits),
    )


class Loss(NamedTuple):
    """When an earlier ledger was found to be lost: wall clock, uptime and boot."""

    at: float
    uptime: float
    boot: str


def loss_of(db: sqlite3.Connection) -> Loss | None:
    """The last loss; it does not change as long as the file is the same."""
    row = db.execute("SELECT at, uptime, boot FROM losses ORDER BY at DESC LIMIT 1").fetchone()
    return None if row is None else Loss(*row)


def limit_with_room(limits: Limits) -> int | None:
    """The day's limit by the service's own word, where by that word some of the day is left."""
    used, limit = limits.used_today, limits.requests_per_day
    return limit if used is not None and limit is not None and used < limit else None


def lift(db: sqlite3.Connection, names: Names, limit: int) -> None:
    """The account's day was called spent by refusals that named less than this: it was raised since."""
    db.execute("DELETE FROM holds WHERE scope=? AND told_limit < ?", (names.account, limit))


def view_of(
    db: sqlite3.Connection, names: Names, days: Sequence[str], loss: Loss | None
) -> DayView:
    """What the ledger holds on some days of one endpoint."""
    view = DayView()
    lost_day = None if loss is None else day_of(loss.at, names.zone)
    for day in days:
        record_result = False
        for scope, used, refused, stated in db.execute(
            "SELECT scope, used, refused, told FROM days WHERE day=? AND scope IN (?,?)",
            (day, names.limits, names.output),
        ):
            if scope == names.limits:
                view.used[day], view.refused[day], record_result = used, refused, stated is not None
            else:
                view.used_by_job[day] = used
        view.careful = view.careful or (day == lost_day and not record_result)
    view.learned = learned_of(db, names.limits)
    hold = db.execute(
        "SELECT until, told_limit FROM holds WHERE scope IN (?,?) ORDER BY until DESC LIMIT 1",
        (names.account, names.model),
    ).fetchone()
    if hold is not None:
        view.hold_until, view.hold_limit = hold
    return view


def unknown_of(db: sqlite3.Connection, names: Names) -> int:
    """Reservations of an output that never got a reply."""
    row = db.execute(
        "SELECT count(*) FROM permits WHERE output=? AND answered=0", (names.output,)
    ).fetchone()
    return int(row[0])
