"""What the checkpoint costs: records through `reply`, derivation and publication.

    python bench/checkpoint.py [RECORDS] [--json]         a million by default, about three minutes

64 workers store answers as fast as they can, as a run would: raw body durable, records derived,
parts published behind. CPU is that of the whole process with its threads and the kernel, less
what making the questions and answers costs. The disk's own fsync is measured beside it, since an
append can be no faster than that. At the end the output is opened once more, as a resumed run
would.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from pipeline.captioning.interpret import derive
from pipeline.clock import SystemClock
from pipeline.model import Asked, Reply, Sent
from pipeline.store.store import Checkpoint, open_checkpoint

WORKERS = 64
#: µs of CPU per record in all.
GOAL_US = 75.0
#: Made-up words, so that captions are as hard to pack as real ones.
WORDS = [
    f"{a}{b}"
    for a in ("ba", "de", "fi", "lo", "mu", "ne", "ra", "si", "to", "vu")
    for b in (
        "k",
        "lin",
        "mer",
        "nos",
        "pal",
        "quen",
        "rat",
        "sor",
        "tim",
        "ver",
        "wen",
        "xi",
        "yor",
        "zu",
    )
]


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def captions(rng: random.Random) -> list[bytes]:
    """A thousand different ones of about 35 words."""
    return [" ".join(rng.choices(WORDS, k=35)).encode() for _ in range(1_000)]


def answers(count: int) -> Iterator[tuple[Sent, Reply]]:
    """Questions of one image each, and answers as a service gives them."""
    texts = captions(random.Random(0))
    for number in range(count):
        key = hashlib.sha256(b"%d" % number).hexdigest()
        asked = Asked(
            key=key[:32],
            id=None,
            image=f"https://img.example.com/{number:09d}.jpg",
            prompt_id=key[32:48],
            ordinal=number,
        )
        sent = Sent(
            request_id=key[32:],
            run_id="20261123T122105Z-ab12cd",
            recipe="0123456789abcdef",
            profile="openrouter",
            model="google/gemini-flash-1.5-8b-exp",
            form="plain",
            attempt=1,
            at=1_795_392_000_000_000 + number,
            wait_ms=0,
            items=(asked,),
        )
        body = (
            b'{"id":"gen-1795392000-%s","provider":"Google","model":"google/gemini-flash-1.5-8b-exp",'
            b'"object":"chat.completion","created":1795392000,"choices":[{"logprobs":null,'
            b'"finish_reason":"stop","native_finish_reason":"STOP","index":0,"message":{"role":'
            b'"assistant","content":"%s %d.","refusal":null}}],"usage":{"prompt_tokens":275,'
            b'"completion_tokens":46,"total_tokens":321,"cost":0}}'
        ) % (key[:20].encode(), texts[number % 1_000], number)
        headers = {"content-type": "application/json", "x-request-id": key[:16]}
        yield sent, Reply(status=200, headers=headers, body=body, latency_ms=900, at=sent.at + 900)


async def store(checkpoint: Checkpoint, count: int) -> list[float]:
    """Store so many answers; returns how long each append took, in order of its end."""
    source, took = answers(count), list[float]()

    async def worker() -> None:
        for sent, reply in source:
            begun = time.perf_counter()
            await checkpoint.reply(sent, reply)
            took.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(worker())
    return took


async def measure(output: Path, count: int) -> dict[str, Any]:
    """One run over an empty output, and its reopening."""
    begun = cpu()
    for _ in answers(count):
        pass
    bare = cpu() - begun
    async with open_checkpoint(output, derive=derive, clock=SystemClock()) as checkpoint:
        began, begun = time.perf_counter(), cpu()
        took = await store(checkpoint, count)
        await checkpoint.finish()
        seconds, spent = time.perf_counter() - began, cpu() - begun - bare
    began = time.perf_counter()
    async with open_checkpoint(output, derive=derive, clock=SystemClock()) as checkpoint:
        reopened = time.perf_counter() - began
        assert checkpoint.captioned == count
    took.sort()
    published = [p for f in ("captions", "requests") for p in (output / f).glob("*.parquet")]
    return {
        "records": count,
        "records_per_second": round(count / seconds),
        "cpu_us_per_record": round(spent / count * 1e6, 1),
        "goal_us": GOAL_US,
        "bytes_per_record": round(sum(p.stat().st_size for p in published) / count),
        "append_ms_p50": round(took[count // 2] * 1e3, 2),
        "append_ms_p99": round(took[count * 99 // 100] * 1e3, 2),
        "append_ms_worst": round(took[-1] * 1e3, 2),
        "fsync_ms_p99": round(fsync_p99(output) * 1e3, 2),
        "reopened_s": round(reopened, 2),
    }


def fsync_p99(folder: Path) -> float:
    """Of 300 fsyncs after 8 KB each, the 99th percentile in seconds."""
    took = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(300):
            file.write(bytes(8192))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    (folder / "probe").unlink()
    return sorted(took)[297]


def main() -> None:
    """Measure and print."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        found = runner.run(measure(Path(folder), numbers[0] if numbers else 1_000_000))
    if "--json" in sys.argv:
        print(json.dumps(found))
    else:
        print(
            f"{found['records']:,} records: {found['records_per_second']:,} a second, "
            f"{found['cpu_us_per_record']} µs CPU each (goal {GOAL_US:.0f}), "
            f"{found['bytes_per_record']} bytes each in parts\n"
            f"append p50 {found['append_ms_p50']} ms, p99 {found['append_ms_p99']} ms, worst "
            f"{found['append_ms_worst']} ms; the disk's fsync p99 {found['fsync_ms_p99']} ms\n"
            f"opened again in {found['reopened_s']} s"
        )


if __name__ == "__main__":
    main()
