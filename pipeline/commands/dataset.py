"""dataset.parquet at the end of a run: written where something changed; one with captions of another
recipe is not replaced by one that is nearly empty."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.columns import caption_words, columns_of
from pipeline.captioning.join import dataset_mark, is_stale, recipe_of, write_dataset
from pipeline.captioning.view import view_of
from pipeline.store.snapshot import record_batches

if TYPE_CHECKING:
    from pipeline.captioning.counters import RunCounters
    from pipeline.captioning.inputs import JobInputs
    from pipeline.config.job import JobConfig


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
