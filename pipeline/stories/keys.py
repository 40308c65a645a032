"""Keys in SQL: what `Naming.of` says of a row, as one DuckDB expression over the manifest's feed.

Above a few hundred thousand rows or records, set logic on keys belongs into a child process with
a memory limit (`manifest/sql.py`); below, Python is faster than starting one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.manifest.settings import BAD
from pipeline.manifest.sql import Keyed
from pipeline.plan import identity

if TYPE_CHECKING:
    from pipeline.manifest.open import Manifest
    from pipeline.stories.survey import Naming


def key_sql(image: str, naming: Naming) -> str:
    """The key (32 hex) of a feed row whose image column is `image`."""
    column = None
    if naming.identity.startswith("column:"):
        column = naming.identity.removeprefix("column:")
    name = '"' + image.replace('"', '""') + '"'
    good = identity.identity_sql(image, by_column=column)
    # Most images are unsigned URLs; this branch, which says the same, halves the whole cost.
    plain = f"(starts_with({name}, 'https://') OR starts_with({name}, 'http://'))"
    which = (
        f"(CASE WHEN {BAD} THEN 'bad:' || coalesce({name}, '') "
        f"WHEN {plain} AND strpos({name}, '?') = 0 THEN 'url:' || {name} ELSE {good} END)"
    )
    return identity.key_sql(which, identity.prompt_sql(naming.prompt), naming.recipe)


def keyed(manifest: Manifest, naming: Naming, output: Path) -> Keyed | None:
    """The manifest with its keys in SQL; None where an image is known by its bytes."""
    if not manifest.textual or naming.identity == "content":
        return None
    return Keyed(
        settings=manifest.settings,
        columns=manifest.columns,
        key_sql=key_sql(manifest.image, naming),
        parts=[str(output / folder / "*.parquet") for folder in ("captions", "failures")],
        scratch=output / "_state" / "scratch",
    )
