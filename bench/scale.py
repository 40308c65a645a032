"""The real command over long manifests: first request, memory of all processes, rerun, status.

    python bench/scale.py [ROWS …]          default: 20000 1000000 10000000

For each size a Parquet manifest is made, and

- `fresh`: a run on an empty output is stopped after its first request;
- `resumed`: nine tenths are settled, twice, and once more with the manifest's rows in another order;
- `finished`: everything is settled: a rerun that sends nothing, without and with the note of it;
- `status` of that output.

The outputs are made here, byte for byte as a run leaves them: parts of 5,000 records with every
column, and the journal that knows them. Memory is the largest sum of PSS over the command and its
children, sampled every 20 ms; seconds are from the start of the process.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from overhead import service

from pipeline import fs, schema
from pipeline.captioning.inputs import inspect_manifest
from pipeline.config.job import load_job
from pipeline.store import tables

HERE = Path(__file__).parent
PART = 5_000


class Peak(threading.Thread):
    """The largest sum of PSS over a process and its children, in MB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self.megabytes = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                held = sum(one.memory_full_info().pss for one in family)
            except psutil.Error:
                continue
            self.megabytes = max(self.megabytes, held / 1e6)


def make_manifest(folder: Path, rows: int) -> None:
    """`rows` image URLs and an id; and the same rows in another order."""
    ids = pa.array(range(rows))
    urls = pc.binary_join_element_wise(
        "https://images.example/", pc.cast(ids, pa.string()), ".jpg", ""
    )
    table = pa.table({"id": ids, "url": urls})
    pq.write_table(table, folder / "manifest.parquet", compression="zstd")
    half = rows // 2
    turned = pa.concat_tables([table.slice(half), table.slice(0, half)])
    pq.write_table(turned, folder / "turned.parquet", compression="zstd")


def make_job(folder: Path, base: str, manifest: str) -> Path:
    """The job file over one of the manifests; both share one output."""
    job = {
        "name": "scale",
        "manifest": {"path": manifest},
        "images": {"send": "url"},
        "endpoint": {"profile": "openai", "base_url": base, "model": "bench/fixed"},
        "quota": {"concurrency": 64},
        "packing": {"images_per_request": 32},
        "output": {"path": "out"},
    }
    path = folder / f"{manifest}.json"
    path.write_text(json.dumps(job))
    return path


def make_output(folder: Path, job: Path, rows: int) -> None:
    """The first `rows` of the manifest settled, as a run leaves them."""
    with contextlib.chdir(folder):
        naming = inspect_manifest(load_job(job, environ=os.environ))[1]
    prompt = naming.prompts[0].template.render({})
    out = folder / "out"
    for name in ("captions", "failures", "requests", "_state"):
        (out / name).mkdir(parents=True, exist_ok=True)
    urls = pq.read_table(folder / "manifest.parquet", columns=["url"]).column(0)
    parts = []
    for number, start in enumerate(range(0, rows, PART), 1):
        cut = urls.slice(start, min(PART, rows - start)).to_pylist()
        count = len(cut)
        keys = [
            hashlib.sha256(f"v1\n{naming.recipe}\nurl:{url}\n{prompt}".encode()).hexdigest()[:32]
            for url in cut
        ]
        columns = {field.name: pa.nulls(count, field.type) for field in schema.RECORDS}
        columns |= {
            "key": pa.array(keys),
            "recipe": pa.array([naming.recipe] * count),
            "image": pa.array(cut),
            "status": pa.array(["ok"] * count),
            "caption": pa.array([f"A caption of {url}, some words long." for url in cut]),
        }
        path = out / "captions" / f"part-{number:08d}.parquet"
        pq.write_table(pa.table(columns, schema=schema.RECORDS), path, compression="zstd")
        look = path.stat()
        parts.append(
            tables.Part(
                folder="captions",
                name=path.name,
                rows=count,
                sha256=fs.sha256_file(path),
                size=look.st_size,
                mtime_ns=look.st_mtime_ns,
            )
        )
    db = tables.connect(out / "_state" / "journal.db")
    tables.mark_parts(db, parts, upto=0)
    db.close()
    (out / "_state").chmod(0o700)


def command(folder: Path, *words: str, first: Path | None = None) -> tuple[float, float, float]:
    """Run the command: (seconds, to its end or to the first request; CPU seconds; MB).

    first: end it as soon as this file is there.
    """
    if first is not None:
        first.unlink(missing_ok=True)
    began = time.time()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peak = Peak(process.pid)
    peak.start()
    if first is not None:
        while process.poll() is None and not first.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    code = process.wait()
    ended = time.time()
    peak.done.set()
    peak.join()
    process.stderr.close()
    if code != (0 if first is None else 143):
        raise SystemExit(f"{words}: exit {code}\n{said}")
    if first is not None:
        ended = float(first.read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return ended - began, cpu, peak.megabytes


def measure(rows: int) -> None:
    """One size, all cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = folder / "first"
        make_manifest(folder, rows)
        with service(WIRE_FIRST=str(first)) as base:
            job = make_job(folder, base, "manifest.parquet")
            turned = make_job(folder, base, "turned.parquet")
            seconds, _, megabytes = command(folder, "run", job.name, first=first)
            say(rows, "fresh: first request", seconds, megabytes)
        with service(WIRE_FIRST=str(first)) as base:
            job = make_job(folder, base, "manifest.parquet")
            turned = make_job(folder, base, "turned.parquet")
            (folder / "out").rename(folder / "fresh")
            make_output(folder, job, rows // 10 * 9)
            seconds, _, megabytes = command(folder, "run", job.name, first=first)
            say(rows, "9/10 settled: first request", seconds, megabytes)
            time.sleep(0.5)
        with service(WIRE_FIRST=str(first)) as base:
            job = make_job(folder, base, "manifest.parquet")
            turned = make_job(folder, base, "turned.parquet")
            seconds, _, megabytes = command(folder, "run", job.name, first=first)
            say(rows, "9/10 settled, again: first request", seconds, megabytes)
        with service(WIRE_FIRST=str(first)) as base:
            turned = make_job(folder, base, "turned.parquet")
            seconds, _, megabytes = command(folder, "run", turned.name, first=first)
            say(rows, "9/10 settled, reordered: first request", seconds, megabytes)
            job = make_job(folder, base, "manifest.parquet")
            (folder / "out").rename(folder / "resumed")
            make_output(folder, job, rows)
            for words in ("finished, no note: rerun", "finished: rerun"):
                seconds, cpu, megabytes = command(folder, "run", job.name)
                say(rows, words, seconds, megabytes, cpu)
            seconds, cpu, megabytes = command(folder, "status", job.name)
            say(rows, "status", seconds, megabytes, cpu)


def say(rows: int, words: str, seconds: float, megabytes: float, cpu: float | None = None) -> None:
    more = "" if cpu is None else f", {cpu:.2f} s CPU = {cpu / rows * 1e6:.2f} µs a row"
    print(f"{rows:>12,}  {words:<40} {seconds:6.2f} s, {megabytes:4.0f} MB{more}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[20_000, 1_000_000, 10_000_000])
    for rows in parser.parse_args().rows:
        measure(rows)


if __name__ == "__main__":
    main()
