"""The asking of a run: from its selection to what is on disk when the last answer has landed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.captioning.run import run_job
from pipeline.captioning.wiring import open_run
from pipeline.commands import outcome
from pipeline.commands.run_selection import OpenedJob, count_exactly
from pipeline.errors import Exit, PipelineError, StopReason, stop_reason_of

if TYPE_CHECKING:
    from pipeline.captioning.pack_sizes import Packing
    from pipeline.captioning.select import Counts, Selection
    from pipeline.model import Record

_log = logging.getLogger("pipeline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What requests came to."""

    #: Why it ended early, if it did.
    reason: StopReason | None
    #: The quota as it stands.
    quota: Mapping[str, Any]
    packing: Packing


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the asking came to."""

    #: Of the selection.
    counts: Counts
    #: None where nothing was asked, or where opening the service failed.
    worked: Worked | None
    #: Why it ended early, if it did.
    reason: StopReason | None


async def ask(opened: OpenedJob, selection: Selection, pending: Mapping[str, Record]) -> Asked:
    """Ask what is left, and count it. An error of the program's own is raised; any other is the
    reason why the asking ended.

    pending: records of earlier runs that wait for a second answer.
    """
    inputs, checkpoint, report = opened.inputs, opened.checkpoint, opened.report
    counts = selection.counts
    report.counters.begin(counts, opened.inputs.naming.prompts_per_row)
    reason: StopReason | None = None
    worked: Worked | None = None
    try:
        asking = counts.asked and not opened.options.join and await selection.begin()
        if not asking and not counts.exact:
            report.counters.correct(counts, selection.seen)
            counts = selection.seen
        join = opened.options.join
        _log.info("%s", outcome.opening(opened.job, counts, inputs.manifest.image, join=join))
        if asking:
            worked = await _work(opened, selection, pending)
            reason = worked.reason
    except (PipelineError, OSError, ExceptionGroup) as error:
        reason = stop_reason_of(error, inputs.output)
        report.cause = error
        if reason.exit is Exit.BUG:
            raise
    finally:
        await selection.close()
        await checkpoint.finish()
    if not counts.exact or inputs.naming.contents is not None:
        await count_exactly(opened, selection, reason)
    report.signals.finishing()
    checkpoint.settled_all()
    return Asked(counts=counts, worked=worked, reason=reason)


async def _work(opened: OpenedJob, selection: Selection, pending: Mapping[str, Record]) -> Worked:
    """Open the service, and ask what is left."""
    hurry, output = asyncio.Event(), opened.inputs.output
    async with open_run(
        opened.job,
        opened.inputs,
        opened.checkpoint,
        selection,
        opened.report.counters,
        run_id=opened.report.run_id,
        environment=opened.environment,
        hurry=hurry,
        pilot=opened.options.pilot is not None,
        pending=pending,
    ) as run:
        packing = run.captioner.packing
        with opened.report.signals.draining(run.gate, hurry):
            try:
                await run_job(run)
            finally:
                try:
                    await asyncio.to_thread(packing.keep, output, opened.job.endpoint.model)
                except OSError as error:
                    _log.warning("what was measured of packs is not kept (%s)", error)
        if (compared := packing.compared()) is not None:
            _log.log(logging.WARNING if compared.worse else logging.INFO, "%s", compared.message())
        return Worked(
            reason=run.gate.reason,
            quota=outcome.quota_of(run.gate.snapshot()),
            packing=packing,
        )
