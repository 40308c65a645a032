"""The sizes that records have: the original picture's, and that of what was sent."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.store_v1.test_store_v1 import read_by_anybody
from tests.support.command import pipeline, simulator, write_job
from tests.support.pictures import picture

SIZES = ("width", "height", "sent_width", "sent_height")


def test_the_original_s_size_and_that_of_what_was_sent(tmp_path: Path) -> None:
    """One that is shrunk, one that is sent as large as it is, one that cannot be read; in parts, in the
    dataset and in exports."""
    for name, size in (("large", 100), ("small", 40)):
        (tmp_path / f"{name}.jpg").write_bytes(picture(size, size))
    table = tmp_path / "table.parquet"
    pq.write_table(pa.table({"image": ["large.jpg", "small.jpg", "none.jpg"]}), table)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, table, images={"max_side": 64})
        assert pipeline("run", job).code == 1
    for dest in ("x.parquet", "x.jsonl"):
        assert pipeline("export", job, tmp_path / dest).code == 0

    expected = {"large.jpg": (100, 100, 64, 64), "small.jpg": (40,) * 4, "none.jpg": (None,) * 4}
    records = [pq.read_table(tmp_path / "out" / folder) for folder in ("captions", "failures")]
    lines = (tmp_path / "x.jsonl").read_text().splitlines()
    rows = {
        "parts": pa.concat_tables(records).to_pylist(),
        "dataset": pq.read_table(tmp_path / "out/dataset.parquet").to_pylist(),
        "Parquet": pq.read_table(tmp_path / "x.parquet").to_pylist(),
        "JSON lines": [json.loads(line) for line in lines],
    }
    for where, read in rows.items():
        sizes = {row["image"]: tuple(row[name] for name in SIZES) for row in read}
        assert sizes == expected, where
    assert read_by_anybody(tmp_path / "out" / "captions", tmp_path / "cache") == 2
    assert pipeline("verify", job).code == 0


def test_a_picture_that_the_service_fetched_has_no_size(tmp_path: Path) -> None:
    table = tmp_path / "urls.parquet"
    pq.write_table(pa.table({"url": [f"https://images.example/{n}.jpg" for n in range(2)]}), table)
    with simulator(tmp_path) as server:
        job = write_job(tmp_path, server.base, table, images={"send": "url"})
        assert pipeline("run", job).code == 0

    for path in (tmp_path / "out/captions", tmp_path / "out/dataset.parquet"):
        rows = pq.read_table(path, columns=[*SIZES, "status"]).to_pylist()
        assert rows == [{**dict.fromkeys(SIZES), "status": "ok"}] * 2
