"""Two workers on Ray against two plain processes on one ledger, `--shard`, turn by turn.

    python bench/on_ray.py [--rows N] [--rounds R] [--pace N]

Ray has to be installed. Both ask the same loopback server (`wire.py`) for the same rows with one ledger
that counts a day; with --pace so many a minute. Rates are from the first request to the last, and CPU is
that of the two workers and of the quota actor, or of the two processes; what a few rows cost is taken
out. Ray's own servers, which idle at 3 % of a core, are left out.
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
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
from overhead import HERE, service

SHARDS, FEW = 2, 200
#: What a Ray process is called while it works for us, or has.
OURS = ("ray::run_shard", "ray::QuotaActor", "ray::IDLE")


class Run(NamedTuple):
    """What one job took."""

    cpu: float
    #: Seconds from its first request to its last.
    asking: float


class Bench:
    """Jobs of both kinds against one server."""

    def __init__(self, base: str, noted: Path, pace: int | None) -> None:
        self._base, self._noted, self._pace = base, noted, pace

    def run(self, rows: int, *, on_ray: bool) -> Run:
        """A fresh job."""
        self._noted.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            folder = Path(name)
            self._write(folder, rows)
            cpu = self._on_ray(folder) if on_ray else self._plain(folder)
        time.sleep(0.1)  # the server notes the last request when it has been quiet for a moment
        first, last = map(float, self._noted.read_text().split())
        return Run(cpu, last - first)

    def _write(self, folder: Path, rows: int) -> None:
        urls = (f"https://images.example/{n:08d}.jpg\n" for n in range(rows))
        (folder / "urls.csv").write_text("url\n" + "".join(urls))
        limit = {"requests_per_minute": self._pace} if self._pace else {}
        job = {
            "manifest": {"path": "urls.csv"},
            "images": {"send": "url"},
            "endpoint": {"profile": "openai", "base_url": self._base, "model": "bench/fixed"},
            "quota": {"concurrency": 64, "requests_per_day": 100_000_000, **limit},
            "run": {"shards": SHARDS, "ray": {"worker_cpus": 0.5}},
        }
        (folder / "job.yaml").write_text(json.dumps(job))

    def _started(self, folder: Path, *options: str) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "PYTHONPATH": f"{HERE.parent}:{os.environ.get('PYTHONPATH', '')}",
            "XDG_STATE_HOME": str(folder / "state"),
            "RAY_TMPDIR": str(folder),
            # As the plain processes: beside other work Ray's would wait (15).
            "RAY_worker_niceness": "0",
        }
        command = [sys.executable, "-m", "pipeline", "run", "job.yaml", "--quiet", *options]
        return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)

    def _plain(self, folder: Path) -> float:
        """CPU seconds of both processes."""
        cpu = 0.0
        for process in [self._started(folder, "--shard", f"{n}/{SHARDS}") for n in range(SHARDS)]:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"--shard: exit {process.returncode}")
            cpu += usage.ru_utime + usage.ru_stime
        return cpu

    def _on_ray(self, folder: Path) -> float:
        """CPU seconds of workers and actor, as last seen before Ray ends."""
        process = self._started(folder, "--set", "run.engine=ray")
        seen = dict[int, float]()
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    if (child.cmdline() or [""])[0].startswith(OURS):
                        times = child.cpu_times()
                        seen[child.pid] = times.user + times.system
                except psutil.Error:
                    continue
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"on Ray: exit {process.returncode}")
        return sum(seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace", type=int)
    asked = parser.parse_args()
    if find_spec("ray") is None:
        raise SystemExit("Ray is not installed: pip install 'caption-pipeline[ray]'")
    with tempfile.TemporaryDirectory() as name:
        noted = Path(name) / "noted"
        with service(WIRE_NOTED=str(noted)) as base:
            bench = Bench(base, noted, asked.pace)
            few = {ray: bench.run(FEW, on_ray=ray) for ray in (False, True)}
            rates, costs = [], []
            for _ in range(asked.rounds):
                plain, ray = (bench.run(asked.rows, on_ray=ray) for ray in (False, True))
                each = [
                    (run.cpu - few[on].cpu) / (asked.rows - FEW)
                    for on, run in enumerate((plain, ray))
                ]
                rates.append(plain.asking / ray.asking)
                costs.append(each[1] / each[0])
                print(
                    f"plain {asked.rows / plain.asking:.0f}/s, {each[0] * 1000:.2f} CPU-ms a request; on Ray "
                    f"{asked.rows / ray.asking:.0f}/s, {each[1] * 1000:.2f}; ratios {rates[-1]:.2f}, {costs[-1]:.2f}",
                    flush=True,
                )
    print(
        f"median: rate {statistics.median(rates):.2f} x, CPU {statistics.median(costs):.2f} x two plain processes "
        f"({asked.rows} rows, {asked.pace or 'no'} requests a minute)"
    )


if __name__ == "__main__":
    main()
