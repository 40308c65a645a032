"""Files of several folders as one manifest: where their relative image paths start, and what the
folders of a partitioned table say.

`a/metadata.csv` and `b/metadata.csv` may both name a `0.jpg`. Each counts from its own file's
folder, and becomes `a/0.jpg` and `b/0.jpg`, from the folder that they have in common.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.columns import is_bytes, is_list, listed
from pipeline.manifest.places import ManifestFile
from pipeline.patterns import lazy
from pipeline.picture_cell import NotOnePicture, picture_of

#: What is no relative path: blank, a URL, an absolute path, somebody's home.
_ANCHORED = lazy(r"\s*(?:$|[A-Za-z][A-Za-z0-9+.-]*://|data:|file:/|[/~])", re.IGNORECASE)
#: A longer text is no path.
_LONGEST = 4_096
#: `split=train`, a folder of a partitioned table.
_PARTITION = lazy(r"([^=/]+)=([^/]*)")
#: What Hive writes for a value that is not there.
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def starts(files: Sequence[ManifestFile], root: Path | None) -> tuple[Path | None, list[str]]:
    """The folder where relative paths start (None: the manifest is elsewhere), and for each file
    what to put before its own. root: a folder to take for it."""
    if any(file.path is None for file in files):
        return None, [""] * len(files)
    folders = [_folder(file) for file in files]
    common = os.path.commonpath(folders) if root is None else os.path.abspath(root)  # noqa: PTH100
    below = [os.path.relpath(folder, common) for folder in folders]
    return Path(common), ["" if path == "." else path for path in below]


def _folder(file: ManifestFile) -> str:
    """Its own; of a part of a table the table's, as its rows were not written where they lie."""
    assert file.path is not None
    folder = file.path if file.folder else file.path.parent
    while not file.folder and _PARTITION.fullmatch(folder.name):
        folder = folder.parent
    return os.path.abspath(folder)  # noqa: PTH100 - links and `..` stay what they are


def moved(column: pa.Array, prefix: str) -> pa.Array:
    """An image column whose relative paths begin with `prefix`."""
    kind = column.type
    if is_bytes(listed(kind)) or isinstance(kind, pa.BaseExtensionType):
        return column
    if pa.types.is_struct(kind):
        at = kind.get_field_index("path")
        if at < 0:
            return column
        inner = [pc.struct_field(column, [i]) for i in range(kind.num_fields)]
        inner[at] = moved(inner[at], prefix)
        return pa.StructArray.from_arrays(inner, fields=list(kind), mask=column.is_null())
    if is_list(kind) and pa.types.is_struct(listed(kind)):
        return column
    return pa.array([_moved(cell, prefix) for cell in column.to_pylist()], kind)


def _moved(cell: object, prefix: str) -> object:
    if isinstance(cell, list):
        return [_moved(inner, prefix) for inner in cell] if len(cell) == 1 else cell
    if not isinstance(cell, str):
        return cell
    try:
        picture = picture_of(cell)
    except NotOnePicture:
        return cell
    if isinstance(picture, Mapping):
        picture = None if picture.get("bytes") else picture.get("path")
    if not isinstance(picture, str) or len(picture) > _LONGEST or _ANCHORED.match(picture):
        return cell
    return posixpath.join(prefix, picture)


def partitions(names: Sequence[str], columns: Collection[str]) -> list[Mapping[str, str | None]]:
    """Column -> value of each file, by folders such as `split=train` in its name. Where they do not
    name the same columns for all files, or one that the files have, there are none."""
    values = [dict(_partition(name)) for name in names]
    if any(v.keys() != values[0].keys() for v in values) or values[0].keys() & set(columns):
        return [{} for _ in names]
    return list(values)


def _partition(name: str) -> list[tuple[str, str | None]]:
    folders = re.split(r"[?#]", name, maxsplit=1)[0].split("/")[:-1]
    matches = [match for folder in folders if (match := _PARTITION.fullmatch(folder))]
    return [(m[1], None if m[2] == _NO_VALUE else unquote(m[2])) for m in matches]


def with_values(batch: pa.RecordBatch, values: Mapping[str, str | None]) -> pa.RecordBatch:
    """The batch with a column for each value."""
    for name, value in values.items():
        cells = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
        batch = batch.append_column(name, cells)
    return batch
