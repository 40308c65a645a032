"""`jobs.jsonl` in the state folder: what each run of this machine came to, for reports.

A convenience beside each output's own `runs.jsonl`; nothing is recovered from it, and a run whose
line cannot be written is a run all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import fs

NAME = "jobs.jsonl"
#: Jobs that a report lists.
MOST = 20


def append_job(state: Path, summary: Mapping[str, Any]) -> None:
    """Add a run's line."""
    tokens = (summary["prompt_tokens"] or 0) + (summary["completion_tokens"] or 0)
    line = {name: summary[name] for name in ("run_id", "job", "output", "captioned", "requests")}
    data = json.dumps({**line, "tokens": tokens}).encode() + b"\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError):
        fs.make_private_dir(state)
        fd = os.open(state / NAME, flags, fs.PRIVATE_FILE)
        try:
            fs.write_all(fd, data)
        finally:
            os.close(fd)


def read_jobs(state: Path) -> list[tuple[str, int, int, int]]:
    """(job, captions, requests, tokens) of each output, most tokens first; torn lines are left out."""
    try:
        lines = (state / NAME).read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    jobs: dict[tuple[str, str], tuple[int, int, int]] = {}
    for line in lines:
        try:
            run = json.loads(line)
            output = str(run["job"]), str(run["output"])
            _, requests, tokens = jobs.get(output, (0, 0, 0))
            counts = requests + int(run["requests"]), tokens + int(run["tokens"])
            jobs[output] = int(run["captioned"]), *counts
        except (ValueError, KeyError, TypeError):
            continue
    listed = [(name, *counts) for (name, _), counts in jobs.items()]
    return sorted(listed, key=lambda row: -row[3])[:MOST]
