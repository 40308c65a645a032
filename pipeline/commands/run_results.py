"""What a run leaves when the asking is over: dataset, list of failures, summary, last line."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning import metrics
from pipeline.captioning.columns import caption_words, columns_of
from pipeline.captioning.join import dataset_mark, is_stale, recipe_of, write_dataset
from pipeline.captioning.output_location import state_folder
from pipeline.captioning.view import view_of
from pipeline.commands import failures, outcome
from pipeline.commands.machine_jobs import append_job
from pipeline.commands.rates import rates_of
from pipeline.commands.run_selection import OpenedJob, note_finished
from pipeline.errors import Exit, ManifestError, StopReason, stop_reason_of
from pipeline.store.snapshot import record_batches

if TYPE_CHECKING:
    from pipeline.captioning.counters import RunCounters
    from pipeline.captioning.inputs import JobInputs
    from pipeline.commands.run_asking import Asked
    from pipeline.config.job import JobConfig

_log = logging.getLogger("pipeline")


async def write_results(opened: OpenedJob, asked: Asked) -> dict[str, Any]:
    """Write what stands beside the captions; returns the summary."""
    job, inputs, report = opened.job, opened.inputs, opened.report
    counters, reason, dataset = report.counters, asked.reason, None
    changed = reason is not None and reason.exit is Exit.MANIFEST
    if job.output.dataset and not changed and is_due(inputs.output, counters):
        try:
            dataset = await update_dataset(job, inputs, counters, asked=bool(asked.counts.asked))
            report.dataset = f"{job.output.shown}/dataset.parquet"
        except (ManifestError, OSError) as error:
            reason = reason or stop_reason_of(error, inputs.output)
    listed = not changed and await asyncio.to_thread(failures.write_failures, inputs.output)
    await opened.checkpoint.finish()
    if reason is None and not counters.left:
        await note_finished(opened)
    reason, code = _ending(opened, reason)
    report.quota = quota = asked.worked.quota if asked.worked else {}
    summary = report.summary(code, reason)
    if opened.options.pilot is not None and asked.worked is not None:
        summary["pilot"] = await _pilot_page(opened, asked)
    await asyncio.to_thread(report.append, summary)
    folder = state_folder(opened.environment.environ)
    await asyncio.to_thread(append_job, folder, summary)
    now = opened.environment.clock.now()
    metrics.update(job.run.metrics, job.name, counters, quota, now=now, exit_code=int(code))
    headline = outcome.headline(
        counters,
        reason,
        dataset=dataset,
        asked=asked.counts.asked,
        quota=quota,
        each=await _images_a_request(opened, asked, reason),
        failures=f"{job.output.shown}/{failures.NAME}" if listed else None,
    )
    _log.info("%s", headline)
    return summary


def _ending(opened: OpenedJob, reason: StopReason | None) -> tuple[StopReason | None, Exit]:
    """Why the run ends with work left, if it does, and its exit code."""
    options, report = opened.options, opened.report
    signal, counters = report.signals.reason, report.counters
    if signal is not None and (reason is None or reason.exit is Exit.LATER):
        reason = signal
    allowed = opened.job.run.failures_allowed(counters.images)
    part_only = options.limit is not None or options.pilot is not None
    reason = reason or outcome.unfinished(counters, max_failed=allowed, limited=part_only)
    return reason, outcome.exit_code(counters, reason, max_failed=allowed)


async def _pilot_page(opened: OpenedJob, asked: Asked) -> dict[str, Any]:
    """Write the page of a pilot; returns what it leads to expect."""
    from pipeline.commands import pilot

    assert asked.worked is not None
    report, output = opened.report, opened.inputs.output
    sample = pilot.Sample(
        packing=asked.worked.packing,
        limits=asked.worked.packing.limits,
        records=pilot.records_of_run(output, report.run_id),
        requests=report.counters.requests,
        left=report.counters.left,
        daily=asked.worked.quota.get("limit"),
        seconds=report.seconds,
    )
    expected = pilot.expect(sample)
    page = await asyncio.to_thread(pilot.write, output, expected, sample)
    _log.info("pilot: pictures and captions side by side: %s", page)
    return expected


async def _images_a_request(
    opened: OpenedJob, asked: Asked, reason: StopReason | None
) -> float | None:
    """Images that a request of this job has captioned, for the nights that are left."""
    if asked.worked is None or reason is None:
        return None
    size, model = asked.worked.packing.size, opened.job.endpoint.model
    rates = await asyncio.to_thread(rates_of, opened.inputs.output, model, size)
    left = opened.report.counters.left
    if rates is not None and rates.each and left:
        return left / rates.requests_for(left, size)
    # A run that asked nothing has measured nothing.
    return None if opened.report.counters.requests else float(size)


#: Above so many rows dataset.parquet is written only when nothing is left.
DATASET_ROWS = 1_000_000


def is_due(output: Path, counters: RunCounters) -> bool:
    """Is dataset.parquet looked at now? Not where a run that stopped, as the service refused it, left
    nothing to put into a new one."""
    if not counters.left:
        return True
    begun = counters.captioned or counters.failures or (output / "dataset.parquet").exists()
    return bool(begun) and counters.rows <= DATASET_ROWS


async def update_dataset(
    job: JobConfig, inputs: JobInputs, counters: RunCounters, *, asked: bool
) -> str:
    """Write dataset.parquet if something changed, or if it is not there; what the last line says of it.
    One with captions of another recipe is not replaced by one that is nearly empty.

    asked: this run chose images to ask. ManifestError (65) when the manifest changes, OSError.
    """
    prefix, recipe = job.output.prefix, inputs.naming.recipe
    path, shown = inputs.output / "dataset.parquet", f"{job.output.shown}/dataset.parquet"
    before = await asyncio.to_thread(recipe_of, path)
    other = before if before != recipe else None
    if other is not None and not await asyncio.to_thread(_captioned, inputs.output, other):
        other = None  # a run that was refused left it, or failures only
    if other is not None and counters.left:
        return (
            f"{shown} keeps the captions of recipe {other} until no image of this one is left; "
            "export JOB DEST writes those of this one"
        )
    view = view_of(job)
    mark = dataset_mark(inputs.output, inputs.manifest, prefix, view)
    known = inputs.manifest.trusted and path.exists() and not is_stale(path, mark)
    if asked or before not in (None, recipe) or not known:
        await asyncio.to_thread(
            write_dataset, inputs.output, inputs.manifest, inputs.naming, prefix=prefix, view=view
        )
    columns = columns_of(inputs.manifest.arrow(), inputs.naming, prefix=prefix)
    text = f"{shown}: {caption_words(columns.captions)}"
    if other is not None:
        first = other.partition("+")[0].partition("*")[0]
        text += f"; those of recipe {other} stay in the output: export JOB DEST --recipe {first}"
    return text


def _captioned(output: Path, recipe: str) -> bool:
    """Does the output hold a caption of this recipe (of a naming, as `Naming.recipe` writes it)?"""
    recipes = pa.array([part.partition("*")[0] for part in recipe.split("+")])
    for batch in record_batches(output, ["recipe", "status"]):
        of_recipe = pc.is_in(batch["recipe"].cast(pa.string()), recipes)
        if pc.any(pc.and_(of_recipe, pc.equal(batch["status"], "ok"))).as_py():
            return True
    return False
