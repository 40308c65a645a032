"""What the ledger remembers of a scope's limits: `per_minute`, `per_day`, `tokens_per_minute`, `bucket`
(a day that refills all the time), and `empty_at`, the instant at which that is empty. The table stands beside those of the ledger's version; programs that do
not know it do not look at it."""

from __future__ import annotations

import sqlite3

from pipeline.ratelimit.reservations import LedgerUpdates, ReservationRequest
from pipeline.ratelimit.rules.bucket import DAY

TABLE = (
    "CREATE TABLE IF NOT EXISTS learned(scope TEXT, name TEXT, value REAL, at REAL,"
    " PRIMARY KEY(scope, name)) WITHOUT ROWID"
)
EMPTY_AT = "empty_at"
#: A limit that was learnt longer ago is asked for anew: services raise them as well.
KEEP = 7 * 86_400.0


def learned_of(db: sqlite3.Connection, scope: str) -> dict[str, float]:
    """What was learnt of a scope; nothing in a ledger of an earlier version."""
    try:
        return dict(db.execute("SELECT name, value FROM learned WHERE scope=?", (scope,)))
    except sqlite3.OperationalError:
        return {}


def open_table(db: sqlite3.Connection, wall: float) -> None:
    """Make the table, and forget what is old. wall: epoch seconds."""
    db.execute(TABLE)
    db.execute("DELETE FROM learned WHERE name != ? AND at < ?", (EMPTY_AT, wall - KEEP))


def learn(db: sqlite3.Connection, scope: str, name: str, value: float, wall: float) -> None:
    db.execute("INSERT OR REPLACE INTO learned VALUES (?,?,?,?)", (scope, name, value, wall))


def write_learned(db: sqlite3.Connection, scope: str, pending: LedgerUpdates, wall: float) -> None:
    """Of a bucket the later instant counts: what was asked meanwhile stays counted."""
    for name, value in pending.learned.items():
        before = learned_of(db, scope).get(name, value) if name == EMPTY_AT else value
        learn(db, scope, name, max(value, before), wall)
    if pending.unfilled:
        db.execute(
            "UPDATE learned SET value=value-? WHERE scope=? AND name=?",
            (pending.unfilled, scope, EMPTY_AT),
        )


def room_at(claim: ReservationRequest, empty_at: float, now: float) -> float | None:
    """Uptime at which the bucket has room again, or None: it has, or there is none. now: an uptime."""
    if not claim.interval:
        return None
    wait = empty_at + claim.interval - DAY - (claim.low + now - claim.uptime)
    return now + wait if wait > 0 else None


def fill(
    db: sqlite3.Connection, scope: str, claim: ReservationRequest, learned: dict[str, float],
    now: float,
) -> None:  # fmt: skip
    """Count one request in the bucket, if there is one."""
    if claim.interval:
        low = claim.low + (now - claim.uptime)
        learned[EMPTY_AT] = max(learned.get(EMPTY_AT, low), low) + claim.interval
        learn(db, scope, EMPTY_AT, learned[EMPTY_AT], claim.wall)


__all__ = ["fill", "learned_of", "open_table", "room_at", "write_learned"]
