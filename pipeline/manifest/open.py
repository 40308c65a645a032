"""A manifest: rows from one or many files of any format, streamed in a fixed order.

`open_manifest` looks (footers, headers, first cells) and refuses what cannot work, each with one
line; reading happens in `Manifest.batches` and `tables`, which give the same rows in the same order
however often they are called, or stop with 65 when a file has changed since it was opened. Only the columns that are needed are read, in batches
of bounded size, so that ten million rows take no more memory than ten thousand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from pipeline.errors import JobError, ManifestError
from pipeline.manifest import columns, image_column, places
from pipeline.manifest.cells import BatchRows
from pipeline.manifest.columns import same_header
from pipeline.manifest.dotted import InnerColumn, inner_column, values_inside
from pipeline.manifest.formats import settle
from pipeline.manifest.places import ManifestFile, resolve
from pipeline.manifest.readers import READERS
from pipeline.manifest.readers.base import FileInfo, Want
from pipeline.manifest.row_counts import known_rows
from pipeline.manifest.row_range import RowRange
from pipeline.manifest.settings import ManifestSettings
from pipeline.manifest.several_folders import moved, partitions, starts, with_values
from pipeline.manifest.where import Predicate
from pipeline.model import Row

#: Rows handed on at once.
ROWS = 1_024
#: The same where they stay columns.
TABLE_ROWS = 4_096
CHANGED = "the manifest changed while it was read; run again"


@dataclass(frozen=True, slots=True)
class _File:
    place: ManifestFile
    look: FileInfo
    #: What its relative image paths begin with.
    prefix: str
    #: Columns that its folders give, as `split=train` does.
    partition: Mapping[str, str | None]


class Manifest:
    """An opened manifest. Made by `open_manifest`; holds no file open between reads."""

    def __init__(
        self,
        settings: ManifestSettings,
        format: str,  # noqa: A002 - the job file's word
        files: list[_File],
        folder: Path | None,
        job_columns: Sequence[str],
        base: Path | None = None,
    ) -> None:
        #: As the job has them.
        self.settings = settings
        self._files = files
        self._reader = READERS[format]
        #: As messages show it.
        self.path = f"{files[0].place.shown}{f' (and {len(files) - 1} more)' if files[1:] else ''}"
        #: Base of relative image paths; None for a URL.
        self.folder = folder
        self.format = format
        self._schema = columns.union([(f.place.shown, f.look.schema) for f in files])
        for name in files[0].partition:
            self._schema = self._schema.append(pa.field(name, pa.string()))
        #: All columns of the files.
        self.names: tuple[str, ...] = tuple(self._schema.names)
        self._where = Predicate(settings.where, self._schema) if settings.where else None
        self.image = settings.image
        if settings.image == "auto":
            sample = self._sample(image_column.candidates(self._schema))
            beside = self._nested, base or folder
            self.image = image_column.choose(self._schema, sample, self.path, *beside)
        #: Values inside columns that are named with dots; they stand in the schema, too.
        self._inner = dict(self._inner_columns((self.image, settings.id, *job_columns)))
        for name, inner in self._inner.items():
            self._schema = self._schema.append(pa.field(name, inner.kind))
        image_column.check(self._schema, self.image, self.path)
        self._read_as_text()
        if settings.id is not None and settings.id not in self._schema.names:
            raise ManifestError(
                f"manifest {self.path}: no column {settings.id!r} (manifest.id)"
                + columns.nearest(settings.id, self.names)
            )
        #: The columns that the prompt and the identity name.
        self.columns = tuple(dict.fromkeys(job_columns))
        self._check_columns()
        #: Columns whose pictures are bytes in a struct that has no path beside them.
        self._pathless = self._without_paths()
        #: The rows of its files, before `where`; None: not known without reading.
        self.file_rows = known_rows(settings, [f.look for f in files])
        #: Known without reading, else None.
        self.rows = self.file_rows if self._where is None else None
        self.places = [file.place for file in files]

    def _check_columns(self) -> None:
        for name in self.columns:
            if name not in self._schema.names:
                raise JobError(
                    f"manifest {self.path}: no column {name!r}, which the job names"
                    + columns.nearest(name, self.names)
                )

    def _inner_columns(self, names: Sequence[str | None]) -> Iterator[tuple[str, InnerColumn]]:
        for name in dict.fromkeys(names):
            if name is None or name in self.names:
                continue
            if (inner := inner_column(self._schema, name)) is None:
                continue
            head = self._head([inner.column])
            # A text is taken for JSON when one of its first cells has such a value.
            if head is None or inner.taken(head.column(inner.column)).null_count < head.num_rows:
                yield name, inner

    @property
    def remote(self) -> bool:
        """Did it, or a part of it, come over the network?"""
        return any(places.is_remote(file.place.name) for file in self._files)

    @property
    def shards(self) -> frozenset[str]:
        """Its own tar files, which its rows name."""
        if self.format != "webdataset":
            return frozenset()
        return frozenset(str(Path(file.place.name).absolute()) for file in self._files)

    def other_images(self) -> tuple[str, ...]:
        """Columns that look like pictures beside the one that the job takes. Blocking."""
        sample = self._sample(image_column.candidates(self._schema))
        return image_column.others(self._schema, sample, self.image)

    @property
    def pictures(self) -> tuple[str, ...]:
        """The image column, and others of `{bytes, path}`."""
        others = (field.name for field in self._schema if columns.path_only(field.type))
        return (self.image, *(name for name in others if name != self.image))

    def _without_paths(self) -> frozenset[str]:
        structs = [
            n
            for n in self.pictures
            if columns.is_image_struct(columns.listed(self._schema.field(n).type))
        ]
        return frozenset(
            name
            for name, cells in (self._sample(structs) if structs else {}).items()
            if cells
            and not any(cell["path"] for cell in cells if isinstance(cell, dict) and "path" in cell)
        )

    def _sample(self, names: Sequence[str]) -> dict[str, list[object]]:
        """The first cells of some columns."""
        if (head := self._head(names)) is None:
            return {}
        return {
            n: [image_column.unwrapped(cell) for cell in head.column(n).to_pylist()]
            for n in head.schema.names
        }

    def _read_as_text(self) -> None:
        """Take an image column of bytes for text where its first cells are."""
        at = self._schema.get_field_index(self.image)
        if columns.is_bytes(self._schema.field(at).type) and self.image in self.names:
            cells = self._sample([self.image]).get(self.image, ())
            if image_column.are_texts(cells):
                self._schema = self._schema.set(at, pa.field(self.image, pa.string()))

    def _nested(self) -> dict[str, list[object]]:
        """The first values inside of structs and of JSON."""
        able = [f.name for f in self._schema if columns.may_nest(f.type)]
        return values_inside(self._sample(able) if able else {})

    def _head(self, names: Sequence[str]) -> pa.RecordBatch | None:
        """The first rows of the first file that has any."""
        for file in self._files:
            for batch in self._reader.read(
                file.place, replace(self._want(file, names), first=True)
            ):
                if batch.num_rows:
                    return batch.slice(0, image_column.SAMPLE)
        return None

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

    @property
    def trusted(self) -> bool:
        """Does the fingerprint change with the content? Not without a validator of each file."""
        return all(file.place.stamp for file in self._files)

    def check_unchanged(self) -> None:
        """ManifestError (65) when a file is not what it was when the manifest was opened."""
        for file in self._files:
            self._check(file)

    def _check(self, file: _File) -> None:
        if self.format == "folder":
            return  # a name is the whole row: one more or less makes no other row wrong
        try:
            now = places.current(file.place)
        except ManifestError as error:
            raise ManifestError(f"{error}; {CHANGED}") from error
        if (now.size, now.stamp) != (file.place.size, file.place.stamp):
            raise ManifestError(f"manifest {file.place.shown}: {CHANGED}")

    @property
    def _needed(self) -> list[str]:
        """The columns that rows are made of."""
        more = [] if self.settings.id is None else [self.settings.id]
        return [self.image, *self.columns, *more]

    def batches(self) -> Iterator[list[Row]]:
        """All rows, in lists of at most `ROWS`, none of them empty. Blocking and streamed.

        ManifestError (65) when the manifest changes meanwhile.
        """
        for batch in self._read(self._needed):
            for at in range(0, batch.num_rows, ROWS):
                yield list(self._rows(batch.slice(at, ROWS)))

    def pieces(self, bounds: Sequence[int]) -> Iterator[tuple[int, BatchRows]]:
        """Rows between bounds, each batch with the number of the two between which it stands."""
        rows = RowRange(bounds)
        yield from ((rows.piece, self._rows(b)) for b in self._read(self._needed, rows=rows))

    def count(self) -> int:
        """The rows of its files, before `where`, read where they are not known. Blocking."""
        if self.file_rows is None:
            each = ((f, self._want(f, [self.image], frozenset(self.pictures))) for f in self._files)
            self.file_rows = sum(len(b) for f, w in each for b in self._unchanged(f, w, RowRange()))
        return self.file_rows

    def _rows(self, batch: pa.RecordBatch) -> BatchRows:
        return BatchRows(
            batch=batch, image=self.image, id_column=self.settings.id, columns=self.columns
        )

    def arrow(self, *, pictures: Collection[str] = ()) -> pa.Schema:
        """The columns of `tables`: all but image bytes; `{bytes, path}` is its path, as text, where
        the first rows have paths at all. pictures: columns that keep their bytes.

        Where bytes are the only column, it stays as a column of nulls: rows need one.
        """
        fields = []
        for field in self._schema:
            if field.name in self._inner and field.name != self.image:
                continue
            if field.name == self.image and not columns.is_text(columns.listed(field.type)):
                field = field.with_type(columns.listed(field.type))
            if field.name in pictures:
                fields.append(pa.field(field.name, image_column.stored_type(field.type)))
            elif field.name in self._pathless or (
                field.name == self.image and columns.is_bytes(field.type)
            ):
                continue
            elif self._is_image_struct(field):
                fields.append(pa.field(field.name, pa.string()))
            else:
                fields.append(field)
        features = next((f.look.huggingface for f in self._files if f.look.huggingface), None)
        metadata = {b"huggingface": features} if features else None
        return pa.schema(fields or [pa.field(self.image, pa.null())], metadata=metadata)

    def tables(
        self, *, pictures: Collection[str] = ()
    ) -> Iterator[tuple[pa.RecordBatch, BatchRows]]:
        """All columns but image bytes (of the columns `pictures`, those as well), at most
        `TABLE_ROWS` rows at once, and beside them the rows, made from the same read."""
        schema = self.arrow(pictures=pictures)
        names = [*schema.names, *self._needed]
        for batch in self._read(names, whole={self.image, *pictures}):
            arrays = []
            for field in schema:
                column = batch.column(field.name)
                if columns.is_list(column.type) and not columns.is_list(field.type):
                    column = columns.only_elements(column)
                if pa.types.is_struct(column.type) and pa.types.is_string(field.type):
                    column = columns.paths_of(column)
                elif pa.types.is_null(field.type):
                    column = pa.nulls(len(column))
                arrays.append(column if column.type == field.type else column.cast(field.type))
            table = pa.RecordBatch.from_arrays(arrays, schema=schema)
            for at in range(0, batch.num_rows, TABLE_ROWS):
                yield table.slice(at, TABLE_ROWS), self._rows(batch.slice(at, TABLE_ROWS))

    def _is_image_struct(self, field: pa.Field) -> bool:
        return columns.path_only(field.type) or (
            field.name == self.image and columns.is_image_struct(field.type)
        )

    def _read(
        self,
        names: Sequence[str],
        *,
        whole: Collection[str] | None = None,
        rows: RowRange | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Batches with the columns `names`, over all files, `where` applied.

        rows: None: those of the settings. whole: read `{bytes, path}` columns without their bytes, all but these; None: with them.
        Each batch is handed on only while its file is what it was when it was opened.
        """
        wanted = [n for n in self.names if n in names]
        extra = self._where.columns if self._where else ()
        inner = {n: c for n, c in self._inner.items() if n in names}
        outer = {c.column for c in inner.values()}
        reading = [n for n in self.names if n in names or n in extra or n in outer]
        without = frozenset[str]()
        if whole is not None:
            without = frozenset(self.pictures) - {*extra, *outer, *whole}
        rows = rows or RowRange(self.settings.bounds)
        for file in self._files:
            if rows.skips(file.look.rows):
                continue
            batches = self._unchanged(file, self._want(file, reading, without), rows)
            fit = self._fit(batches, reading, without)
            for batch in self._where.kept(fit) if self._where else fit:
                if batch.num_rows:
                    for name, column in inner.items():
                        batch = batch.append_column(name, column.taken(batch.column(column.column)))
                    yield self._placed(batch.select([*wanted, *inner]), file.prefix)
        self.check_unchanged()

    def _placed(self, batch: pa.RecordBatch, prefix: str) -> pa.RecordBatch:
        """The batch with its image paths as they are from the manifest's folder."""
        at = batch.schema.get_field_index(self.image)
        if not prefix or at < 0:
            return batch
        return batch.set_column(at, batch.field(at), moved(batch.column(at), prefix))

    def _unchanged(self, file: _File, want: Want, rows: RowRange) -> Iterator[pa.RecordBatch]:
        """A file's batches, each checked before it is handed on; remote ones at the end alone."""
        try:
            want = replace(want, start=rows.start(file.look.rows))
            for batch in rows.cut(self._reader.read(file.place, want)):
                if file.place.path is not None:
                    self._check(file)
                yield with_values(batch, file.partition)
        except ManifestError:
            self._check(file)  # a row that is made of two versions is no damage of either
            raise

    def _want(
        self, file: _File, names: Sequence[str], without: frozenset[str] = frozenset()
    ) -> Want:
        """What to read of one file; one column at least, as a batch without any has no length."""
        has = tuple(n for n in file.look.schema.names if n in names)
        return Want(columns=has or tuple(file.look.schema.names[:1]), path_only=without)

    def _fit(
        self, batches: Iterator[pa.RecordBatch], names: Sequence[str], without: frozenset[str]
    ) -> Iterator[pa.RecordBatch]:
        fields = [self._schema.field(name) for name in names]
        schema = pa.schema([columns.without_bytes(f) if f.name in without else f for f in fields])
        return (columns.fitted(batch, schema) for batch in batches)


def open_manifest(
    settings: ManifestSettings, *, columns: Sequence[str] = (), root: Path | None = None
) -> Manifest:
    """Open the job's manifest.

    columns: those that the prompt and the identity name. root: where the job says that relative
    image paths start; None: in each file's folder. Raises ManifestError (65) when it
    cannot be read or has no image column, JobError (78) when the job names what it lacks.
    """
    matches, format_ = settle(resolve(settings.path), settings.format)
    reader = READERS[format_]
    looks = [reader.look(place) for place in matches]
    same_header([(f.shown, k.schema, k.nameless) for f, k in zip(matches, looks, strict=True)])
    pictures = format_ == "folder" and len(matches) > 1
    folder, prefixes = starts(matches, root if pictures else None)
    if root is not None and not pictures:
        prefixes = [""] * len(matches)
    names = {name for look in looks for name in look.schema.names}
    values = partitions([place.name for place in matches], names)
    if format_ in ("folder", "webdataset"):
        values = [{} for _ in matches]
    files = [_File(*parts) for parts in zip(matches, looks, prefixes, values, strict=True)]
    return Manifest(settings, format_, files, folder, columns, root)
