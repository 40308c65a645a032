"""The columns of a dataset: the manifest's, then those of its records, of each prompt that a row is
asked with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline import schema
from pipeline.captioning.fields import NO_FIELDS, Fields
from pipeline.captioning.naming import Naming
from pipeline.captioning.reviewed import REVIEW, reviewed
from pipeline.export.features import read_features, with_features
from pipeline.store.reviews import Decision

#: Record columns that stand in the dataset, in this order.
COLUMNS = (
    "caption",
    "status",
    "error_code",
    "error",
    "flags",
    "key",
    "model",
    "served_model",
    "provider",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "width",
    "height",
    "sent_width",
    "sent_height",
    "image_sha256",
    "finished_at",
    "review",
)
CAPTION = COLUMNS[0]
#: Those of them that are the image's, whatever it was asked.
OF_IMAGE = ("width", "height", "sent_width", "sent_height", "image_sha256")
#: Those of them that records have; the last one is what people decided.
RECORD_COLUMNS = COLUMNS[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the records' columns are called beside the manifest's, and the whole schema.

    `caption`, or `caption_new` where the manifest has a column of that name. Case does not count: SQL
    reads `Caption` as `caption`. Where each image is asked with several prompts, the first one's
    columns are called so, those of another `caption_NAME`, `status_NAME`, …
    """

    schema: pa.Schema
    #: Of each prompt that a row is asked with: record column -> name.
    names: tuple[Mapping[str, str], ...]
    #: `caption_NAME` of the first of several prompts, equal to its `caption`.
    copy: str | None = None
    #: Under `sample`: which prompt it was.
    prompt: str | None = None

    @property
    def captions(self) -> tuple[str, ...]:
        """What the columns with captions are called, the first prompt's first."""
        copy = () if self.copy is None else (self.copy,)
        return (*(names[CAPTION] for names in self.names), *copy)


def columns_of(
    manifest: pa.Schema,
    naming: Naming,
    *,
    prefix: str = "",
    fields: Fields = NO_FIELDS,
    records: pa.Schema = schema.RECORDS,
) -> Columns:
    """The columns of a dataset. prefix: `output.prefix`. fields: `reply.fields`, which stand beside
    the caption. records: the columns that the output's records have (`store/record_shape.py`)."""
    kinds = {field.name: field for field in (*records, *REVIEW, *fields.columns)}
    taken = {name.lower() for name in manifest.names}
    columns = [field for field in manifest if not _only_bytes(manifest, field)]

    def add(column: str, suffix: str = "", name: str | None = None) -> str:
        base = prefix + (name or column) + suffix
        free, number = base, 1
        while free.lower() in taken:
            free = f"{base}_new{number if number > 1 else ''}"
            number += 1
        taken.add(free.lower())
        columns.append(kinds[column].with_nullable(True).with_name(free))
        return free

    several = [prompt.name for prompt in naming.prompts] if len(naming.prompts) > 1 else []
    each = several if naming.mode == "each" else []
    own = [name for name in (CAPTION, *fields.names, *COLUMNS[1:]) if name in kinds]
    names = [{column: add(column) for column in own}]
    for other in each[1:]:
        names.append({column: add(column, f"_{other}") for column in own if column not in OF_IMAGE})
    copy = add(CAPTION, f"_{each[0]}") if each else None
    prompt = add("prompt_id", name="prompt") if several and not each else None
    whole = pa.schema(columns, metadata=schema.METADATA)
    whole = with_features(whole, read_features(manifest.metadata))
    return Columns(schema=whole, names=tuple(names), copy=copy, prompt=prompt)


def caption_words(names: Sequence[str]) -> str:
    """In which columns the captions are, for the last line of a command."""
    return f"captions are in column{'s' * (len(names) > 1)} {', '.join(names)}"


def decided(
    batches: Iterable[pa.RecordBatch],
    columns: Columns,
    decisions: Mapping[str, Decision],
    *,
    only: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Rows of a dataset with what people decided about the captions of each prompt. only: leave out
    rows with a caption that nobody has approved."""
    for names in columns.names:
        batches = reviewed(batches, names, decisions, only=only)
    if columns.copy is None:
        yield from batches
        return
    at = columns.schema.get_field_index(columns.copy)
    for batch in batches:
        caption = batch.column(columns.names[0][CAPTION])
        yield batch.set_column(at, batch.schema.field(at), caption)


def _only_bytes(manifest: pa.Schema, field: pa.Field) -> bool:
    """The image column of a manifest that has no other, its bytes left out."""
    return len(manifest) == 1 and bool(pa.types.is_null(field.type))
