"""A small job file to spoil, and what loading it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config.job import JobConfig, load_job
from pipeline.errors import PipelineError

#: The smallest job there is; what tests add begins on line 2.
BASE = "manifest: {path: images.csv}\n"


def write(folder: Path, more: str = "") -> Path:
    """A job file of one line, and these."""
    path = folder / "job.yaml"
    path.write_text(BASE + more)
    return path


def load(
    folder: Path, more: str = "", sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> JobConfig:
    """Write and load it."""
    return load_job(write(folder, more), sets, environ or {})


def refused(
    folder: Path, more: str = "", sets: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """(exit code, words) of a job that must not load; the path is shown as `job.yaml`."""
    try:
        job = load(folder, more, sets, environ)
    except PipelineError as error:
        return int(error.exit_code), str(error).replace(str(folder / "job.yaml"), "job.yaml")
    raise AssertionError(f"was not refused: {job!r}")
