"""What decisions of people change about records. Pure functions of columns and decisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store.reviews import Decision

#: The column of what people decided.
REVIEW = pa.schema([pa.field("review", pa.string())])
#: Decisions that say: this caption is good.
APPROVED = ("accept", "edit")


def apply(
    decisions: Mapping[str, Decision], row: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """(caption, decision) of a record: an edited text wins; a decision about a caption that was
    asked again later is none. row: key, caption, finished_at (µs)."""
    decision = decisions.get(row["key"])
    if decision is None or not decision.holds(row["finished_at"]):
        return row["caption"], None
    return (row["caption"] if decision.after is None else decision.after), decision.decision


def reviewed(
    batches: Iterable[pa.RecordBatch],
    names: Mapping[str, str],
    decisions: Mapping[str, Decision],
    *,
    only: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Rows of a dataset with what people decided: their texts, and the column `review`.

    names: what a record's columns are called there. only: leave out what nobody has approved.
    """
    wanted = pa.array(list(decisions), pa.string())
    for batch in batches:
        made = batch
        if decisions:
            mask = pc.is_in(batch.column(names["key"]), value_set=wanted)
            made = _decided(batch, names, decisions, mask) if mask.true_count else batch
        yield made.filter(_approved(made.column(names["review"]))) if only else made


def _approved(review: pa.Array) -> pa.Array:
    return pc.is_in(review, value_set=pa.array(APPROVED, pa.string()))


def _decided(
    batch: pa.RecordBatch,
    names: Mapping[str, str],
    decisions: Mapping[str, Decision],
    mask: pa.Array,
) -> pa.RecordBatch:
    changed = ("caption", "status", "error_code", "error", "review")
    columns = {name: batch.column(names[name]).to_pylist() for name in changed}
    keys, times = batch.column(names["key"]), batch.column(names["finished_at"]).cast(pa.int64())
    for at in pc.indices_nonzero(mask).to_pylist():
        row = {
            "key": keys[at].as_py(),
            "caption": columns["caption"][at],
            "finished_at": times[at].as_py(),
        }
        columns["caption"][at], columns["review"][at] = apply(decisions, row)
        if columns["review"][at] == "edit":  # perhaps of an image that had failed
            columns["status"][at] = "ok"
            columns["error_code"][at] = columns["error"][at] = None
    for name in changed:
        field = batch.schema.field(names[name])
        place = batch.schema.get_field_index(names[name])
        batch = batch.set_column(place, field, pa.array(columns[name], field.type))
    return batch
