"""`--redo SQL`: which captions a predicate on their columns chooses. The only use of SQL here."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.errors import OutputError, UsageError
from pipeline.store.keys import KeyMap
from pipeline.store.parts import part_files
from pipeline.store.publish_plan import CAPTIONS


def chosen(output: Path, predicate: str) -> KeyMap:
    """Keys of the published captions for which `predicate` holds; UsageError if it makes no sense.

    Part by part, so that memory stays the same however many there are.
    """
    import duckdb

    keys = KeyMap()
    with duckdb.connect() as db:
        for path in part_files(output, CAPTIONS):
            try:
                rows = db.read_parquet(str(path)).filter(predicate).project("key").fetchall()
            except duckdb.IOException as error:
                raise OutputError(f"{path}: {_first_line(error)}") from None
            except duckdb.Error as error:
                raise UsageError(f"--redo: {_first_line(error)}") from None
            keys.load(pa.array([key for (key,) in rows], pa.string()), "ok")
    return keys


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
