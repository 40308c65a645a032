"""`run`, from the opened job to the exit code: selection, work, dataset, summary."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.captioning.inputs import (
    Environment,
    inspect_job,
    this_environment,
    under,
)
from pipeline.captioning.interpret import deriving
from pipeline.captioning.output_location import refuse_strangers, refuse_unjoined, shared
from pipeline.commands import model_selection as choice
from pipeline.commands import notify, outcome
from pipeline.commands.logs import logging_to
from pipeline.commands.run_asking import ask
from pipeline.commands.run_report import RunReport
from pipeline.commands.run_results import write_results
from pipeline.commands.run_selection import OpenedJob, select
from pipeline.errors import StopReason
from pipeline.store.store import open_checkpoint

if TYPE_CHECKING:
    from pipeline.captioning.options import RunOptions
    from pipeline.config.job import JobConfig

_log = logging.getLogger("pipeline")


def run_command(job: JobConfig, options: RunOptions, environ: Mapping[str, str]) -> int:
    """Run a job; returns the exit code. PipelineError for what ends it before it begins."""
    environment = this_environment(environ, None if options.quiet else sys.stderr)
    report = RunReport(job.name, job.output.shown, environment.clock)
    try:
        with (
            report.signals.installed(partial(_forced, report, options)),
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):
            summary = runner.run(announced(job, options, environment, report))
    except BaseException as error:  # noqa: BLE001 - each ending has its summary
        decisive, summary = report.failed(error)
        if options.json:
            print(json.dumps(summary))  # noqa: T201 - the command's result
        raise decisive from None
    if options.json:
        print(json.dumps(summary))  # noqa: T201 - the command's result
    elif summary.get("pilot"):
        from pipeline.commands import pilot

        print("\n".join(pilot.lines(summary["pilot"])))  # noqa: T201 - the command's result
    return int(summary["exit_code"])


def _forced(report: RunReport, options: RunOptions, reason: StopReason) -> None:
    """Say how a run ended that a second signal ends now."""
    summary = report.summary(reason.exit, reason)
    print(f"caption-pipeline: {reason.message}", file=sys.stderr)  # noqa: T201 - the last line
    if options.json:
        print(json.dumps(summary), flush=True)  # noqa: T201 - the command's result
    with suppress(OSError):
        report.append(summary)


def loop_factory() -> Any:
    """uvloop where it is installed: about a third less CPU a request."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def announced(
    job: JobConfig, options: RunOptions, environment: Environment, report: RunReport
) -> dict[str, Any]:
    """`run`, with `notify.url` told of its start and its end."""
    url = job.notify.url
    await notify.ping(url, "start")
    try:
        summary = await run(job, options, environment, report)
    except BaseException as error:
        # What goes out holds no key: one_line takes out what looks like one.
        await notify.ping(url, "fail", str(error) or type(error).__name__)
        raise
    await notify.ping(url, notify.ending(summary["exit_code"]), outcome.in_short(summary))
    return summary


async def run(
    job: JobConfig, options: RunOptions, environment: Environment, report: RunReport | None = None
) -> dict[str, Any]:
    """One run in a world that is given; returns the summary."""
    report = report or RunReport(job.name, job.output.shown, environment.clock)
    async with _opened(job, options, environment, report) as opened:
        asked = await ask(opened, *await select(opened))
        return await write_results(opened, asked)


async def run_if_settled(
    job: JobConfig, options: RunOptions, environment: Environment, report: RunReport
) -> dict[str, Any] | None:
    """`run` where it has nothing to ask; None where it has, and then it is left to others."""
    async with _opened(job, options, environment, report) as opened:
        selection, pending = await select(opened)
        if selection.counts.asked and await selection.begin():
            await selection.close()
            return None
        return await write_results(opened, await ask(opened, selection, pending))


@asynccontextmanager
async def _opened(
    job: JobConfig, options: RunOptions, environment: Environment, report: RunReport
) -> AsyncIterator[OpenedJob]:
    """The job, or the shard of it that the options name, with its output locked and recovered."""
    shard = None
    if options.shard is not None:
        from pipeline.distributed.shard import as_shard

        shard = await asyncio.to_thread(as_shard, job, options.shard, environment)
        job, environment = shard.job, shard.environment
    inputs = await asyncio.to_thread(inspect_job, job, environment.environ)
    if shard is not None:
        inputs = replace(inputs, elsewhere=shard.elsewhere)
    elif not options.join:
        await asyncio.to_thread(refuse_unjoined, job)
    if options.retry_rejected:
        from pipeline.commands.rejected import with_rejected

        options = await asyncio.to_thread(with_rejected, options, inputs.output)
    await asyncio.to_thread(refuse_strangers, inputs.output)
    async with open_checkpoint(
        inputs.output,
        derive=deriving(job),
        clock=environment.clock,
        min_free=job.run.min_free,
        store=await asyncio.to_thread(shared, job),
        take_over=options.take_over,
    ) as checkpoint:
        report.folder = inputs.output
        logs, as_json = inputs.output / "_state" / "logs", job.run.log_format == "json"
        with logging_to(logs, report.run_id, environment, inputs.keys, as_json=as_json):
            if choice.is_auto(job):
                job = await choice.pin(job, environment, yes=options.yes)
                inputs = under(job, inputs, chosen=True)
            if shard is not None:
                checkpoint.know(shard.recorded)
                if shard.warning is not None:
                    _log.warning("%s", shard.warning)
            if options.join:
                from pipeline.distributed.join import join_shards

                await join_shards(job, checkpoint, environment.clock, take_over=options.take_over)
            yield OpenedJob(
                job=job,
                options=options,
                environment=environment,
                inputs=inputs,
                checkpoint=checkpoint,
                report=report,
            )


__all__ = ["run", "run_command", "run_if_settled"]
