"""What of a manifest is left to ask, under the options of a run.

A short manifest is surveyed row by row (`survey.py`). Of a long one the rows are known at once
where nothing is settled or the last run left a hint (`hint.py`); else they are found by one
anti-join on keys in a child process, which looks at published parts alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import CODES, JobError
from pipeline.plan.sample import keep_spread
from pipeline.stories.hint import Hint, Holds, read_hint
from pipeline.stories.survey import FEW, Survey, TooMany, survey

if TYPE_CHECKING:
    from pipeline.checkpoint.checkpoint import Checkpoint
    from pipeline.stories.options import RunOptions
    from pipeline.stories.start import Looked


def asks_again(options: RunOptions, redo: Container[str]) -> Callable[[str, str], bool]:
    """(key, its state) -> ask it again? Transient failures always are, the rest when told."""

    def again(key: str, state: str) -> bool:
        if key in redo:
            return True
        if state == "ok":
            return False
        return options.retry_failed or state in options.retry or not CODES.get(state, True)

    return again


def survey_of(looked: Looked, output: Path, options: RunOptions) -> Survey:
    """The survey as a bystander takes it: from the published parts, without the lock."""
    from pipeline.checkpoint.parts import states

    known = states(output)
    manifest = looked.manifest
    try:
        if manifest.textual and (manifest.rows or 0) > FEW:
            raise TooMany
        return survey(
            manifest.batches(),
            looked.naming,
            state=known.get if len(known) else None,
            again=asks_again(options, frozenset()),
            few=manifest.textual,
        )
    except TooMany:
        return survey_in_sql(looked, options)


def survey_in_sql(looked: Looked, options: RunOptions) -> Survey:
    """The survey of a long manifest: one anti-join on keys, in a child process."""
    from pipeline.manifest.sql import left
    from pipeline.stories.keys import keyed

    whole = keyed(looked.manifest, looked.naming, looked.output)
    assert whole is not None  # only textual manifests come here
    found = left(whole, again=again_sql(options))
    hint = Hint(
        rows=found.rows,
        images=found.images,
        captioned=found.captioned,
        failed=found.failed,
        open=bytearray(found.open),
        lost=bytearray(found.lost),
    )
    # What `--redo` chooses is no hint's matter.
    known = hint if options.chosen is None else None
    return _of_bits(hint, bytearray(found.ask), found.asked, options, hint=known)


def _of_bits(
    told: Hint, ask: bytearray, asked: int, options: RunOptions, *, hint: Hint | None
) -> Survey:
    if options.limit is not None and asked > options.limit:
        asked = options.limit
        keep_first(ask, asked)
    return Survey(
        rows=told.rows,
        images=told.images,
        captioned=told.captioned,
        failed=dict(told.failed),
        ask=ask,
        asked=asked,
        met=bool(told.captioned or told.failed),
        hint=hint,
    )


async def at_once(looked: Looked, checkpoint: Checkpoint, options: RunOptions) -> Survey | None:
    """The survey of a long manifest without looking at its rows; None where that cannot be.

    Either nothing is settled yet, or the last run has left a hint.
    """
    rows = looked.manifest.rows
    if options.chosen is not None or (rows is not None and rows <= FEW):
        return None
    await checkpoint.finish()  # a hint is about published parts
    if not len(checkpoint):
        if rows is None and looked.manifest.textual:  # counting is a tenth of a survey
            rows = await asyncio.to_thread(looked.manifest.count)
        hint = Hint.of_empty(rows) if rows is not None and rows > FEW else None
    else:
        hint = read_hint(looked.output / "_state", await holds(looked, checkpoint))
    if hint is None:
        return None
    anew = asks_again(options, frozenset())
    again = sum(count for code, count in hint.failed.items() if anew("", code))
    if again and options.limit is not None:
        return None  # which of those that failed would be the first ones is not known from here
    both = int.from_bytes(hint.open, "little") | int.from_bytes(hint.lost, "little") * bool(again)
    fresh = int.from_bytes(hint.open, "little").bit_count()
    ask = bytearray(both.to_bytes(len(hint.open), "little"))
    return _of_bits(hint, ask, fresh + again, options, hint=hint)


async def holds(looked: Looked, checkpoint: Checkpoint) -> Holds:
    """What a hint of now would be about."""
    naming = looked.naming
    named = json.dumps([naming.recipe, naming.system, naming.identity])
    return Holds(
        manifest=looked.manifest.fingerprint(),
        naming=hashlib.sha256(named.encode()).hexdigest(),
        parts=await checkpoint.fingerprint(),
    )


def again_sql(options: RunOptions) -> str:
    """`asks_again` as an SQL predicate on record columns."""
    codes = [code for code, permanent in CODES.items() if not permanent]
    listed = ", ".join(f"'{code}'" for code in (*codes, *options.retry))
    words = ["status = 'failed'"] if options.retry_failed else [f"error_code IN ({listed})"]
    if "truncated" in options.retry:
        words.append("list_contains(flags, 'truncated')")
    if options.redo:
        words.append(f"(status = 'ok' AND ({options.redo}))")
    return " OR ".join(words)


def keep_first(bits: bytearray, count: int) -> None:
    """Clear all set bits but the first `count`."""
    for index, byte in enumerate(bits):
        if byte.bit_count() <= count:
            count -= byte.bit_count()
            continue
        kept = 0
        for bit in range(8):
            if count and byte >> bit & 1:
                kept |= 1 << bit
                count -= 1
        bits[index] = kept


async def _counted(
    looked: Looked, checkpoint: Checkpoint, options: RunOptions, redo: Container[str]
) -> Survey:
    """Every row looked at."""
    manifest = looked.manifest
    try:
        if manifest.textual and (manifest.rows or 0) > FEW:
            raise TooMany
        return await asyncio.to_thread(
            survey,
            manifest.batches(),
            looked.naming,
            state=checkpoint.state if len(checkpoint) else None,
            again=asks_again(options, redo),
            limit=options.limit,
            few=manifest.textual,
            keep=looked.output / "_state",
        )
    except TooMany:
        await checkpoint.finish()  # the child looks at parts alone
        return await asyncio.to_thread(survey_in_sql, looked, options)


async def take_survey(
    looked: Looked,
    checkpoint: Checkpoint,
    options: RunOptions,
    redo: Container[str],
    rng: random.Random,
) -> Survey:
    """Count the manifest; JobError (78) when an output with captions would be asked anew."""
    found = await at_once(looked, checkpoint, options)
    if found is None:
        found = await _counted(looked, checkpoint, options, redo)
    if found.images and not found.met and checkpoint.captioned and not options.yes:
        raise JobError(
            f"{looked.output}: holds {checkpoint.captioned:,} captions, and not one belongs to this "
            f"job as it stands now (was model, prompt, params or image column changed?): all "
            f"{found.images:,} images would be asked; go on with --yes, or choose another output.path"
        )
    if options.pilot is not None:
        found.asked = keep_spread(found.ask, options.pilot, rng)
    return found
