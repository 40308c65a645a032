"""`manifest.where`: a SQL predicate, run by DuckDB over the batches as they stream by.

Only the predicate's verdict comes back, so wide columns never pass through DuckDB. It must be
decidable row by row (no aggregates, windows or chance), as ordinals count the rows it keeps.
DuckDB is closed off from files and network here: a predicate looks at the row and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipeline.errors import JobError

_CHANCE = re.compile(
    r"(?i)\b(random|uuid|gen_random_uuid|uuidv4|uuidv7|now|get_current_timestamp|"
    r"current_timestamp|current_date|nextval)\b"
)


def mentioned(predicate: str, names: Sequence[str]) -> list[str]:
    """The columns whose name occurs in the predicate: all that it reads, maybe more."""
    text = predicate.lower().replace('""', '"')
    return [name for name in names if name.lower() in text]


class Predicate:
    """A checked predicate over one schema."""

    def __init__(self, predicate: str, schema: pa.Schema) -> None:
        """JobError when it does not fit the columns."""
        import duckdb

        names = mentioned(predicate, schema.names)
        #: Columns that a batch must bring.
        self.columns = tuple(names or schema.names[:1])
        self._schema = pa.schema([schema.field(name) for name in self.columns])
        self._connection = duckdb.connect(
            config={"enable_external_access": "false", "threads": "1"}
        )
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
            raise self._error(error, schema.names) from error

    def kept(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows for which the predicate is true."""
        import duckdb

        for batch in batches:
            rows = pa.Table.from_batches([batch.select(list(self.columns))])
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
