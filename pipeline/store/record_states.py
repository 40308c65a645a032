"""The state of each key by the published parts: `ok`, or the code of its failure."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store.keys import KeyMap
from pipeline.store.parts import own_parts, read_part
from pipeline.store.publish_plan import CAPTIONS, FAILURES
from pipeline.store.snapshot import record_batches

#: Keys loaded at once when an output is opened.
_KEYS_AT_ONCE = 200_000


def states(output: Path) -> KeyMap:
    """key -> `ok` or its failure's code, of all published records."""
    states_of = KeyMap()
    for folder, columns in ((CAPTIONS, ["key"]), (FAILURES, ["key", "error_code"])):
        tables: list[pa.Table] = []
        for path in own_parts(output, folder):
            tables.append(read_part(path, columns))
            if sum(table.num_rows for table in tables) >= _KEYS_AT_ONCE:
                _load(states_of, tables)
                tables = []
        _load(states_of, tables)
    return states_of


def states_with_shards(output: Path) -> KeyMap:
    """The same, with those of shards that are not joined yet."""
    states_of = KeyMap()
    for batch in record_batches(output, ["key", "error_code"]):
        for key, code in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            states_of.set(key, code or "ok")
    return states_of


def load_new(path: Path, folder: str, known: KeyMap) -> bool:
    """Add the keys of a part, unless a key of it is known already: then False, and nothing done."""
    table = read_part(path, ["key"] if folder == CAPTIONS else ["key", "error_code"])
    if any(key in known for key in table["key"].to_pylist()):
        return False
    _load(known, [table])
    return True


def _load(key_map: KeyMap, tables: list[pa.Table]) -> None:
    if not tables:
        return
    table = pa.concat_tables(tables)
    if "error_code" not in table.column_names:
        key_map.load(table.column("key").combine_chunks(), "ok")
        return
    codes = table.column("error_code")
    for code in codes.unique().to_pylist():
        matching = pc.is_null(codes) if code is None else pc.equal(codes, code)
        key_map.load(table.column("key").filter(matching).combine_chunks(), str(code))
