"""Outputs made up for pages: records with given captions, as a run leaves them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema

#: 2026-10-01 00:00 UTC in microseconds.
START = 1_790_812_800_000_000
HOUR = 3_600_000_000


def key_of(at: int) -> str:
    return hashlib.sha256(str(at).encode()).hexdigest()[:32]


def record(at: int, **values: Any) -> dict[str, Any]:
    """A record with a caption, but for what `values` says."""
    whole = {field.name: None for field in schema.RECORDS}
    return {
        **whole,
        "key": key_of(at),
        "recipe": "0" * 16,
        "image": f"https://a.example/{at}.jpg",
        "caption": f"A picture, number {at}.",
        "status": "ok",
        "flags": [],
        "model": "maker/model",
        "served_model": "maker/model-001",
        "pack_size": 1,
        "finished_at": START + at,
        **values,
    }


def failed(at: int, code: str = "http_4xx", **values: Any) -> dict[str, Any]:
    """A record without a caption."""
    gone = {"caption": None, "status": "failed", "error_code": code, "error": "404 Not Found"}
    return record(at, **{**gone, **values})


def request(number: int, **values: Any) -> dict[str, Any]:
    """A request that was answered."""
    whole = {field.name: None for field in schema.REQUESTS}
    return {
        **whole,
        "request_id": f"r{number}",
        "run_id": "r",
        "at": START,
        "attempt": 1,
        "class": "ok",
        "model": "maker/model",
        "served_model": "maker/model-001",
        "provider": "Maker",
        "images": 1,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cost_usd": 0.001,
        "latency_ms": 900,
        "wait_ms": 0,
        **values,
    }


def records_batch(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=schema.RECORDS)


def requests_batch(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=schema.REQUESTS)


def write_output(
    folder: Path, records: Sequence[dict[str, Any]], requests: Sequence[dict[str, Any]] = ()
) -> Path:
    """A job file beside an output that holds these; returns the job file."""
    out = folder / "out"
    parts = {
        "captions": records_batch([one for one in records if one["status"] == "ok"]),
        "failures": records_batch([one for one in records if one["status"] != "ok"]),
        "requests": requests_batch(requests),
    }
    for name, batch in parts.items():
        (out / name).mkdir(parents=True)
        pq.write_table(pa.Table.from_batches([batch]), out / name / "part-00000001.parquet")
    (out / "_state").mkdir(mode=0o700)
    (folder / "manifest.csv").write_text("url\nhttps://a.example/0.jpg\n")
    job = folder / "job.yaml"
    job.write_text(
        f"name: made-up\nmanifest: {{path: {folder}/manifest.csv}}\noutput: {{path: {out}}}\n"
        "endpoint: {profile: embedded, model: embedded/pixels}\n"
    )
    return job
