"""`review --import FILE`: captions that were edited in a dataset or a CSV, as decisions by key.

A caption that differs is an edit, one that was emptied a rejection; a cell of the column `review`
that differs is that decision. What is as it was is nothing: nobody is known to have looked at it.
A row whose image was asked again later (its `finished_at` says so) is about another caption: it is
named and decides nothing.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.reviewed import apply
from pipeline.captioning.view import View, view_of
from pipeline.clock import SystemClock
from pipeline.commands.review import follow, output_of, reviewer
from pipeline.errors import Exit, UsageError
from pipeline.export.base import Notes
from pipeline.plural import counted
from pipeline.redact import one_line
from pipeline.store.reviews import VERBS, Decision, Reviews, new_decision
from pipeline.store.snapshot import record_batches

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.config.job import JobConfig

#: Microseconds by which a time without a fraction may be older: spreadsheets cut seconds off.
_CUT = 60_000_000
#: What a CSV export puts before a cell that a spreadsheet would run.
_GUARD = "'"
#: What is said of decisions, by their verb.
_DONE = {"accept": "accepted", "edit": "edited", "reject": "rejected", "flag": "flagged"}
_NAMES = ("key", "caption", "review", "finished_at")


def import_command(job: JobConfig, file: Path, name: str | None) -> int:
    """Store the decisions that a file holds; 0, or 1 where some are about older answers. UsageError
    (64) for a file that cannot be used."""
    by, output = reviewer(name), output_of(job)
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in read_file(file, job.output.prefix, tuple(job.prompt.prompts)):
        rows.setdefault(row.pop("key"), []).append(row)
    reviews = Reviews(output)
    try:
        last = reviews.refresh()
        records = _records(output, set(rows), view_of(job))
        older = Notes("such captions")
        decisions, known = decide(rows, records, last, older, by, SystemClock().now())
        reviews.decide_all(decisions, {})
    finally:
        reviews.close()
        follow(job)
    counts = {verb: sum(decision.decision == verb for decision in decisions) for verb in VERBS}
    made = ", ".join(f"{count:,} {_DONE[verb]}" for verb, count in counts.items() if count)
    said = f"{made}; dataset.parquet and exports follow" if made else "nothing new"
    unknown = len(rows) - known
    for line in older.lines():
        print(line)  # noqa: T201
    if older.count:
        print(  # noqa: T201
            "decide on what is there now in `review` or a new export; without the column "
            "`finished_at` the file is taken as it is"
        )
    print(f"{file}: {said}" + (f"; {counted(unknown, 'key')} of other outputs" if unknown else ""))  # noqa: T201
    return Exit.SOME_FAILED if older.count else Exit.DONE


def decide(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    records: Iterator[Mapping[str, Any]],
    last: Mapping[str, Decision],
    older: Notes,
    by: str,
    now: float,
) -> tuple[list[Decision], int]:
    """What the rows of a file decide about records, and how many records they name.

    older: gets a line for each record that was asked again since. UsageError when rows of one key disagree: they share one caption.
    """
    decisions, known = [], 0
    for record in records:
        key, known = record["key"], known + 1
        shown, review = apply(last, record)
        own = (record["caption"] or "").strip()
        changes = {
            change_of(row, shown, review)
            for row in rows[key]
            if not (review == "edit" and _before_review(row, own))
        } - {None}
        if len(changes) > 1:
            raise UsageError(f"--import: rows of key {key} disagree: they share one caption")
        if changes and any(
            _is_older(row["finished_at"], record["finished_at"]) for row in rows[key]
        ):
            older.add(
                f"{one_line(record['image'], 200)}: asked again since; its row decides nothing"
            )
            continue
        for verb, text in (change for change in changes if change is not None):
            decisions.append(new_decision(key, verb, shown, text, by, now))
    return decisions, known


def _before_review(row: Mapping[str, Any], own: str) -> bool:
    """Was a row exported before somebody edited its caption, and left as it was? Its cell of `review`
    is there and empty, and its text is the model's own: it takes nobody's edit back."""
    return row["review"] == "" and row["caption"] in (own, f"{_GUARD}{own}")


def _is_older(row: int | None, record: int | None) -> bool:
    """Is a row about an answer before the record's? Times in microseconds; unknown ones are not."""
    if row is None or record is None:
        return False
    return row + (_CUT if row % 1_000_000 == 0 else 0) < record


