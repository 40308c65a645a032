"""A manifest: rows from one or many files of any format, streamed in a fixed order.

`open_manifest` looks (footers, headers, first cells) and refuses what cannot work, each with one
line; reading happens in `Manifest.batches`, `tables` and `feed`, which give the same rows in the
same order however often they are called. Only the columns that are needed are read, in batches
of bounded size, so that ten million rows take no more memory than ten thousand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import JobError, ManifestError
from pipeline.manifest import cells, image_column
from pipeline.manifest.columns import (
    fitted,
    is_bytes,
    is_image_struct,
    nearest,
    path_only,
    prompt_type,
    union,
)
from pipeline.manifest.formats import settle
from pipeline.manifest.places import Place, resolve
from pipeline.manifest.readers import READERS
from pipeline.manifest.readers.base import Look, Want
from pipeline.manifest.settings import BAD, ORDINAL, ManifestSettings
from pipeline.manifest.where import Predicate
from pipeline.records import Row

#: Rows handed on at once.
ROWS = 1_024


@dataclass(frozen=True, slots=True)
class _File:
    place: Place
    look: Look


class Manifest:
    """An opened manifest. Made by `open_manifest`; holds no file open between reads."""

    def __init__(
        self,
        settings: ManifestSettings,
        format: str,  # noqa: A002 - the job file's word
        files: list[_File],
        columns: Sequence[str],
    ) -> None:
        #: As the job has them.
        self.settings = settings
        self._files = files
        self._reader = READERS[format]
        first = files[0].place
        #: As messages show it.
        self.path = first.shown + (f" (and {len(files) - 1} more)" if len(files) > 1 else "")
        #: Base of relative image paths; None for a URL.
        self.folder: Path | None = None
        if first.path is not None:
            self.folder = (first.path if first.folder else first.path.parent).absolute()
        self.format = format
        self._schema = union([(f.place.shown, f.look.schema) for f in files])
        #: All columns.
        self.names: tuple[str, ...] = tuple(self._schema.names)
        self._where = Predicate(settings.where, self._schema) if settings.where else None
        #: The column of the images.
        self.image = settings.image
        if settings.image == "auto":
            able = image_column.candidates(self._schema)
            self.image = image_column.choose(self._schema, self._sample(able), self.path)
        else:
            image_column.check(self._schema, settings.image, self.path)
        if settings.id is not None and settings.id not in self.names:
            raise ManifestError(
                f"manifest {self.path}: no column {settings.id!r} (manifest.id)"
                + nearest(settings.id, self.names)
            )
        #: The columns that the prompt and the identity name.
        self.columns = tuple(dict.fromkeys(columns))
        self._check_columns()
        #: The pictures are bytes in a struct that has no path beside them.
        self._pathless = self._without_paths()
        counts = [f.look.rows for f in files]
        #: Known without reading, else None.
        self.rows: int | None = None
        if self._where is None and None not in counts:
            self.rows = sum(n for n in counts if n is not None)

    def _check_columns(self) -> None:
        for name in self.columns:
            if name not in self.names:
                raise JobError(
                    f"manifest {self.path}: no column {name!r}, which the job names"
                    + nearest(name, self.names)
                )
            kind = self._schema.field(name).type
            if prompt_type(kind) is None and name != self.image:
                raise JobError(
                    f"manifest {self.path}: column {name!r} is {kind}, which a prompt or identity "
                    "cannot read; use a column of text, numbers or dates"
                )

    def _without_paths(self) -> bool:
        if not is_image_struct(self._schema.field(self.image).type):
            return False
        cells = self._sample([self.image]).get(self.image, [])
        return bool(cells) and not any(
            cell["path"] for cell in cells if isinstance(cell, dict) and "path" in cell
        )

    def _sample(self, names: Sequence[str]) -> dict[str, list[object]]:
        """The first cells of some columns, of the first file that has rows."""
        for file in self._files:
            for batch in self._reader.read(file.place, self._want(file, names)):
                if batch.num_rows:
                    head = batch.slice(0, image_column.SAMPLE)
                    return {n: head.column(n).to_pylist() for n in head.schema.names}
        return {}

    def fingerprint(self) -> str:
        """32 hex that change whenever a file or a setting that matters does. Cheap."""
        digest = hashlib.sha256()
        chosen = self.settings.model_dump(exclude={"path"}) | {"image": self.image}
        digest.update(json.dumps(chosen, sort_keys=True).encode())
        for file in self._files:
            place = file.place
            digest.update(
                json.dumps([place.name, place.size, place.stamp, file.look.mark]).encode()
            )
        return digest.hexdigest()[:32]

    def batches(
        self, *, start: int = 0, only: bytes | bytearray | None = None
    ) -> Iterator[list[Row]]:
        """Rows from ordinal `start` on; with `only`, those whose bit (LSB first) is set.

        Blocking and streamed; lists of at most `ROWS`, none of them empty.
        """
        needed = [self.image, *self.columns]
        if self.settings.id is not None:
            needed.append(self.settings.id)
        ordinal = start
        for batch in self._read(needed, start=start):
            ordinals: Sequence[int] = range(ordinal, ordinal + batch.num_rows)
            ordinal += batch.num_rows
            if only is not None:
                mask = _bits(only, ordinal - batch.num_rows, batch.num_rows)
                if not mask.true_count:
                    continue
                ordinals = pa.array(ordinals).filter(mask).to_pylist()
                batch = batch.filter(mask)
            batch = cells.prepared(batch, image=self.image, columns=self.columns)
            for at in range(0, batch.num_rows, ROWS):
                yield cells.rows(
                    batch.slice(at, ROWS),
                    ordinals[at : at + ROWS],
                    image=self.image,
                    id_column=self.settings.id,
                    columns=self.columns,
                )

    def count(self) -> int:
        """How many rows there are, where `rows` does not tell: reads everything. Blocking."""
        return sum(batch.num_rows for batch in self._read([self.image]))

    def feed(self) -> Iterator[pa.RecordBatch]:
        """What a key is made of, for SQL: `ORDINAL`, `BAD`, and the image and job columns.

        The same cells in the same types as `batches` gives, for text image columns.
        """
        needed = [self.image, *self.columns]
        ordinal = 0
        for batch in self._read(needed):
            batch = cells.prepared(batch, image=self.image, columns=self.columns)
            bad = cells.verdicts(
                batch, image=self.image, id_column=self.settings.id, columns=self.columns
            )
            size = batch.num_rows
            mask = pa.repeat(False, size) if bad is None else bad.is_valid()
            at = pa.arange(ordinal, ordinal + size)
            ordinal += size
            yield pa.RecordBatch.from_arrays(
                [at, mask, *batch.columns], names=[ORDINAL, BAD, *batch.schema.names]
            )

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of `feed` beside its own two, in its order."""
        return tuple(n for n in self.names if n == self.image or n in self.columns)

    @property
    def textual(self) -> bool:
        """Does the image column hold text, so that keys can be computed in SQL?"""
        return bool(pa.types.is_string(self._image_type()))

    def _image_type(self) -> pa.DataType:
        return image_column.stored_type(self._schema.field(self.image).type)

    def arrow(self, *, bytes_too: bool = False) -> pa.Schema:
        """The columns of `tables`: all but image bytes; `{bytes, path}` is its path, as text, where
        the first rows have paths at all.

        Where bytes are the only column, it stays as a column of nulls: rows need one.
        """
        fields = []
        for field in self._schema:
            if bytes_too and field.name == self.image:
                fields.append(pa.field(field.name, self._image_type()))
            elif field.name == self.image and (is_bytes(field.type) or self._pathless):
                continue
            elif self._is_image_struct(field):
                fields.append(pa.field(field.name, pa.string()))
            else:
                fields.append(field)
        features = next((f.look.huggingface for f in self._files if f.look.huggingface), None)
        metadata = {b"huggingface": features} if features else None
        return pa.schema(fields or [pa.field(self.image, pa.null())], metadata=metadata)

    def tables(self, *, bytes_too: bool = False) -> Iterator[pa.RecordBatch]:
        """All columns but image bytes (with `bytes_too`, those as well): same rows, same order."""
        schema = self.arrow(bytes_too=bytes_too)
        for batch in self._read(schema.names, bytes_too=bytes_too):
            arrays = []
            for field in schema:
                column = batch.column(field.name)
                if pa.types.is_struct(column.type) and pa.types.is_string(field.type):
                    column = _path_of(column)
                elif pa.types.is_null(field.type):
                    column = pa.nulls(len(column))
                arrays.append(column if column.type == field.type else column.cast(field.type))
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _is_image_struct(self, field: pa.Field) -> bool:
        return path_only(field.type) or (field.name == self.image and is_image_struct(field.type))

    def _read(
        self, names: Sequence[str], *, start: int = 0, bytes_too: bool | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Batches with the columns `names`, over all files, `where` applied.

        bytes_too: None reads cells whole; False reads `{bytes, path}` columns without their
        bytes; True does so for all but the image column.
        """
        wanted = [n for n in self.names if n in names]
        extra = self._where.columns if self._where else ()
        reading = [n for n in self.names if n in names or n in extra]
        without = frozenset[str]()
        if bytes_too is not None:
            structs = (f.name for f in self._schema if path_only(f.type) and f.name not in extra)
            without = frozenset(n for n in structs if not (bytes_too and n == self.image))
        for file in self._files:
            rows = file.look.rows
            if self._where is None and rows is not None and start >= rows:
                start -= rows
                continue
            ahead = start if self._where is None and rows is not None else 0
            start -= ahead
            batches = self._reader.read(file.place, self._want(file, reading, without, ahead))
            fit = self._fit(batches, reading, without)
            for batch in self._where.kept(fit) if self._where else fit:
                if start >= batch.num_rows:
                    start -= batch.num_rows
                    continue
                yield batch.slice(start).select(wanted)
                start = 0

    def _want(
        self,
        file: _File,
        names: Sequence[str],
        without: frozenset[str] = frozenset(),
        start: int = 0,
    ) -> Want:
        """What to read of one file; one column at least, as a batch without any has no length."""
        has = tuple(n for n in file.look.schema.names if n in names)
        return Want(
            columns=has or tuple(file.look.schema.names[:1]), path_only=without, start=start
        )

    def _fit(
        self, batches: Iterator[pa.RecordBatch], names: Sequence[str], without: frozenset[str]
    ) -> Iterator[pa.RecordBatch]:
        fields = [self._schema.field(name) for name in names]
        schema = pa.schema(
            [pa.field(f.name, _bytes_gone(f.type)) if f.name in without else f for f in fields]
        )
        return (fitted(batch, schema) for batch in batches)


def _bytes_gone(kind: pa.DataType) -> pa.DataType:
    return pa.struct([f for f in kind if f.name == "path"])


def _path_of(column: pa.Array) -> pa.Array:
    """The paths of an image struct column as text."""
    import pyarrow.compute as pc

    if column.type.get_field_index("path") < 0:
        return pa.nulls(len(column), pa.string())
    return pc.struct_field(column, "path").cast(pa.string())


def _bits(bitmap: bytes | bytearray, start: int, size: int) -> Any:
    """Part of a bitmap (least significant bit first) as a boolean array; past its end: false."""
    have = max(0, min(size, len(bitmap) * 8 - start))
    bits = pa.Array.from_buffers(pa.bool_(), have, [None, pa.py_buffer(bitmap)], offset=start)
    return bits if have == size else pa.concat_arrays([bits, pa.repeat(False, size - have)])


def open_manifest(settings: ManifestSettings, *, columns: Sequence[str] = ()) -> Manifest:
    """Open the job's manifest.

    columns: those that the prompt and the identity name. Raises ManifestError (65) when it
    cannot be read or has no image column, JobError (78) when the job names what it lacks.
    """
    places, format_ = settle(resolve(settings.path), settings.format)
    reader = READERS[format_]
    files = [_File(place, reader.look(place)) for place in places]
    return Manifest(settings, format_, files, columns)
