"""An account's rows of the ledger moved to the name that it has now.

Earlier versions named an account by its address as it was written, so that `HTTP://` and
`http://` were two. What was counted under such a name stays counted.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pipeline.ratelimit.ledger_file import BUSY, NAME, VERSION, unusable

#: NEW and OLD stand for a scope under the new name and a condition: 32 characters name the
#: account, what follows is a model or an output.
_SQL = """
INSERT INTO days SELECT NEW, day, used, refused, told FROM days WHERE OLD
    ON CONFLICT DO UPDATE SET used=used + excluded.used, refused=refused + excluded.refused,
    told=coalesce(told, excluded.told);
DELETE FROM days WHERE OLD;
UPDATE permits SET scope=NEW, output=:account || substr(output, 33) WHERE OLD;
INSERT INTO holds SELECT NEW, until, told_limit FROM holds WHERE OLD
    ON CONFLICT DO UPDATE SET until=max(until, excluded.until),
    told_limit=coalesce(told_limit, excluded.told_limit);
DELETE FROM holds WHERE OLD;
INSERT OR IGNORE INTO pauses SELECT NEW, boot, until FROM pauses WHERE OLD;
DELETE FROM pauses WHERE OLD;
INSERT OR IGNORE INTO clocks SELECT :account, boot, low, high, wall, heard, seen FROM clocks
    WHERE account = :former;
DELETE FROM clocks WHERE account = :former
"""
_STATEMENTS = (
    _SQL.replace("NEW", ":account || substr(scope, 33)")
    .replace("OLD", "substr(scope, 1, 32) = :former")
    .split(";")
)


def rename_account(state: Path, *, former: str, account: str) -> None:
    """Move what the ledger of this folder, if there is one, holds under `former`. OutputError."""
    path = state / NAME
    if former == account or not path.exists():
        return
    names = {"former": former, "account": account}
    try:
        db = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                return
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            for statement in _STATEMENTS:
                db.execute(statement, names)
            db.execute("COMMIT")
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        raise unusable(path, error) from error
    except sqlite3.DatabaseError:
        return  # damaged: whoever opens it next sets it aside and says so


__all__ = ["rename_account"]
