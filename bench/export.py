"""`export` and the dataset's join against plain pyarrow and json on the same records.

    python bench/export.py [--rows N] [--rounds R]

The plain loop reads the finished `dataset.parquet` and writes it in the other format: nothing is
joined, synced or renamed there. CPU is user + system of each process, start-up taken out by the
same over few rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from overhead import spent
from scale import make_job, make_manifest, make_output

FEW = 1_000
FORMATS = ("parquet", "jsonl", "csv")


def plain(dataset: str, dest: str) -> None:
    """What a script would do that wants the same file."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    table = pq.read_table(dataset)
    if dest.endswith("parquet"):
        pq.write_table(table, dest, compression="zstd")
    elif dest.endswith("csv"):
        at = table.schema.get_field_index("flags")
        pyarrow.csv.write_csv(table.remove_column(at), dest)
    else:
        with open(dest, "w") as file:
            for batch in table.to_batches():
                file.writelines(json.dumps(row, default=str) + "\n" for row in batch.to_pylist())


def settled(folder: Path, rows: int) -> Path:
    """A finished output over so many rows, with its dataset; returns the job file."""
    folder.mkdir()
    make_manifest(folder, rows)
    # Nothing is asked: the service is only a name.
    job = make_job(folder, "http://127.0.0.1:9/v1", "manifest.parquet")
    make_output(folder, job, rows)
    spent([sys.executable, "-m", "pipeline", "run", job.name, "--quiet"], folder)
    return job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.plain:
        plain(*asked.plain)
        return
    with tempfile.TemporaryDirectory() as name:
        jobs = {rows: settled(Path(name) / str(rows), rows) for rows in (FEW, asked.rows)}
        for format_ in FORMATS:
            cpu: dict[tuple[str, int], list[float]] = {}
            for _ in range(asked.rounds):
                for rows, job in jobs.items():
                    dest = f"export.{format_}"
                    ours = ["-m", "pipeline", "export", job.name, dest]
                    theirs = [
                        str(Path(__file__)),
                        "--plain",
                        "out/dataset.parquet",
                        f"plain.{format_}",
                    ]
                    for who, words in (("ours", ours), ("plain", theirs)):
                        took, _ = spent([sys.executable, *words], job.parent)
                        cpu.setdefault((who, rows), []).append(took)
            each = {
                who: (statistics.median(cpu[who, asked.rows]) - statistics.median(cpu[who, FEW]))
                / (asked.rows - FEW)
                for who in ("ours", "plain")
            }
            print(
                f"{format_:8} {each['ours'] * 1e6:6.1f} µs CPU a row, plain "
                f"{each['plain'] * 1e6:5.1f}; ratio {each['ours'] / each['plain']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
