"""`export` beside what does the same: DuckDB's COPY of the same join, and `tar` over the same files.

    python bench/export.py [--rows N] [--pictures N] [--rounds R] [--limit]

DuckDB makes the keys, joins manifest and parts by them and writes every column, in any order; ours
keeps the manifest's order and syncs what it has written. Each pair runs side by side, round by
round, after one round that counts nowhere, in which bytecode is written, as an installation does;
seconds are wall time from process start to end, memory is the largest resident set (VmHWM).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scale import make_job, make_manifest, make_output

HERE = Path(__file__).parent
#: Format -> how many times DuckDB's time it may take.
FORMATS = {"parquet": 1.2, "jsonl": 2.0}
#: The part of tar's rate that WebDataset reaches at least.
TAR = 0.8
COPY = """
COPY (
  SELECT m.*, r.caption, r.status, r.error_code, r.error, r.flags, r.key, r.model, r.served_model,
    r.provider, r.prompt_tokens, r.completion_tokens, r.cost_usd, r.width, r.height,
    r.sent_width, r.sent_height, r.image_sha256, r.finished_at
  FROM 'manifest.parquet' m LEFT JOIN read_parquet('out/captions/*.parquet') r
    ON r.key = substr(sha256('v1' || chr(10) || '{recipe}' || chr(10) || 'url:' || m.url || chr(10)
      || '{prompt}'), 1, 32)
) TO 'theirs.{format}' ({how})
"""
Run = tuple[float, float, float]
HOW = {"parquet": "FORMAT parquet, COMPRESSION zstd", "jsonl": "FORMAT json"}


def timed(arguments: Sequence[object], cwd: Path) -> Run:
    """(wall seconds, CPU seconds, MB) of a command that must succeed."""
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(a) for a in arguments], cwd=cwd, env=env, stdout=subprocess.DEVNULL
    )
    # Not `ru_maxrss`: what this process takes counts there, too.
    pid, megabytes = 0, 0.0
    while not pid:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            high = next(line for line in lines if line.startswith("VmHWM:"))
            megabytes = int(high.split()[1]) * 1024 / 1e6
        time.sleep(0.01)
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: exit {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - started, cpu, megabytes


def settled(folder: Path, rows: int) -> Path:
    """A finished output over so many rows; returns the job file. No service is asked."""
    make_manifest(folder, rows)
    job = make_job(folder, "http://127.0.0.1:9/v1", "manifest.parquet")
    make_output(folder, job, rows)
    return job


def pictures(folder: Path, count: int) -> Path:
    """A folder of pictures of 100 kB, all captioned; returns the job file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline import schema
    from pipeline.captioning.inputs import inspect_manifest
    from pipeline.config.job import load_job

    for at in range(count):
        path = folder / "p" / f"{at // 1000:03d}" / f"{at:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff" + at.to_bytes(4, "big") + os.urandom(100_000))
    job = folder / "job.json"
    service = {"profile": "embedded", "model": "embedded/pixels"}
    output = {"path": "out"}
    job.write_text(json.dumps({"manifest": {"path": "p"}, "endpoint": service, "output": output}))
    os.chdir(folder)
    manifest, naming = inspect_manifest(load_job(job, (), {}))
    rows = [row for batch in manifest.batches() for row in batch]
    columns = {field.name: pa.nulls(count, field.type) for field in schema.RECORDS}
    columns |= {
        "key": pa.array([naming.key(row) for row in rows]),
        "recipe": pa.array([naming.recipe] * count),
        "image": pa.array([row.image for row in rows]),
        "status": pa.array(["ok"] * count),
        "caption": pa.array([f"A caption of {row.image}, some words long." for row in rows]),
    }
    (folder / "out" / "captions").mkdir(parents=True)
    part = folder / "out" / "captions" / "part-00000001.parquet"
    pq.write_table(pa.table(columns, schema=schema.RECORDS), part)
    return job


def compared(
    name: str, ours: Sequence[object], theirs: Sequence[object], cwd: Path, rounds: int
) -> float:
    """Run a pair round by round and print it; the median of the rounds' ratios of wall time."""
    pairs = [(timed(ours, cwd), timed(theirs, cwd)) for _ in range(rounds + 1)][1:]
    wall, cpu = (statistics.median(a[at] / b[at] for a, b in pairs) for at in (0, 1))
    here, there = (statistics.median(pair[at][0] for pair in pairs) for at in (0, 1))
    print(
        f"{name:11} {here:6.2f} s, {there:6.2f} s; ratio {wall:.2f}, of CPU {cpu:.2f}; "
        f"{max(pair[0][2] for pair in pairs):.0f} MB",
        flush=True,
    )
    return wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", action="store_true", help="fail beyond what is promised")
    asked = parser.parse_args()
    beyond = []
    pipeline = [sys.executable, "-m", "pipeline", "export"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = settled(folder, asked.rows)
        from pipeline.captioning.inputs import inspect_manifest
        from pipeline.config.job import load_job

        with contextlib.chdir(folder):
            naming = inspect_manifest(load_job(job, (), {}))[1]
        for format_, most in FORMATS.items():
            sql = COPY.format(
                recipe=naming.recipe,
                prompt=naming.prompts[0].template.render({}),
                format=format_,
                how=HOW[format_],
            )
            ours = [*pipeline, job.name, f"ours.{format_}"]
            theirs = [sys.executable, "-c", "import duckdb, sys; duckdb.sql(sys.argv[1])", sql]
            if compared(format_, ours, theirs, folder, asked.rounds) > most:
                beyond.append(format_)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = pictures(folder, asked.pictures)
        ours = [*pipeline, job.name, "shards", "--format", "webdataset", "--overwrite"]
        theirs = ["tar", "-cf", "theirs.tar", "p"]
        if compared("webdataset", ours, theirs, folder, asked.rounds) > 1 / TAR:
            beyond.append("webdataset")
    if asked.limit and beyond:
        raise SystemExit(f"slower than promised: {', '.join(beyond)}")


if __name__ == "__main__":
    main()
