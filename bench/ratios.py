"""What README's table says, in one interleaved run: this build, an earlier one, and the raw loop.

    python bench/ratios.py [--rounds R] [--ci]

The earlier build is taken out of git (`EARLIER`) and run by the same interpreter. Medians. With --ci
few rows are asked, and the command fails where a line is above 1.25 times what it has reached.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from overhead import HERE, pinned, service

#: The build that these figures are compared with.
EARLIER = "6ceaae9"
#: Line -> ratio that was reached, of those that a busy machine does not change; --ci allows 1.25 times
#: as much.
REACHED = {
    "CPU of a job of 1 row": 0.80,
    "CPU of a job of 100 rows": 0.80,
    "CPU of --help": 0.55,
    "peak memory, 100 rows": 1.01,
    "bytes written a caption": 0.43,
}
#: Rows of a run whose cost is the start alone, beside those of the run that is measured.
FEW = 100


class Run(NamedTuple):
    """What a command took."""

    cpu: float
    wall: float
    #: Megabytes, at most.
    memory: float
    #: Bytes that went to the disk.
    written: int
    #: Seconds to its first request, and from its last to its exit.
    first: float
    last: float


@contextmanager
def earlier() -> Iterator[Path]:
    """A folder with the earlier build."""
    with tempfile.TemporaryDirectory() as name:
        archive = subprocess.run(
            ["git", "archive", EARLIER], cwd=HERE.parent, capture_output=True, check=True
        )
        subprocess.run(["tar", "x", "-C", name], input=archive.stdout, check=True)
        yield Path(name)


def spent(arguments: list[str], build: Path, cwd: Path, noted: Path | None = None) -> Run:
    """A command that must succeed. noted: where the server notes its first and last request."""
    env = {**os.environ, "PYTHONPATH": str(build), "XDG_STATE_HOME": str(cwd / "state")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    begun = time.time()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pinned(process)
    written = 0
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        facts = Path(f"/proc/{process.pid}/io").read_text().split()
        written = int(facts[facts.index("write_bytes:") + 1]) if facts else written
        time.sleep(0.005)
    ended = time.time()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: exit {process.returncode}")
    first, last = (noted.read_text().split() if noted and noted.exists() else (begun, ended))[:2]
    return Run(
        usage.ru_utime + usage.ru_stime,
        ended - begun,
        usage.ru_maxrss / 1000,
        written,
        float(first) - begun,
        ended - float(last),
    )


class Bench:
    """Runs of each build and of the raw loop against one server."""

    def __init__(self, base: str, builds: dict[str, Path], noted: Path) -> None:
        self.base, self.builds, self.noted = base, builds, noted

    def job(
        self,
        build: str,
        rows: int,
        workers: int = 64,
        packs: int = 1,
        pace: int = 0,
        endpoints: int = 0,
    ) -> Run:
        """A fresh job; pace: requests a minute; endpoints: so many in a list, 0 without one."""
        endpoint = {"profile": "openai", "base_url": self.base, "model": "bench/fixed"}
        self.noted.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=HERE) as name:  # a real disk: /tmp may be memory
            folder = Path(name)
            urls = (f"https://images.example/{n:08d}.jpg\n" for n in range(rows))
            (folder / "urls.csv").write_text("url\n" + "".join(urls))
            job = {
                "manifest": {"path": "urls.csv"},
                "images": {"send": "url"},
                **({"endpoints": [endpoint] * endpoints} if endpoints else {"endpoint": endpoint}),
                "quota": {"concurrency": workers} | ({"requests_per_minute": pace} if pace else {}),
                "packing": {"images_per_request": packs},
            }
            (folder / "job.yaml").write_text(json.dumps(job))
            run = ["-m", "pipeline", "run", "job.yaml", "--yes"]
            return spent(run, self.builds[build], folder, self.noted)

    def help(self, build: str) -> Run:
        """`--help`."""
        return spent(["-m", "pipeline", "--help"], self.builds[build], HERE)

    def raw(self, rows: int, workers: int = 64, pace: int = 0) -> Run:
        """The raw loop."""
        loop = [str(HERE / "wire.py"), "raw", self.base, str(rows), str(workers), str(pace)]
        return spent(loop, self.builds["this"], HERE)

    def to_earlier(self, take: Callable[[str], float], rounds: int) -> float:
        """The median of a figure, this build's to the earlier one's."""
        return statistics.median([take("this") / take("earlier") for _ in range(rounds)])

    def to_raw(
        self,
        rows: int,
        rounds: int,
        *,
        workers: int,
        packs: int = 1,
        pace: int = 0,
        wall: bool = False,
    ) -> float:
        """The median of what a row costs, ours to a request of the raw loop; start-up taken out."""

        def each(run: Callable[[int], Run]) -> float:
            few, many = run(FEW), run(FEW + rows)
            return (many.wall - few.wall if wall else many.cpu - few.cpu) / rows

        def ratio() -> float:
            ours = each(lambda n: self.job("this", n, workers, packs, pace))
            return ours / each(lambda n: self.raw(n, workers, pace))

        return statistics.median([ratio() for _ in range(rounds)])

    def routed(self, endpoints: int, rows: int, rounds: int, packs: int = 1) -> float:
        """The median of what a row costs through a list of endpoints, to one without a list; in both
        64 requests are under way at most."""

        def each(listed: int) -> float:
            at_once = 64 // max(1, listed)
            few, many = (
                self.job("this", n, at_once, packs, endpoints=listed) for n in (FEW, FEW + rows)
            )
            return many.cpu - few.cpu

        return statistics.median([each(endpoints) / each(0) for _ in range(rounds)])


def lines(bench: Bench, rounds: int, ci: bool) -> Iterator[tuple[str, float]]:
    """Each line of the table, as it is measured."""
    rows = 1_000 if ci else 5_000
    job, to_earlier, to_raw = bench.job, bench.to_earlier, bench.to_raw
    yield "CPU of a job of 1 row", to_earlier(lambda b: job(b, 1).cpu, rounds)
    yield "CPU of a job of 100 rows", to_earlier(lambda b: job(b, 100).cpu, rounds)
    yield "CPU of --help", to_earlier(lambda b: bench.help(b).cpu, rounds)
    yield "peak memory, 100 rows", to_earlier(lambda b: job(b, 100).memory, 1)
    yield "bytes written a caption", to_earlier(lambda b: job(b, rows).written, 1)
    if ci:
        return
    yield "start to first request", to_earlier(lambda b: job(b, 1).first, rounds)
    yield "last answer to exit", to_earlier(lambda b: job(b, rows).last, rounds)
    yield "CPU a request at 64, to raw", to_raw(rows, rounds, workers=64)
    yield "CPU a request at 256, to raw", to_raw(rows, rounds, workers=256)
    yield "time of a lone request, to raw", to_raw(500, rounds, workers=1, wall=True)
    yield "CPU a request at 10 a second, to raw", to_raw(200, rounds, workers=8, pace=600)
    yield "CPU a caption in packs of 32, to raw", to_raw(rows * 4, rounds, workers=64, packs=32)
    yield "CPU a request, a list of 1 to no list", bench.routed(1, rows, rounds)
    yield "CPU a request, a list of 4 to no list", bench.routed(4, rows, rounds)
    yield "CPU a caption in packs of 32, the same", bench.routed(4, rows * 4, rounds, packs=32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ci", action="store_true")
    asked = parser.parse_args()
    commit = ["git", "cat-file", "-e", f"{EARLIER}^{{commit}}"]
    if subprocess.run(commit, cwd=HERE, stderr=subprocess.DEVNULL).returncode:
        print(f"commit {EARLIER} is not in this checkout: nothing to compare with")
        return
    above = []
    with earlier() as old, tempfile.TemporaryDirectory() as name:
        noted = Path(name) / "noted"
        with service(WIRE_NOTED=str(noted)) as base:
            bench = Bench(base, {"this": HERE.parent, "earlier": old}, noted)
            for build in bench.builds:
                bench.job(build, 1)  # compiles it
            for line, ratio in lines(bench, asked.rounds, asked.ci):
                reached = REACHED.get(line)
                print(f"{line:40} {ratio:5.2f}   reached {reached}", flush=True)
                if asked.ci and reached is not None and ratio > 1.25 * reached:
                    above.append(line)
    if above:
        raise SystemExit(f"above 1.25 times what was reached: {', '.join(above)}")


if __name__ == "__main__":
    main()
