"""CPU and rate of a whole run against the raw aiohttp loop, in the same minutes.

    python bench/overhead.py [--rows N] [--rounds R] [--packs P] [--limit RATIO] [--promised]

Both clients talk to the same loopback server (`wire.py`), turn by turn, each on one core, the
server on another where there is one. CPU is user + system of the client's process, start-up taken
out by runs over few rows. With --limit the command fails when the ratio of CPU a request is above
it; with --promised, when a run took more memory than docs/promises.md allows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FEW = 200
#: MB, of the largest process of each client, in the order in which they ran.
PEAKS: list[float] = []
#: MB, and bytes for each image: the memory that a run may take.
MEMORY = 150.0, 48


def pinned(process: subprocess.Popen[Any], *, server: bool = False) -> None:
    """Keep a process that was just started to the clients' core, or to the others."""
    if hasattr(os, "sched_setaffinity"):
        *others, last = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(process.pid, set(others) if server and others else {last})


@contextmanager
def service(**env: str) -> Iterator[str]:
    """The loopback server's base URL. env: what it is told beside our own environment."""
    server = subprocess.Popen(
        [sys.executable, str(HERE / "wire.py"), "serve"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    pinned(server, server=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def spent(arguments: list[str], cwd: Path | None = None) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a command that must succeed."""
    started = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(
        arguments, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    pinned(process)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"{arguments}: exit {process.returncode}\n{said}")
    PEAKS.append(usage.ru_maxrss * 1024 / 1e6)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started


def fewest(runs: list[tuple[float, float]]) -> tuple[float, float]:
    """Of several short runs: noise only adds."""
    return min(cpu for cpu, _ in runs), min(wall for _, wall in runs)


def raw(base: str, rows: int, workers: int) -> tuple[float, float]:
    return spent([sys.executable, str(HERE / "wire.py"), "raw", base, str(rows), str(workers)])


def ours(base: str, rows: int, workers: int, packs: int) -> tuple[float, float]:
    """A fresh job over `rows` image URLs, everything on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Line by line: what this process takes counts as the peak of those that it starts.
        with (folder / "urls.csv").open("w") as file:
            file.write("url\n")
            file.writelines(f"https://images.example/{n:08d}.jpg\n" for n in range(rows))
        job = {
            "manifest": {"path": "urls.csv"},
            "images": {"send": "url"},
            "endpoint": {"profile": "openai", "base_url": base, "model": "bench/fixed"},
            "quota": {"concurrency": workers},
            "packing": {"images_per_request": packs},
        }
        (folder / "job.yaml").write_text(json.dumps(job))
        return spent([sys.executable, "-m", "pipeline", "run", "job.yaml", "--yes"], folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--packs", type=int, default=1)
    parser.add_argument("--limit", type=float)
    parser.add_argument("--promised", action="store_true")
    asked = parser.parse_args()
    most = MEMORY[0] + MEMORY[1] * asked.rows / 1e6
    with service() as base:
        few_raw = fewest([raw(base, FEW, asked.workers) for _ in range(3)])
        few_ours = fewest([ours(base, FEW, asked.workers, asked.packs) for _ in range(3)])
        cpu, rate = [], []
        for _ in range(asked.rounds):
            theirs = raw(base, asked.rows, asked.workers)
            mine = ours(base, asked.rows, asked.workers, asked.packs)
            count = asked.rows - FEW
            each_raw = (theirs[0] - few_raw[0]) / count * 1000
            each_ours = (mine[0] - few_ours[0]) / count * 1000
            cpu.append(each_ours / each_raw)
            rate.append((theirs[1] - few_raw[1]) / (mine[1] - few_ours[1]))
            print(
                f"raw {each_raw:.3f} CPU-ms a request; ours {each_ours:.3f} CPU-ms a caption; "
                f"ratio {cpu[-1]:.2f}; images a second, ours to raw: {rate[-1]:.2f}",
                flush=True,
            )
        ratio = statistics.median(cpu)
        print(
            f"median: CPU {ratio:.2f} x the raw loop, rate {statistics.median(rate):.2f} x "
            f"({asked.rows} rows, {asked.workers} workers, packs of {asked.packs}); "
            f"peak memory {max(PEAKS):.1f} MB of {most:.1f}"
        )
        if asked.limit is not None and ratio > asked.limit:
            raise SystemExit(f"CPU ratio {ratio:.2f} is above {asked.limit}")
        if asked.promised and max(PEAKS) > most:
            raise SystemExit(f"{max(PEAKS):.1f} MB are above {most:.1f}")


if __name__ == "__main__":
    main()
