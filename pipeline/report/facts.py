"""Statistics of an output, accumulated batch by batch. Pure: no files, no clock.

A batch is a few thousand records or requests, and only counters and the gallery's sample are kept
of it: a report of a million records takes the memory of one of five thousand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.sample import BottomK

#: Columns of records and of requests that a report reads.
RECORD_COLUMNS = (
    *("key", "image", "caption", "status", "error_code", "error", "flags", "served_model"),
    *("model", "provider", "pack_size", "completion_tokens", "finished_at", "prompt_id"),
)
REQUEST_COLUMNS = (
    *("at", "class", "provider", "model", "served_model", "images"),
    *("prompt_tokens", "completion_tokens", "cost_usd", "latency_ms"),
)
#: Flags about how a picture was prepared; all others are about the answer and worth a look.
PREPARED = frozenset({"resized", "first_frame", "end_added", "profile_ignored", "same_picture"})
#: Classes of requests that a rate limit or a spent quota turned away, and those that found the
#: service down. Whatever else an answer is, the service was up.
LIMITED = frozenset(
    {"account_minute", "model_minute", "account_day", "model_day", "upstream", "budget"}
)
DOWN = frozenset({"transient", "unknown"})
#: Upper ends of the bins of caption lengths (characters) and of latencies (milliseconds).
LENGTHS = (40, 80, 120, 160, 200, 250, 300, 400, 500, 700, 1000)
LATENCIES = (250, 500, 1000, 2000, 3000, 5000, 8000, 12000, 20000, 40000, 80000)
#: Characters that are kept of a caption in the gallery, of which a card shows some.
KEPT = 20_000
#: Gallery items of each unusual class (failed, flagged) among the many that are neither.
UNUSUAL = 500
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?(?P<host>[^/?#:]+)"


def asked_with(prompt_id: str | None) -> list[str]:
    """`prompt:NAME` of a record that a named prompt asked for; others have 16 hex there."""
    named = prompt_id and not re.fullmatch("[0-9a-f]{16}", prompt_id)
    return [f"prompt:{prompt_id}"] if named else []


@dataclass(slots=True)
class Uptime:
    """Requests of one hour."""

    up: int = 0
    limited: int = 0
    down: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the records and requests of an output come to."""

    captions: int
    failures: int
    by_code: Mapping[str, int]
    #: (code, host) -> failures; host is empty for what is no URL.
    by_host: Mapping[tuple[str, str], int]
    flags: Mapping[str, int]
    #: Captions in each bin of LENGTHS, and one bin above them; the same for LATENCIES.
    lengths: Sequence[int]
    latencies: Sequence[int]
    #: Captions by number of images in their request.
    pack_sizes: Mapping[int, int]
    #: Day -> served model -> tokens, prompt and completion.
    tokens: Mapping[str, Mapping[str, int]]
    served: Mapping[str, int]
    #: Day -> requests, and of these turned away by a limit.
    requests: Mapping[str, int]
    limited: Mapping[str, int]
    #: Provider -> hour -> uptime; the provider `` is all of them together.
    uptime: Mapping[str, Mapping[str, Uptime]]
    cost_usd: float
    #: Records of the gallery: captions by hash, then flagged, then failed.
    gallery: pa.Table


