"""Where `run` happens: in this process, or in shards on Ray, whose modules only such a job loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.captioning.options import RunOptions
    from pipeline.config.job import JobConfig


def goes_to_ray(job: JobConfig, options: RunOptions) -> bool:
    """A shard of a job on Ray, and the join, are one process's work."""
    return job.run.engine == "ray" and options.shard is None and not options.join


def run_with_engine(job: JobConfig, options: RunOptions, environ: Mapping[str, str]) -> int:
    """Run a job; returns the exit code."""
    if goes_to_ray(job, options):
        from pipeline.commands.ray_engine import run_on_ray

        return run_on_ray(job, options, environ)
    from pipeline.commands.run import run_command

    return run_command(job, options, environ)
