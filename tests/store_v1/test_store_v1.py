"""Outputs that the first version of the store wrote are opened, resumed and verified for good.

`outputs.tar.gz` holds two jobs with relative paths, their pictures and what real runs left:

    finished   24 rows, 22 captions, 2 failures, packs of 3 with an audit, published in two runs
    killed     40 rows, 9 settled by a first run; the second one was killed with SIGKILL: 13
               answers and their attempts stand in the journal alone
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.support.checker import check_whole, published
from tests.support.command import pipeline, simulator

ARCHIVE = Path(__file__).parent / "outputs.tar.gz"


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """The two jobs, unpacked with the modes and times that they had."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="tar")
    return tmp_path


def test_a_finished_output_holds_its_promises_and_sends_nothing(jobs: Path) -> None:
    before = published(jobs / "finished" / "out")

    verified = pipeline("verify", "job.yaml", cwd=jobs / "finished")
    again = pipeline("run", "job.yaml", "--json", cwd=jobs / "finished")

    assert (verified.code, verified.out) == (0, "out: all promises hold\n")
    assert again.code == 1, again.err
    told = again.summary
    assert (told["captioned"], told["failed"], told["left"], told["requests"]) == (22, 2, 0, 0)
    assert check_whole(jobs / "finished" / "out") == before


def test_failures_of_a_finished_output_are_asked_again(jobs: Path) -> None:
    job = jobs / "finished"
    (job / "images" / "00007.jpg").write_bytes((job / "images" / "00008.jpg").read_bytes())

    with simulator(jobs, "rpm=null") as service:
        base = f"endpoint.base_url={service.base}"
        ended = pipeline("run", "job.yaml", "--retry-failed", "--json", "--set", base, cwd=job)

    assert (ended.code, ended.summary["captioned"], ended.summary["failed"]) == (1, 23, 1)
    assert len(check_whole(job / "out")) == 24


def test_a_killed_output_goes_on_and_asks_nothing_twice(jobs: Path) -> None:
    job = jobs / "killed"
    before = published(job / "out")
    assert len(before) == 9

    with simulator(jobs, "rpm=null") as service:
        base = f"endpoint.base_url={service.base}"
        ended = pipeline("run", "job.yaml", "--json", "--set", base, cwd=job)
        asked = len(service.asked())

    assert ended.code == 1, ended.err
    assert (ended.summary["captioned"], ended.summary["failed"], asked) == (39, 1, 18)
    after = check_whole(job / "out")
    assert {key: after[key] for key in before} == before
    assert pq.read_table(job / "out" / "dataset.parquet").num_rows == 40
    assert pipeline("verify", "job.yaml", cwd=job).code == 0


def test_parts_of_all_versions_are_read_together_by_anybody(jobs: Path) -> None:
    """polars, DuckDB and datasets refuse a folder whose files differ in a column, unless they are told
    otherwise: so an output goes on with the columns that it was begun with, where `width` is the
    size that was sent; also what a journal of the first version still held."""
    job = jobs / "killed"
    captions = job / "out" / "captions"
    (old,) = captions.glob("*.parquet")
    copied = shutil.copy(old, jobs / "old.parquet")
    with simulator(jobs, "rpm=null") as service:
        base = f"endpoint.base_url={service.base}"
        pipeline("run", "job.yaml", "--set", base, "--set", "images.max_side=16", cwd=job)
    shutil.copy(copied, captions / "part-00009999.parquet")

    new = max(captions.glob("part-0000000*.parquet"))
    assert pq.read_schema(new) == pq.read_schema(copied)
    sizes = pq.read_table(new, columns=["width", "flags"]).to_pylist()
    assert {(row["width"], "resized" in row["flags"]) for row in sizes} == {(32, False), (16, True)}
    assert "sent_width" not in pq.read_schema(job / "out" / "dataset.parquet").names
    rows = sum(pq.read_metadata(path).num_rows for path in captions.iterdir())
    assert read_by_anybody(captions, jobs / "cache") == rows > 9 + 30


def read_by_anybody(folder: Path, cache: Path) -> int:
    """The rows of a folder of parts, the same for every reader."""
    paths = f"{folder}/*.parquet"
    loaded = datasets.load_dataset("parquet", data_files=paths, split="train", cache_dir=str(cache))
    counts = {
        "datasets": len(loaded),
        "duckdb": len(duckdb.sql(f"SELECT * FROM '{paths}'").fetchall()),
        "pandas": len(pd.read_parquet(folder)),
        "polars": len(pl.read_parquet(paths)),
        "polars, lazily": len(pl.scan_parquet(paths).collect()),
        "pyarrow": len(pq.read_table(folder)),
    }
    (rows,) = set(counts.values())
    return rows
