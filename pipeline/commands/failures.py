"""Images without a caption, by name: `failures.csv` beside the dataset, and `status --failed`."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import fs
from pipeline.redact import one_line
from pipeline.schema import RECORDS
from pipeline.store.parts import relisted
from pipeline.store.snapshot import failures_of

NAME = "failures.csv"
COLUMNS = ("image", "id", "error_code", "error", "attempts", "key")
#: Longest line of `status --failed`.
LINE_CHARS = 500
_log = logging.getLogger("pipeline")


def failed_images(output: Path) -> list[pa.Table]:
    """The published failures with these COLUMNS, a table for each part; also beside a run."""
    return relisted(output, lambda: list(failures_of(output, list(COLUMNS))))


def failed_lines(output: Path) -> Iterator[str]:
    """A line for each failed image: code, image, reason."""
    for table in failed_images(output):
        for row in table.select(["error_code", "image", "error"]).to_pylist():
            yield one_line(f"{row['error_code']}  {row['image']}  {row['error'] or ''}", LINE_CHARS)


def write_failures(output: Path) -> bool:
    """Rewrite `failures.csv`, where images failed or had failed before; does it name any now?

    A file that cannot be written is a warning: `failures/` holds the same and more.
    """
    path, tables = output / NAME, failed_images(output)
    rows: int = sum(table.num_rows for table in tables)
    if not rows and not path.exists():
        return False
    import pyarrow.csv

    from pipeline.export.csv import harmless

    table = pa.concat_tables(tables) if tables else RECORDS.empty_table().select(COLUMNS)
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            cells = pc.fill_null(table[field.name].combine_chunks(), "")
            table = table.set_column(place, field.name, harmless(cells)[0])
    text = io.BytesIO()
    pyarrow.csv.write_csv(table, text, pyarrow.csv.WriteOptions(quoting_style="needed"))
    try:
        fs.write_atomic(path, text.getbuffer())
    except OSError as error:
        _log.warning("%s cannot be written (%s)", path, error.strerror)
        return False
    return bool(rows)
