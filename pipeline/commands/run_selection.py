"""What a run is to ask: the rows whose captions are not settled, before and after the asking."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import fs
from pipeline.captioning.checked import ASKS
from pipeline.captioning.inputs import settings_flag
from pipeline.captioning.second import read_pending
from pipeline.captioning.select import (
    Counts,
    Selection,
    Selector,
    asks_again,
    count,
    open_selection,
)
from pipeline.commands.recheck import act_on_same, recheck
from pipeline.commands.recipes import check_identity, check_recipe
from pipeline.errors import Exit, ManifestError, StopReason
from pipeline.model import Record
from pipeline.plural import counted
from pipeline.store.redo import failed_under_others

if TYPE_CHECKING:
    from pipeline.captioning.inputs import Environment, JobInputs
    from pipeline.captioning.options import RunOptions
    from pipeline.commands.run_report import RunReport
    from pipeline.config.job import JobConfig
    from pipeline.store.store import Checkpoint

_SIGNALS = (Exit.SIGINT, Exit.SIGTERM, Exit.SIGHUP)
_log = logging.getLogger("pipeline")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedJob:
    """A job whose output is locked and recovered: what every phase of its run needs."""

    job: JobConfig
    options: RunOptions
    environment: Environment
    inputs: JobInputs
    checkpoint: Checkpoint
    report: RunReport


async def select(opened: OpenedJob) -> tuple[Selection, Mapping[str, Record]]:
    """What is to be asked, and the records that wait for a second answer. JobError (78) when an
    output with captions would be asked anew."""
    job, inputs, options = opened.job, opened.inputs, opened.options
    checkpoint = opened.checkpoint
    redo = await checkpoint.redo_keys(options.chosen)
    if options.chosen is not None:
        _log.info("%s matched, to be asked again", counted(len(redo), "record"))
    await checkpoint.finish()  # what follows looks at published parts
    if rechecked := await recheck(job, inputs.output, inputs.naming.recipes, checkpoint):
        _log.info("checks have changed: %s records derived again, none asked", f"{rechecked:,}")
    if same := await act_on_same(job, inputs.output, inputs.naming.recipes, checkpoint):
        what = "failed" if job.checks.same_caption.action == "fail" else "to be asked again"
        _log.info("one caption for many images: %s of them are %s", f"{same:,}", what)
    pending = dict[str, Record]()
    if job.reply.fields or not ASKS.isdisjoint(job.checks.actions.values()):
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
    selection = await open_selection(inputs, checkpoint, options, again, opened.environment.rng)
    if selection.counts.images and checkpoint.captioned and not options.yes:
        await asyncio.to_thread(check_recipe, job, inputs, selection.counts)
        if selection.counts.asked:
            await asyncio.to_thread(check_identity, inputs, checkpoint.state)
    return selection, pending


async def count_exactly(opened: OpenedJob, selection: Selection, reason: StopReason | None) -> None:
    """Replace the estimates of a long manifest, unless the run has to end now."""
    inputs, checkpoint, counters = opened.inputs, opened.checkpoint, opened.report.counters
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
        counters.begin(counts, opened.inputs.naming.prompts_per_row)
        if selector.outdated:
            await checkpoint.withdraw(sorted(selector.outdated))
            await checkpoint.finish()


async def note_finished(opened: OpenedJob) -> None:
    """Let the next run know that nothing is left, so that it need not read the manifest."""
    inputs, counters = opened.inputs, opened.report.counters
    mark = await mark_of(inputs, opened.checkpoint)
    if mark is not None:
        counts = Counts(
            rows=counters.rows,
            images=counters.images,
            captioned=counters.captioned,
            failed=dict(counters.failed),
        )
        await asyncio.to_thread(write_finished, inputs.output / "_state", mark, counts)


NAME = "finished.json"


async def mark_of(inputs: JobInputs, checkpoint: Checkpoint) -> str | None:
    """What the note holds for; None when nothing tells whether the manifest has changed."""
    naming = inputs.naming
    if not inputs.manifest.trusted or naming.contents is not None:
        return None  # a picture may change, and the manifest stay the same
    facts = [
        inputs.manifest.fingerprint(),
        *(naming.recipe, naming.system, naming.identity),
        await checkpoint.fingerprint(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def files_may_change(inputs: JobInputs) -> bool:
    """May the pictures of a finished job be other ones, and its note be the same? Local files that
    a manifest names; the fingerprint of a folder has the size and time of each."""
    versions = inputs.naming.versions
    return versions is not None and versions.any and inputs.manifest.format != "folder"


def read_finished(state: Path, mark: str) -> Counts | None:
    """The counts of the finished job, if the note is whole and holds for this mark."""
    try:
        noted = json.loads((state / NAME).read_bytes())
        return Counts(**noted["counts"]) if noted["mark"] == mark else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_finished(state: Path, mark: str, counts: Counts) -> None:
    """Note that nothing was left. Without the note the next run counts."""
    note = json.dumps({"mark": mark, "counts": asdict(counts)}).encode()
    with suppress(OSError):
        fs.write_atomic(state / NAME, note, private=True)
