"""`--redo SQL`: which captions a predicate on their columns chooses. The only use of SQL here."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.checkpoint.keymap import KeyMap
from pipeline.checkpoint.plan import CAPTIONS
from pipeline.errors import OutputError, UsageError

_ROWS_AT_ONCE = 100_000


def chosen(output: Path, predicate: str) -> KeyMap:
    """Keys of the published captions for which `predicate` holds; UsageError if it makes no sense."""
    import duckdb

    keys = KeyMap()
    paths = sorted(str(path) for path in (output / CAPTIONS).glob("*.parquet"))
    if not paths:
        return keys
    with duckdb.connect() as db:
        try:
            found = db.read_parquet(paths).filter(predicate).project("key")
            while rows := found.fetchmany(_ROWS_AT_ONCE):
                keys.load(pa.array([key for (key,) in rows], pa.string()), "ok")
        except duckdb.IOException as error:
            raise OutputError(f"{output / CAPTIONS}: {_first_line(error)}") from None
        except duckdb.Error as error:
            raise UsageError(f"--redo: {_first_line(error)}") from None
    return keys


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
