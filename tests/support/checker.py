"""One checker for all fault tests: what must hold of an output, whatever happened to it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from pipeline.store.verify import check_output


def published(output: Path) -> dict[str, dict[str, object]]:
    """key -> record over both folders, as any reader globs them; fails on a key met twice."""
    found: dict[str, dict[str, object]] = {}
    for folder in ("captions", "failures"):
        for path in sorted((output / folder).glob("*.parquet")):
            for row in pq.read_table(path).to_pylist():
                assert row["key"] not in found, f"{row['key']} stands twice"
                found[row["key"]] = row
    return found


def check_whole(output: Path) -> dict[str, dict[str, object]]:
    """After a finished run: every promise that the disk can tell about holds."""
    findings = check_output(output)
    assert not findings, findings
    return published(output)
