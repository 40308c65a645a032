"""Records by their keys, from the published parts: a map says which part has a key.

Rows are asked in the order of the manifest, so the parts hold them nearly in that order too: some
thousand keys in a row stand in two or three parts, and each part is read once or twice in all.
Where the orders differ, more keys are looked up at once, so that no part is read more than about
`PASSES` times.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schema
from pipeline.checkpoint.keymap import KeyMap, raw_keys
from pipeline.checkpoint.parts import part_files, read_part
from pipeline.checkpoint.plan import CAPTIONS, FAILURES

#: Parts with fewer records are read several at once.
GROUP = 5_000
#: Keys for each group of parts that is read, at least, where that can be had …
KEYS_A_GROUP = 2_000
#: … without looking up more than this share of all records at once.
PASSES = 50
#: Groups kept from one look-up to the next.
_KEPT = 2
_KEY = pa.binary(16)


class Lookup:
    """The records below one output as they stand now. Blocking.

    columns: of the records, in the order in which they are handed on. OutputError names a part
    that cannot be read.
    """

    def __init__(self, output: Path, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        fields = (schema.RECORDS.field(name).with_nullable(True) for name in columns)
        self._shape = pa.schema(list(fields))
        self._groups: dict[str, list[Path]] = {}
        self._group_of = KeyMap()
        self._held: dict[str, tuple[pa.Table, pa.Array]] = {}
        for folder in (CAPTIONS, FAILURES):
            paths: list[Path] = []
            keys: list[pa.Array] = []
            for path in part_files(output, folder):
                paths.append(path)
                keys += read_part(path, ["key"]).column("key").chunks
                if sum(map(len, keys)) >= GROUP:
                    self._add(paths, keys)
                    paths, keys = [], []
            self._add(paths, keys)

    def __len__(self) -> int:
        """How many records there are."""
        return len(self._group_of)

    def _add(self, paths: list[Path], keys: list[pa.Array]) -> None:
        if keys:
            name = str(len(self._groups))
            self._groups[name] = paths
            self._group_of.load(pa.concat_arrays(keys), name)

    def records(self, keys: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
        """For each key its record, in order; nulls where there is none.

        keys: 16 bytes each, some thousand at a time.
        """
        most = len(self) // PASSES
        raw, names = b"", list[str | None]()
        for some in keys:
            raw += some
            names += self._group_of.words(some)
            if len(names) >= min(most, KEYS_A_GROUP * len(set(names))):
                yield self._taken(raw, names)
                raw, names = b"", []
        if names:
            yield self._taken(raw, names)

    def _taken(self, raw: bytes, names: Sequence[str | None]) -> pa.RecordBatch:
        """The records of some keys. names: the group of each."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name is not None:
                rows.setdefault(name, []).append(row)
        keys = pa.Array.from_buffers(_KEY, len(names), [None, pa.py_buffer(raw)])
        nothing = pa.Table.from_arrays(
            [pa.nulls(1, field.type) for field in self._shape], schema=self._shape
        )
        found, size = [nothing], 1
        place = array("q", bytes(8 * len(names)))
        for name, mine in rows.items():
            table, known = self._group(name)
            found.append(table.take(pc.index_in(keys.take(pa.array(mine)), value_set=known)))
            for at, row in enumerate(mine, size):
                place[row] = at
            size += len(mine)
        for name in [name for name in self._held if name not in rows]:
            del self._held[name]
        places = pa.Array.from_buffers(pa.int64(), len(names), [None, pa.py_buffer(place)])
        (batch,) = pa.concat_tables(found).combine_chunks().take(places).to_batches()
        return batch

    def _group(self, name: str) -> tuple[pa.Table, pa.Array]:
        """The records of some parts, and their keys. The last ones read are kept."""
        held = self._held.pop(name, None)
        if held is None:
            columns = list(dict.fromkeys([*self._columns, "key"]))
            tables = [read_part(path, columns) for path in self._groups[name]]
            table = pa.concat_tables(tables).combine_chunks()
            raw = raw_keys(table.column("key").combine_chunks())
            known = pa.Array.from_buffers(_KEY, len(table), [None, pa.py_buffer(raw)])
            held = table.select(self._columns).cast(self._shape), known
        self._held[name] = held
        while len(self._held) > _KEPT:
            del self._held[next(iter(self._held))]
        return held