def change_of(
    row: Mapping[str, Any], shown: str | None, review: str | None
) -> tuple[str, str | None] | None:
    """The decision of one row, with the text of an edit; None: it says what stands already."""
    text, verb = row["caption"], row["review"]
    if text == f"{_GUARD}{shown}":
        text = shown
    if text and text != (shown or "").strip():
        return "edit", text
    if verb in ("accept", "reject", "flag") and verb != review:
        return verb, None
    return ("reject", None) if not text and shown and review != "reject" else None


def read_file(
    file: Path, prefix: str = "", prompts: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """key, caption, review and finished_at of the rows of a Parquet, CSV or TSV file.

    prefix: `output.prefix`. prompts: names of several, whose captions stand in columns of their own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ending = file.suffix.lower()
    try:
        if ending == ".parquet":
            table = pq.read_table(file)
        elif ending in (".csv", ".tsv"):
            table = _read_text(file, "\t" if ending == ".tsv" else ",", prefix)
        else:
            raise UsageError(f"--import {file}: a .parquet, .csv or .tsv file is needed")
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"--import {file}: cannot be read ({error})") from None
    twice = [name for name, count in Counter(table.schema.names).items() if count > 1]
    if ours := [name for name in twice if name.startswith(tuple(prefix + name for name in _NAMES))]:
        raise UsageError(f"--import {file}: has the column `{ours[0]}` more than once")
    own = {name: _column(prefix + name, table.schema.names) for name in _NAMES}
    for name in ("key", "caption"):
        if own[name] is None:
            raise UsageError(f"--import {file}: has no column `{prefix}{name}`")
    for suffix in ("", *(f"_{prompt}" for prompt in prompts)):
        named = {name: _column(prefix + name + suffix, table.schema.names) for name in _NAMES}
        if named["caption"] is not None:
            yield from _rows(table, named if named["key"] else {**own, "caption": named["caption"]})


def _read_text(file: Path, delimiter: str, prefix: str) -> pa.Table:
    """A CSV or TSV file, in which captions stay text: `True`, `007`, `NA` and dates are no values."""
    import pyarrow as pa
    import pyarrow.csv

    with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        names = next(csv.reader(text, delimiter=delimiter), [])
    ours = tuple(prefix + name for name in ("key", "caption", "review"))
    return pyarrow.csv.read_csv(
        file,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            strings_can_be_null=False,
            column_types={name: pa.string() for name in names if name.startswith(ours)},
        ),
    )


def _rows(table: pa.Table, names: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    """The rows that have a key. names: of the columns."""
    import pyarrow as pa

    columns = {
        name: table[column].cast(pa.string()).to_pylist() if column else [None] * len(table)
        for name, column in names.items()
        if name != "finished_at"
    }
    times = _times(table[names["finished_at"]]) if names["finished_at"] else [None] * len(table)
    for key, caption, review, at in zip(*columns.values(), times, strict=True):
        if key:
            text = (caption or "").strip()
            decision = (review or "") if names["review"] else None
            yield {"key": key, "caption": text, "review": decision, "finished_at": at}


def _times(column: pa.ChunkedArray) -> list[int | None]:
    """Microseconds since the epoch; None where a time is in no form that is known here."""
    import pyarrow as pa

    try:
        times = column.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64()).to_pylist()
    except pa.ArrowException:
        return [None] * len(column)
    return list(times)


def _column(name: str, names: list[str]) -> str | None:
    """The record's column: where the manifest has one of the same name, the last `…_new`."""
    column, number = (name if name in names else None), 1
    while (newer := f"{name}_new{number if number > 1 else ''}") in names:
        column, number = newer, number + 1
    return column


def _records(output: Path, keys: set[str], view: View) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(sorted(keys), pa.string())
    for batch in record_batches(output, ("key", "image", "caption", "finished_at")):
        table = pa.Table.from_batches([batch])
        table = table.filter(pc.is_in(table["key"], value_set=wanted))
        times = table["finished_at"].cast(pa.int64()).to_pylist()
        for row, at in zip(table.drop_columns("finished_at").to_pylist(), times, strict=True):
            yield {**row, "caption": view.caption(row["caption"]), "finished_at": at}
