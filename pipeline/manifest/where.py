"""`manifest.where`: a SQL predicate, run by DuckDB over the batches as they stream by.

Only the predicate's verdict comes back, so wide columns never pass through DuckDB. It must be
decidable row by row (no aggregates, windows or chance), as ordinals count the rows it keeps.
DuckDB is closed off from files and network here: a predicate looks at the row and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipeline.celltext import as_text
from pipeline.errors import JobError, ManifestError
from pipeline.patterns import lazy

_CHANCE = lazy(
    r"(?i)\b(random|uuid|gen_random_uuid|uuidv4|uuidv7|now|get_current_timestamp|"
    r"current_timestamp|current_date|nextval)\b"
)
#: DuckDB's words for a column that is not there.
_MISSING = lazy(r'column (?:named )?"([^"]+)"')


def mentioned(predicate: str, names: Sequence[str]) -> list[str]:
    """The columns whose name occurs in the predicate: all that it reads, maybe more."""
    text = predicate.lower().replace('""', '"')
    return [name for name in names if name.lower() in text]


def _for_sql(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch in types that DuckDB has: no half floats, no decimals of more than 38 digits."""
    arrays = []
    for array in batch.columns:
        if pa.types.is_float16(array.type):
            array = array.cast(pa.float32())
        elif pa.types.is_decimal256(array.type):
            array = as_text(array)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _twins(names: Sequence[str]) -> dict[str, list[str]]:
    """Lower-case name -> the columns whose names differ in capitals only."""
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(name.lower(), []).append(name)
    return {name: columns for name, columns in same.items() if len(columns) > 1}


class Predicate:
    """A checked predicate over one schema."""

    def __init__(self, predicate: str, schema: pa.Schema) -> None:
        """JobError when it does not fit the columns; ManifestError when it reads one of two that
        SQL cannot tell apart."""
        import duckdb

        twins = _twins(schema.names)
        apart = [name for name in schema.names if name.lower() not in twins]
        names = mentioned(predicate, apart)
        #: Columns that a batch must bring.
        self.columns = tuple(names or apart[:1])
        self._schema = _for_sql(
            pa.RecordBatch.from_pylist([], pa.schema([schema.field(n) for n in self.columns]))
        ).schema
        self._connection = duckdb.connect(
            config={"enable_external_access": "false", "threads": "1"}
        )
        # An instant has the same day on every machine.
        self._connection.execute("SET GLOBAL TimeZone = 'UTC'")
        self._connection.execute("SET lock_configuration = true")
        chance = _CHANCE.search(re.sub(r"'[^']*'", "", predicate))
        if chance and chance[1].lower() not in (name.lower() for name in names):
            raise JobError(
                f"manifest.where: {chance[1]} gives another answer each time; "
                "the predicate must depend on the row alone"
            )
        self._sql = f"SELECT coalesce(CAST(({predicate}\n) AS BOOLEAN), false) AS keep FROM rows"  # noqa: S608 - the job's own predicate, in a database without data or access
        try:
            self._run(f"SELECT 1 FROM rows WHERE ({predicate}\n)", self._schema.empty_table())  # noqa: S608 - as above
        except duckdb.Error as error:
            missing = _MISSING.search(str(error))
            if missing is not None and (both := twins.get(missing[1].lower())):
                raise ManifestError(
                    f"manifest.where: {' and '.join(map(repr, both))} differ in capitals only, which "
                    "SQL does not see; rename one of them"
                ) from error
            raise self._error(error, schema.names) from error

    def kept(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows for which the predicate is true."""
        import duckdb

        for batch in batches:
            rows = pa.Table.from_batches([_for_sql(batch.select(list(self.columns)))])
            try:
                keep = self._run(self._sql, rows).column("keep").combine_chunks()
            except duckdb.Error as error:
                raise self._error(error, self._schema.names) from error
            yield batch.filter(keep)

    def _run(self, sql: str, rows: pa.Table) -> pa.Table:
        cursor = self._connection.cursor()
        try:
            cursor.register("rows", rows)
            return cursor.sql(sql).to_arrow_table()
        finally:
            cursor.close()

    @staticmethod
    def _error(error: Exception, names: Sequence[str]) -> JobError:
        first = " ".join(str(error).split("LINE ")[0].split())
        first = first.split(" Candidate bindings")[0].removeprefix("Binder Error: ")
        columns = ", ".join(names[:30])
        return JobError(f"manifest.where: {first} (columns: {columns}; CSV cells are text)")