@dataclass(slots=True)
class FactsBuilder:
    """Adds up batches. pictures: most records in the gallery."""

    pictures: int
    _status: Counter[str] = field(default_factory=Counter)
    _codes: Counter[str] = field(default_factory=Counter)
    _hosts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _flags: Counter[str] = field(default_factory=Counter)
    _lengths: list[int] = field(default_factory=lambda: [0] * (len(LENGTHS) + 1))
    _latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCIES) + 1))
    _packs: Counter[int] = field(default_factory=Counter)
    _tokens: dict[str, Counter[str]] = field(default_factory=dict)
    _requests: Counter[str] = field(default_factory=Counter)
    _limited: Counter[str] = field(default_factory=Counter)
    _uptime: dict[str, dict[str, Uptime]] = field(default_factory=dict)
    _cost: float = 0.0
    _plain: BottomK = field(init=False)
    _flagged: BottomK = field(init=False)
    _failed: BottomK = field(init=False)

    def __post_init__(self) -> None:
        self._plain = BottomK(self.pictures)
        self._flagged = BottomK(min(UNUSUAL, self.pictures))
        self._failed = BottomK(min(UNUSUAL, self.pictures))

    def add_records(self, batch: pa.RecordBatch) -> None:
        """Count records and offer them to the sample."""
        table = pa.Table.from_batches([batch])
        ok = pc.equal(table["status"], "ok")
        captions, failures = table.filter(ok), table.filter(pc.invert(ok))
        self._status.update({"ok": len(captions), "failed": len(failures)})
        self._codes.update(_counts(failures["error_code"]))
        if len(failures):
            hosts = pc.struct_field(pc.extract_regex(failures["image"], _HOST), "host")
            pairs = pa.table({"code": failures["error_code"], "host": pc.fill_null(hosts, "")})
            for row in pairs.group_by(["code", "host"]).aggregate([([], "count_all")]).to_pylist():
                self._hosts[row["code"] or "", row["host"]] += row["count_all"]
        if len(captions):
            _bin(self._lengths, pc.utf8_length(captions["caption"]), LENGTHS)
            self._packs.update(_counts(captions["pack_size"]))
            # Some thousand captions of megabytes would not fit; one character more says it is cut.
            cut = pc.utf8_slice_codeunits(captions["caption"], 0, KEPT + 1)
            captions = captions.set_column(captions.column_names.index("caption"), "caption", cut)
        flags = pc.list_flatten(table["flags"])
        self._flags.update(_counts(flags))
        notable = _notable(captions)
        self._plain.add(captions.filter(pc.invert(notable)))
        self._flagged.add(captions.filter(notable))
        self._failed.add(failures)

    def add_requests(self, batch: pa.RecordBatch) -> None:
        """Count HTTP attempts."""
        table = pa.Table.from_batches([batch])
        self._cost += pc.sum(table["cost_usd"]).as_py() or 0.0
        _bin(self._latencies, pc.drop_null(table["latency_ms"]), LATENCIES)
        both = pc.add(
            pc.fill_null(table["prompt_tokens"], 0), pc.fill_null(table["completion_tokens"], 0)
        )
        served = pc.coalesce(table["served_model"], table["model"])
        grouped = (
            pa.table(
                {
                    "hour": pc.strftime(table["at"], "%Y-%m-%d %H"),
                    "class": table["class"],
                    "provider": pc.fill_null(table["provider"], ""),
                    "served": served,
                    "tokens": both,
                }
            )
            .group_by(["hour", "class", "provider", "served"])
            .aggregate([("tokens", "sum"), ([], "count_all")])
        )
        for row in grouped.to_pylist():
            self._add_group(row)

    def _add_group(self, row: Mapping[str, Any]) -> None:
        hour, count, kind = row["hour"] or "unknown", row["count_all"], row["class"]
        day = hour[:10]
        self._requests[day] += count
        if kind in LIMITED:
            self._limited[day] += count
        if row["tokens_sum"]:
            self._tokens.setdefault(day, Counter())[row["served"] or "unknown"] += row["tokens_sum"]
        for provider in {"", row["provider"]}:
            cell = self._uptime.setdefault(provider, {}).setdefault(hour, Uptime())
            if kind in LIMITED:
                cell.limited += count
            elif kind in DOWN:
                cell.down += count
            else:
                cell.up += count

    def facts(self) -> Facts:
        """What it came to."""
        failed, flagged = self._failed.table(), self._flagged.table()
        tables = [table for table in (flagged, failed) if table is not None]
        plain = self._plain.table()
        if plain is not None:
            tables.insert(0, plain.slice(0, max(0, self.pictures - sum(map(len, tables)))))
        gallery = pa.concat_tables(tables).slice(0, self.pictures) if tables else pa.table({})
        served: Counter[str] = Counter()
        for models in self._tokens.values():
            served.update(models)
        return Facts(
            captions=self._status["ok"],
            failures=self._status["failed"],
            by_code=dict(self._codes.most_common()),
            by_host=dict(self._hosts.most_common(20)),
            flags=dict(self._flags.most_common()),
            lengths=self._lengths,
            latencies=self._latencies,
            pack_sizes=dict(sorted(self._packs.items())),
            tokens={day: dict(self._tokens[day]) for day in sorted(self._tokens)},
            served=dict(served.most_common()),
            requests=dict(sorted(self._requests.items())),
            limited=dict(self._limited),
            uptime=self._uptime,
            cost_usd=self._cost,
            gallery=gallery,
        )


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    """Value -> how often; nulls are left out."""
    pairs = pc.value_counts(
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    )
    return {
        pair["values"]: pair["counts"] for pair in pairs.to_pylist() if pair["values"] is not None
    }


def _bin(bins: list[int], values: pa.ChunkedArray, ends: Sequence[int]) -> None:
    """Count values into bins; the last bin is for what is above all ends."""
    before = 0
    for at, end in enumerate(ends):
        below = pc.sum(pc.less_equal(values, end)).as_py() or 0
        bins[at] += below - before
        before = below
    bins[-1] += len(values) - values.null_count - before


def _notable(captions: pa.Table) -> pa.Array:
    """Which captions have a flag that is about the answer."""
    flags = captions["flags"].combine_chunks()
    if isinstance(flags, pa.ChunkedArray):
        flags = pa.concat_arrays(flags.chunks) if flags.num_chunks else pa.array([], flags.type)
    flat = pc.list_flatten(flags)
    parents = pc.list_parent_indices(flags)
    notable = pc.invert(pc.is_in(flat, value_set=pa.array(sorted(PREPARED), pa.string())))
    rows = pc.unique(parents.filter(notable))
    return pc.is_in(pa.array(range(len(captions)), pa.int64()), value_set=rows.cast(pa.int64()))
