"""CSV for spreadsheets and scripts: UTF-8, header, RFC 4180 quotes.

A cell that a spreadsheet would run as a formula (its first sign that is not a space is one of
`= + - @`, a full-width one of these, tab or line break) gets a `'` before it: captions come from
models that look at strangers' pictures. Numbers are not touched; `formulas` leaves text alone too.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.export.base import Rows
from pipeline.export.cells import flat

_RUNS = r"^[ \x{a0}\x{3000}]*[=+\-@\t\r\n＝＋－＠]"


@dataclass(frozen=True, slots=True)
class CsvExporter:
    """One delimited file."""

    delimiter: str = ","
    folder: bool = False
    endings: tuple[str, ...] = (".csv",)

    def write(self, rows: Rows, dest: Path) -> int:
        written = 0
        options = pyarrow.csv.WriteOptions(
            include_header=False, delimiter=self.delimiter, quoting_style="needed"
        )
        header = pa.array(rows.schema.names, pa.string())
        names = header.to_pylist() if rows.formulas else harmless(header).to_pylist()
        with dest.open("wb") as file:
            file.write(self._line(names))
            for batch in rows.batches:
                columns = [flat(column) for column in batch.columns]
                if not rows.formulas:
                    columns = [harmless(column) for column in columns]
                table = pa.Table.from_arrays(columns, names=batch.schema.names)
                pyarrow.csv.write_csv(table, file, options)
                written += batch.num_rows
        return written

    def _line(self, cells: list[str]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter, lineterminator="\n").writerow(cells)
        return text.getvalue().encode()


def harmless(column: pa.Array) -> pa.Array:
    """Text cells that a spreadsheet would run, with a `'` before them."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    runs = pc.fill_null(pc.match_substring_regex(column, _RUNS), False)
    if not runs.true_count:
        return column
    quoted = pc.binary_join_element_wise(
        pa.scalar("'", column.type), column, pa.scalar("", column.type)
    )
    return pc.if_else(runs, quoted, column)


CSV = CsvExporter()
TSV = CsvExporter(delimiter="\t", endings=(".tsv",))
