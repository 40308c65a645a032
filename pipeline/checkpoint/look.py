"""Looking at an output from outside: any process, while a run is going on or after a crash."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.checkpoint import parts


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What an output holds."""

    captions: int = 0
    failures: int = 0
    requests: int = 0
    #: Entries in the journal that are in no part yet.
    unpublished: int = 0
    by_code: dict[str, int] = field(default_factory=dict)
    #: code -> the text of its latest error.
    last_errors: dict[str, str] = field(default_factory=dict)


def read_state(output: Path) -> State:
    """Count what is published and what waits. Writes nothing, takes no lock."""
    counts = dict.fromkeys(parts.FOLDERS, 0)
    by_code: dict[str, int] = {}
    last: dict[str, str] = {}
    for folder in parts.FOLDERS:
        for path in sorted((output / folder).glob("*.parquet")):
            try:
                counts[folder] += pq.read_metadata(path).num_rows
                if folder == parts.FAILURES:
                    table = parts.read_part(path, ["error_code", "error"])
                    for one in pc.value_counts(table.column("error_code")).to_pylist():
                        code = str(one["values"])
                        by_code[code] = by_code.get(code, 0) + one["counts"]
                    for code, words in zip(
                        table["error_code"].to_pylist(), table["error"].to_pylist(), strict=True
                    ):
                        last[str(code)] = str(words)
            except FileNotFoundError:
                continue  # a part may be emptied while we look
    return State(
        captions=counts[parts.CAPTIONS],
        failures=counts[parts.FAILURES],
        requests=counts[parts.REQUESTS],
        unpublished=_unpublished(output / "_state" / "journal.db"),
        by_code=by_code,
        last_errors=last,
    )


def states(output: Path) -> dict[str, str]:
    """key -> `ok` or its failure's code, of all published records."""
    found: dict[str, str] = {}
    for folder in (parts.CAPTIONS, parts.FAILURES):
        for path in sorted((output / folder).glob("*.parquet")):
            try:
                table = parts.read_part(path, ["key", "error_code"])
            except FileNotFoundError:
                continue
            codes = table["error_code"].to_pylist()
            for key, code in zip(table["key"].to_pylist(), codes, strict=True):
                found[key] = code or "ok"
    return found


def _unpublished(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        db = sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, timeout=2)
    except sqlite3.Error:
        return 0
    try:
        return int(db.execute("SELECT count(*) FROM entries").fetchone()[0])
    except sqlite3.Error:
        return 0  # being made just now
    finally:
        db.close()
