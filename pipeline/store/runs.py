"""`_state/runs.jsonl`: one summary a run, one line each, synced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline import fs
from pipeline.store.shards import outputs_of, shard_folders

#: What a line needs to be a summary.
_ALWAYS = {"run_id", "exit_code", "reason", "images", "captioned", "left", "resume_after"}


def append_run(output: Path, summary: dict[str, Any]) -> None:
    """Add a run's summary. A line torn by a crash is ended first."""
    path = output / "_state" / "runs.jsonl"
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, fs.PRIVATE_FILE)
    try:
        size = os.fstat(fd).st_size
        torn = size and os.pread(fd, 1, size - 1) != b"\n"
        fs.write_all(fd, (b"\n" if torn else b"") + json.dumps(summary).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    if not size:
        fs.sync_dir(path.parent)


def read_runs(output: Path) -> list[dict[str, Any]]:
    """All summaries, those of shards included, oldest first; torn and foreign lines are passed
    over."""
    runs = [run for folder in outputs_of(output) for run in _read_runs(folder)]
    return sorted(runs, key=lambda run: str(run["run_id"])) if shard_folders(output) else runs


def _read_runs(output: Path) -> list[dict[str, Any]]:
    try:
        text = (output / "_state" / "runs.jsonl").read_text("utf-8", "replace")
    except OSError:
        return []
    runs: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        if isinstance(run, dict) and run.keys() >= _ALWAYS:
            runs.append(run)
    return runs
