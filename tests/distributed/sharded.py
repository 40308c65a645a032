"""A sharded output with work for every way into the main one, to copy and to break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.command import pipeline, simulator, write_job
from tests.support.pictures import picture

#: Pictures of the first round, and of the second.
FIRST, SECOND = 6, 10
#: Rows of the manifest with so many pictures.
ROWS = {FIRST: 14, SECOND: 22}


def unjoined(folder: Path) -> Path:
    """The job of an output that is joined once, and of whose shards then one asked the failure
    again, and both asked new pictures. What runs it is `on`."""
    (folder / "images").mkdir(parents=True)
    table, gone = folder / "table.parquet", folder / "images/1.png"
    env = {"CAPTION_PIPELINE_STATE": str(folder / "state")}
    with simulator(folder) as server:
        job = write_job(folder, server.base, table)
        for pictures in (FIRST, SECOND):
            for number in range(pictures):
                (folder / f"images/{number}.png").write_bytes(picture(number, form="PNG"))
            if pictures == FIRST:
                gone.unlink()
            names = [f"images/{at // 2 % pictures}.png" for at in range(ROWS[pictures])]
            pq.write_table(pa.table({"image": names}), table, row_group_size=4)
            for shard in ("0/2", "1/2"):
                ended = pipeline("run", job, "--shard", shard, "--retry-failed", env=env)
                assert ended.code in (0, 1), ended.err
            if pictures == FIRST:
                assert pipeline("run", job, "--join", env=env).code == 1
    return job


def on(job: Path, folder: Path) -> list[object]:
    """Options that run the job on a copy of its output, which is made here."""
    output = folder / "out"
    if not output.exists():
        shutil.copytree(job.parent / "out", output)
    return [job, "--set", f"output.path={output}"]
