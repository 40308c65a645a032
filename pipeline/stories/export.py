"""`export`: one row per manifest row, in manifest order, in a format of one's choice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import OutputError
from pipeline.export.export import EXPORTS, export, format_of
from pipeline.export.pictures import Pictures
from pipeline.stories.choice import pinned
from pipeline.stories.dataset import joined, joined_schema, record_name
from pipeline.stories.place import ours
from pipeline.stories.start import look_at_manifest

if TYPE_CHECKING:
    from pipeline.config import JobConfig


def export_command(
    job: JobConfig,
    dest: Path,
    format: str | None,  # noqa: A002 - the command line's word
    *,
    formulas: bool,
) -> int:
    """Write DEST; 0. UsageError for an unknown format, OutputError when nothing is there yet."""
    chosen = format_of(dest, format)
    ours(job)
    output = Path(job.output.path)
    if not (output / "captions").exists():
        raise OutputError(f"{job.output.shown}: nothing to export yet; run the job first")
    manifest, naming = look_at_manifest(pinned(job))
    bytes_too = EXPORTS[chosen].folder or chosen == "webdataset"
    root = Path(job.images.root).absolute() if job.images.root else manifest.folder
    shape = manifest.arrow(bytes_too=bytes_too)
    count = export(
        joined(manifest, naming, output, bytes_too=bytes_too),
        joined_schema(shape),
        dest,
        chosen,
        pictures=Pictures(column=manifest.image, root=root, packages=tuple(job.images.packages)),
        names=(record_name("caption", shape), record_name("key", shape)),
        formulas=formulas,
    )
    print(f"{dest}: {count:,} rows")  # noqa: T201 - the command's result
    return 0
