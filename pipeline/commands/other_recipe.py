"""Captions of another recipe that the output holds, for the rows of this manifest.

Their keys hold a prompt that is not known here, so rows and records meet by the image as records
show it. That says enough only where an image was asked once under that recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

import pyarrow.compute as pc

from pipeline.captioning.identity import shown_image
from pipeline.captioning.naming import NamedPrompt, Naming
from pipeline.errors import UsageError
from pipeline.model import Row
from pipeline.plural import counted
from pipeline.store.snapshot import record_batches
from pipeline.values import dataclass

#: The key of no record.
_NOBODY = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingByImage(Naming):
    """Gives rows the keys that their images have under one recipe."""

    keys: Mapping[str, bytes] = field(default_factory=dict)

    def key_bytes(self, row: Row) -> bytes:
        return self.keys.get(shown_image(row.image), _NOBODY)


def naming_by_recipe(output: Path, naming: Naming, recipe: str) -> Naming:
    """What rows are called under a recipe (or the beginning of one). UsageError when the output
    has none of that name, or when its images do not say which record is meant."""
    own = [prompt for prompt in naming.prompts if prompt.recipe.startswith(recipe)]
    if len(own) == 1:
        return replace(naming, prompts=tuple(own))
    count: Counter[str] = Counter()
    for batch in record_batches(output, ["recipe"]):
        count.update(
            {
                pair["values"]: pair["counts"]
                for pair in pc.value_counts(batch["recipe"]).to_pylist()
            }
        )
    matching = [name for name in count if name.startswith(recipe)]
    if len(matching) != 1:
        recipes = ", ".join(
            f"{name} ({counted(number, 'image')})" for name, number in count.most_common(10)
        )
        raise UsageError(f"--recipe {recipe}: the output holds {recipes or 'no records'}; name one")
    keys: dict[str, bytes] = {}
    for batch in record_batches(output, ["recipe", "image", "key"]):
        rows = batch.filter(pc.equal(batch["recipe"], matching[0]))
        for image, key in zip(rows["image"].to_pylist(), rows["key"].to_pylist(), strict=True):
            if keys.setdefault(image, raw := bytes.fromhex(key)) != raw:
                raise UsageError(
                    f"--recipe {matching[0]}: {image[:200]} has several captions under it, as its "
                    "prompt names columns: set the job's prompt as it was instead"
                )
    return NamingByImage(
        prompts=(NamedPrompt(recipe=matching[0], template=naming.prompts[0].template),),
        system=naming.system,
        identity=naming.identity,
        keys=keys,
    )
