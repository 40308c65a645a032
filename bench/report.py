"""`report` of a large output: seconds, peak memory, and bytes of the page.

    python bench/report.py [--rows N] [--promised]

Records and requests are made up, of several days, providers and hosts, with thumbnails as a run
keeps them. `--promised` fails above 60 seconds of CPU for a million records, all processes and
threads of the command added up, or 1 GB. CPU and not the clock, which beside other work says little;
it is printed as well.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import schema
from pipeline.images.thumbnail import thumbnail
from pipeline.store.thumbnails import BYTES, MOST, Thumbnails

PART = 5_000
MINUTE = 60_000_000
#: 2026-10-01, in microseconds.
START = 1_790_812_800_000_000
MODELS = ("gemini-flash-1.5-8b-exp", "gemini-flash-1.5-8b-001", "gemini-flash-1.5-8b-002")
PROVIDERS = ("Google AI Studio", "Google Vertex", "Together")
CLASSES = ("ok",) * 90 + ("account_minute",) * 4 + ("transient",) * 3 + ("refused",) * 3
CODES = ("http_4xx", "http_4xx", "timeout", "refused", "corrupt", "too_large")
WORDS = [
    "a",
    "red",
    "boat",
    "on",
    "the",
    "calm",
    "sea",
    "near",
    "an",
    "old",
    "harbour",
    "while",
    "two",
    "people",
    "walk",
    "along",
    "its",
    "wall",
]


def make_output(folder: Path, rows: int, *, seed: int = 0) -> Path:
    """A job file and an output of so many records; 3 % of them failed. Returns the job file."""
    rng = random.Random(seed)
    out = folder / "out"
    for name in ("captions", "failures", "requests", "_state"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, rows, PART), 1):
        records = [_record(rng, at) for at in range(start, min(rows, start + PART))]
        for folder_name, status in (("captions", "ok"), ("failures", "failed")):
            some = [one for one in records if one["status"] == status]
            _write(out / folder_name / f"part-{number:08d}.parquet", some, schema.RECORDS)
        requests = [_request(rng, start + at) for at in range(0, len(records), 4)]
        _write(out / "requests" / f"part-{number:08d}.parquet", requests, schema.REQUESTS)
    left = rows // 4
    run = {
        "run_id": "20261101T000005Z-0a1b2c",
        "job": "harbours",
        "exit_code": 75,
        "left": left,
        "captioned": rows - rows * 3 // 100,
        "failed": rows * 3 // 100,
        "images": rows + left,
        "requests": rows // 4,
        "refused": rows // 100,
        "seconds": 3600.0,
        "resume_after": None,
        "reason": "the day's quota is spent",
        "captions_per_request": 3.9,
        "quota": {"limit": 1000, "used": 1000, "left": 0, "resets_at": START / 1e6 + 31 * 86400},
    }
    (out / "_state" / "runs.jsonl").write_text(json.dumps(run) + "\n")
    job = folder / "job.yaml"
    job.write_text(
        "name: harbours\nmanifest: {path: manifest.csv}\noutput: {path: out}\n"
        "endpoint: {profile: embedded, model: embedded/pixels}\n"
    )
    (folder / "manifest.csv").write_text("url\nhttps://a.example/1.jpg\n")
    return job


def key_of(at: int) -> str:
    return hashlib.sha256(str(at).encode()).hexdigest()[:32]


def _record(rng: random.Random, at: int) -> dict[str, object]:
    failed = at % 33 == 7
    length = rng.randint(8, 40)
    return {
        **{field.name: None for field in schema.RECORDS},
        "key": key_of(at),
        "recipe": "0123456789abcdef",
        "model": "google/gemini-flash",
        "image": f"https://cdn{at % 7}.example/pictures/{at:07d}.jpg",
        "caption": None if failed else " ".join(rng.choices(WORDS, k=length)).capitalize() + ".",
        "status": "failed" if failed else "ok",
        "error_code": rng.choice(CODES) if failed else None,
        "error": "404 Not Found" if failed else None,
        "flags": ["truncated"] if at % 101 == 0 else ["resized"],
        "served_model": MODELS[at % len(MODELS)],
        "provider": PROVIDERS[at % len(PROVIDERS)],
        "pack_size": 4,
        "attempts": 1,
        "completion_tokens": 40,
        "prompt_tokens": 300,
        "run_id": "r",
        "finished_at": START + at * MINUTE // 40,
    }


def _request(rng: random.Random, at: int) -> dict[str, object]:
    return {
        "request_id": f"r{at}",
        "run_id": "r",
        "at": START + at * MINUTE // 40,
        "attempt": 1,
        "class": rng.choice(CLASSES),
        "status": 200,
        "provider": rng.choice(PROVIDERS),
        "model": "google/gemini-flash",
        "served_model": MODELS[at // 9000 % len(MODELS)],
        "images": 4,
        "prompt_tokens": rng.randint(1000, 1400),
        "wait_ms": 0,
        "completion_tokens": rng.randint(100, 300),
        "cost_usd": 0.0,
        "latency_ms": int(rng.lognormvariate(8, 0.6)),
    }


def _write(path: Path, rows: list[dict[str, object]], shape: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=shape), path, compression="zstd")


def make_thumbnails(out: Path, rows: int) -> None:
    """Noisy pictures, which take as many bytes as photographs do; some are the same."""
    keeper = Thumbnails(out / "_state")
    rng, made = random.Random(1), list[bytes]()
    for _ in range(50):
        small = Image.frombytes("RGB", (24, 18), rng.randbytes(24 * 18 * 3))
        into = io.BytesIO()
        small.resize((480, 360), Image.Resampling.BICUBIC).save(into, "JPEG", quality=85)
        made.append(thumbnail(into.getvalue(), BYTES))
    for at, key in enumerate(sorted(map(key_of, range(rows)))[:MOST]):
        keeper.put(key, made[at % len(made)])
    keeper.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--promised", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = make_output(folder, asked.rows)
        make_thumbnails(folder / "out", asked.rows)
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "pipeline", "report", job.name], cwd=folder, check=True
        )
        seconds = time.monotonic() - began
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        size = (folder / "out" / "report.html").stat().st_size / 1e6
    print(
        f"{asked.rows:,} records: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak:,.0f} MB at the peak, page {size:.1f} MB"
    )
    if asked.promised:
        per_million = cpu / max(1.0, asked.rows / 1e6)
        assert per_million <= 60, f"{per_million:.0f} s of CPU for a million records"
        assert peak <= 1024, f"{peak:.0f} MB"
        assert size <= 15, f"{size:.1f} MB"


if __name__ == "__main__":
    main()
