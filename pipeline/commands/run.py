"""`run`, from the opened job to the exit code: selection, work, dataset, summary."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.captioning import metrics
from pipeline.captioning.checked import ASKS
from pipeline.captioning.counters import RunCounters
from pipeline.captioning.inputs import (
    Environment,
    JobInputs,
    inspect_job,
    settings_flag,
    this_environment,
    under,
)
from pipeline.captioning.interpret import checks_of, deriving
from pipeline.captioning.output_location import refuse_strangers, shared, state_folder
from pipeline.captioning.run import run_job
from pipeline.captioning.second import read_pending
from pipeline.captioning.select import (
    Counts,
    Selection,
    Selector,
    asks_again,
    count,
    open_selection,
)
from pipeline.captioning.wiring import RunContext, open_run
from pipeline.commands import failures, notify, outcome, pilot
from pipeline.commands import model_selection as choice
from pipeline.commands.dataset import is_due, update_dataset
from pipeline.commands.finished import files_may_change, mark_of, read_finished, write_finished
from pipeline.commands.logs import logging_to
from pipeline.commands.machine_jobs import append_job
from pipeline.commands.rates import rates_of
from pipeline.commands.recheck import recheck
from pipeline.commands.recipes import check_identity, check_recipe
from pipeline.commands.rejected import with_rejected
from pipeline.commands.run_report import RunReport
from pipeline.commands.signals import StopSignals
from pipeline.distributed.join import join_shards, refuse_unjoined
from pipeline.distributed.shard import as_shard
from pipeline.errors import Exit, ManifestError, PipelineError, StopReason, stop_reason_of
from pipeline.model import Record
from pipeline.store.redo import failed_under_others
from pipeline.store.store import open_checkpoint

if TYPE_CHECKING:
    from pipeline.captioning.options import RunOptions
    from pipeline.captioning.pack_sizes import Packing
    from pipeline.config.job import JobConfig
    from pipeline.packsize.limits import PackLimits
    from pipeline.store.store import Checkpoint

_SIGNALS = (Exit.SIGINT, Exit.SIGTERM, Exit.SIGHUP)
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
        decisive = report.decisive(error)
        summary = report.failed(decisive)
        if options.json:
            print(json.dumps(summary))  # noqa: T201 - the command's result
        raise decisive from None
    if options.json:
        print(json.dumps(summary))  # noqa: T201 - the command's result
    elif summary.get("pilot"):
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
    shard = None
    if options.shard is not None:
        shard = await asyncio.to_thread(as_shard, job, options.shard, environment)
        job, environment = shard.job, shard.environment
    clock = environment.clock
    report = report or RunReport(job.name, job.output.shown, clock)
    run_id = report.run_id
    inputs = await asyncio.to_thread(inspect_job, job, environment.environ)
    if shard is not None:
        inputs = replace(inputs, elsewhere=shard.elsewhere)
    elif not options.join:
        await asyncio.to_thread(refuse_unjoined, job)
    if options.retry_rejected:
        options = await asyncio.to_thread(with_rejected, options, inputs.output)
    await asyncio.to_thread(refuse_strangers, inputs.output)
    counters = report.counters
    reason: StopReason | None = None
    worked: Worked | None = None
    min_free = job.run.min_free
    async with open_checkpoint(
        inputs.output,
        derive=deriving(job),
        clock=clock,
        min_free=min_free,
        store=await asyncio.to_thread(shared, job),
        take_over=options.take_over,
    ) as checkpoint:
        report.folder = inputs.output
        logs, as_json = inputs.output / "_state" / "logs", job.run.log_format == "json"
        with logging_to(logs, run_id, environment, inputs.keys, as_json=as_json):
            if choice.is_auto(job):
                job = await choice.pin(job, environment, yes=options.yes)
                inputs = under(job, inputs, chosen=True)
            if shard is not None:
                checkpoint.know(shard.recorded)
                if shard.warning is not None:
                    _log.warning("%s", shard.warning)
            if options.join:
                await join_shards(job, checkpoint, environment.clock, take_over=options.take_over)
            selection, pending = await _select(job, inputs, checkpoint, options, environment)
            counts = selection.counts
            counters.rows, counters.images = counts.rows, counts.images
            counters.captioned, counters.failed = counts.captioned, dict(counts.failed)
            try:
                if counts.asked and not options.join and await selection.begin():
                    _log.info("%s", outcome.opening(job, counts, inputs.manifest.image))
                    doors = open_run(
                        job,
                        inputs,
                        checkpoint,
                        selection,
                        counters,
                        run_id=run_id,
                        environment=environment,
                        hurry=(hurry := asyncio.Event()),
                        pilot=options.pilot is not None,
                        pending=pending,
                    )
                    worked = await _work(doors, inputs, hurry, report.signals)
                    reason = worked.reason
                elif not counts.exact:
                    counters.correct(counts, selection.seen)
                    counts = selection.seen
                    _log.info("%s", outcome.opening(job, counts, inputs.manifest.image))
                else:
                    _log.info("%s", outcome.opening(job, counts, inputs.manifest.image))
            except (PipelineError, OSError, ExceptionGroup) as error:
                reason = stop_reason_of(error, inputs.output)
                report.cause = error
                if reason.exit is Exit.BUG:
                    raise
            finally:
                await selection.close()
                await checkpoint.finish()
            if not counts.exact or inputs.naming.contents is not None:
                await _count_exactly(inputs, checkpoint, selection, counters, reason)
            report.signals.finishing()
            checkpoint.settled_all()
            changed = reason is not None and reason.exit is Exit.MANIFEST
            if job.output.dataset and not changed and is_due(inputs.output, counters):
                try:
                    asked = bool(counts.asked)
                    dataset = await update_dataset(job, inputs, counters, asked=asked)
                    report.dataset = f"{job.output.shown}/dataset.parquet"
                except (ManifestError, OSError) as error:
                    reason = reason or stop_reason_of(error, inputs.output)
            listed = not changed and await asyncio.to_thread(failures.write_failures, inputs.output)
            await checkpoint.finish()
            part_only = options.limit is not None or options.pilot is not None
            if reason is None and not counters.left:
                await _note_finished(inputs, checkpoint, counters)
            allowed = job.run.failures_allowed(counters.images)
            if report.signals.reason is not None and (reason is None or reason.exit is Exit.LATER):
                reason = report.signals.reason
            reason = reason or outcome.unfinished(counters, max_failed=allowed, limited=part_only)
            code = outcome.exit_code(counters, reason, max_failed=allowed)
            report.quota = quota = worked.quota if worked else {}
            summary = report.summary(code, reason)
            if options.pilot is not None and worked is not None:
                sample = pilot.Sample(
                    packing=worked.packing,
                    limits=worked.limits,
                    records=pilot.records_of_run(inputs.output, run_id),
                    requests=counters.requests,
                    left=counters.left,
                    daily=quota.get("limit"),
                    seconds=report.seconds,
                )
                summary["pilot"] = expected = pilot.expect(sample)
                page = await asyncio.to_thread(pilot.write, inputs.output, expected, sample)
                _log.info("pilot: pictures and captions side by side: %s", page)
            await asyncio.to_thread(report.append, summary)
            await asyncio.to_thread(append_job, state_folder(environment.environ), summary)
            metrics.update(
                job.run.metrics, job.name, counters, quota, now=clock.now(), exit_code=int(code)
            )
            each = None
            if worked is not None and reason is not None:
                size, model = worked.packing.size, job.endpoint.model
                rates = await asyncio.to_thread(rates_of, inputs.output, model, size)
                # A run that asked nothing has measured nothing.
                each = rates.each if rates is not None else None
                each = each or (None if counters.requests else float(size))
            _log.info(
                "%s",
                outcome.headline(
                    counters,
                    reason,
                    dataset=report.dataset and dataset,
                    asked=counts.asked,
                    quota=quota,
                    each=each,
                    failures=f"{job.output.shown}/{failures.NAME}" if listed else None,
                ),
            )
    return summary


async def _select(
    job: JobConfig,
    inputs: JobInputs,
    checkpoint: Checkpoint,
    options: RunOptions,
    environment: Environment,
) -> tuple[Selection, Mapping[str, Record]]:
    """What is to be asked, and the records that wait for a second answer. JobError (78) when an output with captions would be asked anew."""
    redo = await checkpoint.redo_keys(options.chosen)
    if options.chosen is not None:
        _log.info("%s records match and are asked again", f"{len(redo):,}")
    await checkpoint.finish()  # what follows looks at published parts
    if rechecked := await recheck(job, inputs.output, inputs.naming.recipes, checkpoint):
        _log.info("checks have changed: %s records derived again, none asked", f"{rechecked:,}")
    pending = dict[str, Record]()
    if job.reply.fields or not ASKS.isdisjoint(checks_of(job).actions.values()):
        waiting = await asyncio.to_thread(read_pending, inputs.output, inputs.naming.recipes)
        pending = {key: record for key, record in waiting.items() if key not in redo}
    flag = settings_flag(job, inputs.manifest)
    mended = await asyncio.to_thread(failed_under_others, inputs.output, flag)
    mark = await mark_of(inputs, checkpoint)
    counts = options.chosen is not None or bool(pending) or bool(mended)
    if mark is not None and not counts and not files_may_change(inputs):
        noted = await asyncio.to_thread(read_finished, inputs.output / "_state", mark)
        again = asks_again(options)
        if noted is not None and not any(again("", code) for code in noted.failed):
            selector = Selector(inputs.naming, checkpoint.state, again, elsewhere=inputs.elsewhere)
            return Selection(noted, selector, inputs.manifest), pending
    if inputs.naming.versions is not None:
        await asyncio.to_thread(inputs.naming.versions.reconcile, inputs.output)
    again = asks_again(options, redo, pending, mended)
    selection = await open_selection(inputs, checkpoint, options, again, environment.rng)
    if selection.counts.images and checkpoint.captioned and not options.yes:
        await asyncio.to_thread(check_recipe, job, inputs, selection.counts)
        if selection.counts.asked:
            await asyncio.to_thread(check_identity, inputs, checkpoint.state)
    return selection, pending


async def _count_exactly(
    inputs: JobInputs,
    checkpoint: Checkpoint,
    selection: Selection,
    counters: RunCounters,
    reason: StopReason | None,
) -> None:
    """Replace the estimates of a long manifest, unless the run has to end now."""
    if selection.complete and inputs.naming.contents is None:
        counters.correct(selection.counts, selection.seen)
    elif reason is None or reason.exit not in (*_SIGNALS, Exit.MANIFEST):
        selector = Selector(
            inputs.naming,
            checkpoint.state,
            lambda _key, _state: False,
            elsewhere=inputs.elsewhere,
        )
        try:
            counts = await asyncio.to_thread(count, inputs.manifest.batches(), selector, limit=None)
        except ManifestError:
            return  # the dataset says so
        assert counts is not None
        counters.rows, counters.images = counts.rows, counts.images
        counters.captioned, counters.failed = counts.captioned, dict(counts.failed)
        if selector.outdated:
            await checkpoint.withdraw(sorted(selector.outdated))
            await checkpoint.finish()


async def _note_finished(inputs: JobInputs, checkpoint: Checkpoint, counters: RunCounters) -> None:
    mark = await mark_of(inputs, checkpoint)
    if mark is not None:
        counts = Counts(
            rows=counters.rows,
            images=counters.images,
            captioned=counters.captioned,
            failed=dict(counters.failed),
        )
        await asyncio.to_thread(write_finished, inputs.output / "_state", mark, counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What asking came to."""

    #: Why it ended early, if it did.
    reason: StopReason | None
    #: The quota as it stands.
    quota: Mapping[str, Any]
    packing: Packing
    limits: PackLimits


async def _work(
    doors: AbstractAsyncContextManager[RunContext],
    inputs: JobInputs,
    hurry: asyncio.Event,
    record_result: StopSignals,
) -> Worked:
    """Ask what is left."""
    async with doors as opened:
        gate, packing = opened.gate, opened.captioner.packing
        with record_result.draining(gate, hurry):
            try:
                await run_job(opened)
            finally:
                model = opened.job.endpoint.model
                try:
                    await asyncio.to_thread(packing.keep, inputs.output, model)
                except OSError as error:
                    _log.warning("what was measured of packs is not kept (%s)", error)
        if (compared := packing.compared()) is not None:
            _log.log(logging.WARNING if compared.worse else logging.INFO, "%s", compared.message())
        return Worked(
            reason=gate.reason,
            quota=outcome.quota_of(gate.snapshot()),
            packing=packing,
            limits=opened.limits,
        )


__all__ = ["run", "run_command"]
