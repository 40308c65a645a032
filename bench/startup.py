"""What a command costs before it does anything: its imports, the job file, the way out.

    python bench/startup.py [--rounds R]

Beside them the interpreter alone, and the interpreter with the libraries that a run cannot do
without. Medians, turn by turn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from overhead import spent
from scale import make_job, make_manifest, make_output

#: Rows of the finished job that `run` and `status` look at.
ROWS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_manifest(folder, ROWS)
        job = make_job(folder, "http://127.0.0.1:9/v1", "manifest.parquet").name
        make_output(folder, folder / job, ROWS)
        ours = ["-m", "pipeline"]
        commands = {
            "python alone": ["-c", "pass"],
            "aiohttp and pyarrow imported": ["-c", "import aiohttp, pyarrow.parquet"],
            "--help": [*ours, "--help"],
            "schema": [*ours, "schema"],
            "status": [*ours, "status", job],
            "run, nothing left": [*ours, "run", job, "--quiet"],
        }
        took: dict[str, list[tuple[float, float]]] = {}
        for _ in range(asked.rounds):
            for words, arguments in commands.items():
                took.setdefault(words, []).append(spent([sys.executable, *arguments], folder))
        base = statistics.median(cpu for cpu, _ in took["aiohttp and pyarrow imported"])
        for words, runs in took.items():
            cpu, wall = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{words:30} {cpu:5.2f} s CPU, {wall:5.2f} s; {cpu / base:.2f} x the imports")


if __name__ == "__main__":
    main()
