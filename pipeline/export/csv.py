"""CSV for spreadsheets and scripts: UTF-8, header, RFC 4180 quotes.

A cell that a spreadsheet would run as a formula (its first sign that is not a space is one of
`= + - @`, a full-width one of these, tab or line break) gets a `'` before it: captions come from
models that look at strangers' pictures. Numbers are not touched; `raw_cells` leaves text alone too.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.celltext import as_text
from pipeline.export.base import Rows, Written
from pipeline.export.slices import slices

_RUNS = r"^[ \x{a0}\x{3000}]*[=+\-@\t\r\n＝＋－＠]"


@dataclass(frozen=True, slots=True)
class CsvExporter:
    """One delimited file."""

    delimiter: str = ","
    endings: tuple[str, ...] = (".csv",)
    pictures: bool = False

    def folder(self, dest: Path) -> bool:
        return False

    def write(self, rows: Rows, dest: Path) -> Written:
        written, guarded, raw = Written(), 0, rows.options.raw_cells
        options = pyarrow.csv.WriteOptions(
            include_header=False, delimiter=self.delimiter, quoting_style="needed"
        )
        names = [name if raw else _harmless_name(name) for name in rows.schema.names]
        with dest.open("wb") as file:
            file.write(self._line(names))
            for batch in slices(rows.batches):
                columns = []
                for column in batch.columns:
                    if pa.types.is_dictionary(column.type):
                        column = column.dictionary_decode()
                    cells, count = flat(column), 0
                    if not raw and not _is_number(column.type):
                        cells, count = harmless(cells)
                    columns.append(cells)
                    guarded += count
                table = pa.Table.from_arrays(columns, names=batch.schema.names)
                pyarrow.csv.write_csv(table, file, options)
                written.rows += batch.num_rows
        if guarded:
            cells = "cell that looks" if guarded == 1 else "cells that look"
            written.notes.append(
                f"{guarded:,} {cells} like a formula got a ' in front; --raw-cells leaves them"
            )
        return written

    def _line(self, cells: list[str]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter, lineterminator="\n").writerow(cells)
        return text.getvalue().encode()


def flat(column: pa.Array) -> pa.Array:
    """A column that CSV can hold: numbers and booleans as they are, the rest as text."""
    kind = column.type
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return column if plain and not pa.types.is_float16(kind) else as_text(column)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind))


def harmless(column: pa.Array) -> tuple[pa.Array, int]:
    """Text cells that a spreadsheet would run, with a `'` before them, and how many they are."""
    if not pa.types.is_string(column.type):
        return column, 0
    runs = pc.fill_null(pc.match_substring_regex(column, _RUNS), False)
    if not runs.true_count:
        return column, 0
    return pc.if_else(runs, pc.binary_join_element_wise("'", column, ""), column), runs.true_count


def _harmless_name(name: str) -> str:
    return str(harmless(pa.array([name]))[0][0])


CSV = CsvExporter()
TSV = CsvExporter(delimiter="\t", endings=(".tsv",))
