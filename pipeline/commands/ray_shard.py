"""One shard of a job, in a worker of Ray: the same `run --shard`, with the quota actor's gate."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import fs
from pipeline.captioning.inputs import this_environment
from pipeline.commands.run import loop_factory, run
from pipeline.commands.run_report import RunReport
from pipeline.config.job import environment
from pipeline.distributed.plan import NAME
from pipeline.distributed.ray_cluster import RemoteQuota
from pipeline.distributed.remote_gate import RemoteOpener
from pipeline.errors import Exit, OutputError, StopReason
from pipeline.store.shards import SHARDS

if TYPE_CHECKING:
    from pipeline.captioning.options import RunOptions
    from pipeline.config.job import JobConfig


def run_shard(
    job: JobConfig, options: RunOptions, worker: str, quota: RemoteQuota, folder: str, mark: str
) -> dict[str, Any]:
    """The summary, whatever ended it; only what ends the process gives none. folder: where the driver
    runs; its `.env` and relative paths are this machine's; mark: of the driver's plan."""
    os.chdir(folder)
    opener = RemoteOpener(
        quota,
        worker,
        job.quota,
        output=str(Path(job.output.path).absolute()),
        shards=job.run.shards,
        timeout=job.endpoint.timeout,
    )
    surroundings = replace(this_environment(environment(os.environ, Path.cwd())), open_gate=opener)
    report = RunReport(job.name, job.output.shown, surroundings.clock)
    try:
        _see_plan(job, mark)
        with (
            report.signals.installed(partial(_forced, report)),
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):
            return runner.run(run(job, options, surroundings, report))
    except BaseException as error:  # noqa: BLE001 - each ending has its summary
        decisive, summary = report.failed(error)
        if summary["exit_code"] == Exit.BUG:
            raise decisive from None
        return summary


def _see_plan(job: JobConfig, mark: str) -> None:
    """OutputError unless the driver's output is seen here: what is asked into another one is never joined."""
    folder = Path(job.output.path) / SHARDS
    if fs.read_object(folder / NAME).get("mark") != mark:
        raise OutputError(
            f"{folder}: Ray's node {os.uname().nodename} does not see the driver's plan there: all nodes have to "
            "write into one output folder; without one, use --shard and --join"
        )


def _forced(report: RunReport, reason: StopReason) -> None:
    """A second signal ends the process: what is known goes into the shard's runs.jsonl."""
    report.append(report.summary(reason.exit, reason))


def key_digest(variable: str | None, salt: str, folder: str) -> str | None:
    """A hash of the key that this machine would use, or None: it has none. Never the key itself."""
    os.chdir(folder)
    key = environment(os.environ, Path.cwd()).get(variable or "")
    return hashlib.sha256(f"{salt}{key}".encode()).hexdigest() if key else None
