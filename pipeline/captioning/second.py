"""Second questions: images whose first answer is kept and that are asked once more about it.

The first answer's record is on disk with the flag `ask_again` before the second question leaves,
and carries it until that is answered: what a run leaves over, the next one asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.model import ASK_AGAIN, Item, Record
from pipeline.store.parts import part_files, read_part
from pipeline.store.publish_plan import CAPTIONS


@dataclass(slots=True)
class SecondQuestions:
    """What is to be asked a second time. One a run."""

    #: key -> its record, of earlier runs.
    pending: Mapping[str, Record] = field(default_factory=dict)
    #: Asked a second time in this run.
    count: int = 0
    _waiting: list[Item] = field(default_factory=list)

    def consider(self, items: Sequence[Item], records: Sequence[Record]) -> None:
        """Records of these items are on disk: those that say so are asked about again."""
        marked = {record.key: record for record in records if ASK_AGAIN in record.flags}
        for item in items if marked else ():
            if (record := marked.get(item.asked.key)) is not None:
                asked = replace(item.asked, earlier=record, attempts=1)
                self._waiting.append(replace(item, asked=asked))

    def released(self) -> list[Item]:
        """The images to ask, since the last call."""
        items, self._waiting = self._waiting, []
        self.count += len(items)
        return items


def read_pending(output: Path, recipe: str) -> dict[str, Record]:
    """Records of this recipe that wait for a second answer. Reads published parts."""
    pending = {}
    for path in part_files(output, CAPTIONS):
        flags = read_part(path, ["flags"])["flags"]
        if not pc.any(pc.equal(pc.list_flatten(flags), ASK_AGAIN)).as_py():
            continue
        table = read_part(path, Record._fields).filter(
            pc.equal(read_part(path, ["recipe"])["recipe"], recipe)
        )
        at = table.schema.get_field_index("finished_at")
        table = table.set_column(at, "finished_at", table["finished_at"].cast(pa.int64()))
        for row in table.to_pylist():
            if ASK_AGAIN in row["flags"]:
                pending[row["key"]] = _record(row)
    return pending


def _record(row: dict[str, Any]) -> Record:
    return Record(**{**row, "flags": tuple(row["flags"])})
