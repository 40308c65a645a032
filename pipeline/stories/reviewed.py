"""What decisions of people change about records. Pure functions of columns and decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.checkpoint.reviews import Decision

#: Decisions that say: this caption is good.
APPROVED = ("accept", "edit")


def apply(
    decisions: Mapping[str, Decision], row: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """(caption, decision) of a record: an edited text wins; a decision about a caption that was
    asked again later is none. row: key, caption, finished_at (µs)."""
    one = decisions.get(row["key"])
    if one is None or not one.holds(row["finished_at"]):
        return row["caption"], None
    return (row["caption"] if one.after is None else one.after), one.decision


def rejected(decisions: Mapping[str, Decision], key: str, finished_at: int | None) -> bool:
    """Is the caption that a key has now one that somebody rejected?"""
    one = decisions.get(key)
    return one is not None and one.decision == "reject" and one.holds(finished_at)


def with_reviews(table: pa.Table, decisions: Mapping[str, Decision], wanted: pa.Array) -> pa.Table:
    """Records with their decisions: captions as they stand now, and a column `review`.

    table: key, caption, status, error_code, error, finished_at. wanted: the keys of `decisions`.
    """
    review = pa.nulls(len(table), pa.string())
    if decisions:
        mask = pc.is_in(table["key"], value_set=wanted)
        if pc.any(mask).as_py():
            return _decided(table, decisions, mask)
    return table.append_column("review", review)


def _decided(table: pa.Table, decisions: Mapping[str, Decision], mask: pa.ChunkedArray) -> pa.Table:
    names = ("caption", "status", "error_code", "error")
    columns = {name: table[name].to_pylist() for name in names}
    review: list[str | None] = [None] * len(table)
    finished = table["finished_at"].cast(pa.int64())
    for at in pc.indices_nonzero(mask).to_pylist():
        row = {
            "key": table["key"][at].as_py(),
            "caption": columns["caption"][at],
            "finished_at": finished[at].as_py(),
        }
        columns["caption"][at], review[at] = apply(decisions, row)
        if review[at] == "edit":  # somebody wrote a caption for an image that had failed
            columns["status"][at] = "ok"
            columns["error_code"][at] = columns["error"][at] = None
    for name in names:
        place = table.schema.get_field_index(name)
        values = pa.array(columns[name], table.schema.field(name).type)
        table = table.set_column(place, table.schema.field(name), values)
    return table.append_column("review", pa.array(review, pa.string()))
