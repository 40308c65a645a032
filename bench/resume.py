"""What is left of 10 million rows when 9 million are settled: seconds and memory.

    python bench/resume.py [ROWS]

Makes a manifest and the published parts of a run that got nine tenths of the way (every record
column, 10,000 a part), then measures `manifest.sql.left` over this process and its child. The
promise is 10 s and 700 MB at 10 million rows.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.manifest.open import open_manifest
from pipeline.manifest.settings import ManifestSettings
from pipeline.manifest.sql import left
from pipeline.plan.prompt import compile_prompt
from pipeline.plan.settings import PromptSettings
from pipeline.schema import RECORDS
from pipeline.stories.keys import keyed
from pipeline.stories.survey import Naming

PART = 10_000
RECIPE = "0123456789abcdef"


def make(folder: Path, rows: int) -> tuple[Path, Path]:
    """The manifest and nine tenths of its records, made by Python's own hashing."""
    manifest, parts = folder / "manifest.parquet", folder / "captions"
    parts.mkdir()
    prompt = PromptSettings().text
    ids = pa.array(range(rows))
    urls = pc.binary_join_element_wise(
        "https://img.example.com/", pc.cast(ids, pa.string()), ".jpg", ""
    )
    pq.write_table(pa.table({"id": ids, "url": urls}), manifest, compression="zstd")
    for part in range(rows * 9 // 10 // PART):
        cut = urls.slice(part * PART, PART).to_pylist()
        keys = [
            hashlib.sha256(f"v1\n{RECIPE}\nurl:{url}\n{prompt}".encode()).hexdigest()[:32]
            for url in cut
        ]
        columns = {field.name: pa.nulls(PART, field.type) for field in RECORDS}
        columns |= {
            "key": pa.array(keys),
            "image": pa.array(cut),
            "status": pa.array(["ok"] * PART),
            "caption": pa.array([f"A caption of {url}, some words long." for url in cut]),
        }
        table = pa.table(columns)
        pq.write_table(table, parts / f"{part:08d}.parquet", compression="zstd")
    return manifest, parts


class Peak(threading.Thread):
    """The largest sum of resident memory over this process and its children, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = self.own = 0
        self.done = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.done.wait(0.02):
            try:
                held = [p.memory_info().rss for p in (me, *me.children(recursive=True))]
            except psutil.NoSuchProcess:
                continue
            self.bytes, self.own = max(self.bytes, sum(held)), max(self.own, held[0])


def main() -> None:
    """Make, measure, print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, _ = make(folder, rows)
        pa.default_memory_pool().release_unused()
        opened = open_manifest(ManifestSettings(path=str(manifest)))
        naming = Naming(
            recipe=RECIPE, prompt=compile_prompt(PromptSettings()), system=None, identity="auto"
        )
        keyed_rows = keyed(opened, naming, folder)
        assert keyed_rows is not None
        peak = Peak()
        peak.start()
        began = time.perf_counter()
        found = left(keyed_rows)
        seconds = time.perf_counter() - began
        peak.done.set()
        peak.join()
    assert found.rows == rows
    assert found.asked == rows - found.captioned == rows - rows * 9 // 10 // PART * PART
    print(
        f"{rows:,} rows, {found.captioned:,} settled: {found.asked:,} left in {seconds:.1f} s, "
        f"peak {peak.bytes / 1e6:.0f} MB in all processes ({peak.own / 1e6:.0f} MB here)"
    )


if __name__ == "__main__":
    main()
