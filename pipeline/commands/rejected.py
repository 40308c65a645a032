"""`run --retry-rejected`: which captions were rejected and not asked again since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.options import RunOptions, in_parentheses
from pipeline.patterns import lazy
from pipeline.store.reviews import read_decisions
from pipeline.store.snapshot import record_batches

_KEY = lazy(r"[0-9a-f]{32}")


def with_rejected(options: RunOptions, output: Path) -> RunOptions:
    """The options with the rejected captions among those that `--redo` chooses."""
    keys = rejected_keys(output)
    if not keys:
        return options
    listed = ", ".join(f"'{key}'" for key in keys)
    also = f" OR {in_parentheses(options.redo)}" if options.redo else ""
    return replace(options, redo=f"key IN ({listed}){also}")


def rejected_keys(output: Path) -> list[str]:
    """Keys whose caption, as it is now, somebody has rejected."""
    decisions = {
        key: decision
        for key, decision in read_decisions(output).items()
        if decision.decision == "reject" and _KEY.fullmatch(key)
    }
    if not decisions:
        return []
    wanted, keys = pa.array(sorted(decisions), pa.string()), []
    for batch in record_batches(output, ("key", "finished_at", "status")):
        mask = pc.and_(pc.is_in(batch["key"], value_set=wanted), pc.equal(batch["status"], "ok"))
        rows = batch.filter(mask)
        times = rows["finished_at"].cast(pa.int64()).to_pylist()
        for key, time in zip(rows["key"].to_pylist(), times, strict=True):
            if decisions[key].holds(time):
                keys.append(key)
    return keys
