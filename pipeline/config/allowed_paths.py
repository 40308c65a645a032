"""Where a job may write: a job file may come from a stranger.

Below the job file's folder and the current one, or into a folder that is there already; and
never over a file that this program did not write.
"""

from __future__ import annotations

import os
from pathlib import Path

#: A metrics file of ours begins with this.
METRICS_BEGIN = b"# HELP caption_pipeline_"


def output_trouble(output: str, job: Path) -> str | None:
    """What is wrong with an output folder, if anything."""
    if "://" in output:
        return None
    return _outside(output, job, "folder")


def metrics_trouble(metrics: str, job: Path) -> str | None:
    """What is wrong with a metrics file, if anything."""
    if not may_replace(Path(metrics)):
        return f"{metrics}: there is another file, which is never written over; choose a new name"
    return _outside(metrics, job, "file")


def may_replace(path: Path) -> bool:
    """Is there nothing, or a metrics file of ours, or an empty one?"""
    try:
        if not path.is_file():
            return not os.path.lexists(path)
        with path.open("rb") as file:
            return file.read(len(METRICS_BEGIN)) in (b"", METRICS_BEGIN)
    except OSError:
        return False


def _outside(text: str, job: Path, what: str) -> str | None:
    path = Path(os.path.realpath(text))
    inside = (Path(os.path.realpath(job.parent)), Path(os.path.realpath(".")))
    if any(path.is_relative_to(folder) for folder in inside) or path.parent.is_dir():
        return None
    there = next((folder for folder in path.parents if folder.exists()), None)
    if there is not None and not there.is_dir():
        return None  # whoever writes says what is wrong
    return (
        f"{path.parent}: there is no such folder, and outside of the job file's own none is made "
        f"for a {what}; make it first"
    )


__all__ = ["METRICS_BEGIN", "may_replace", "metrics_trouble", "output_trouble"]
