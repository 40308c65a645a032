"""Which records are asked again: those of a predicate (`--redo SQL`, the only use of SQL here), and
failures of before a setting was changed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import OutputError, UsageError
from pipeline.store.keys import KeyMap
from pipeline.store.parts import part_files, read_part
from pipeline.store.publish_plan import CAPTIONS, FAILURES


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


def failed_under_others(output: Path, flag: str) -> set[str]:
    """Keys of published failures that cost no request and bear another flag of the same name
    (`NAME:…`) than this one. One without such a flag is left alone."""
    name, keys = flag.partition(":")[0] + ":", set[str]()
    for path in part_files(output, FAILURES):
        table = read_part(path, ["key", "flags", "attempts"])
        free = table.filter(pc.equal(table["attempts"], 0))
        for key, flags in zip(free["key"].to_pylist(), free["flags"].to_pylist(), strict=True):
            if any(each.startswith(name) and each != flag for each in flags or ()):
                keys.add(key)
    return keys


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
