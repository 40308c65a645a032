"""A folder as Hugging Face's `imagefolder` loads it: pictures and `metadata.jsonl`.

`datasets.load_dataset("imagefolder", data_dir=DEST)` gives the pictures with every column, the
caption among them. The pictures are copied as they are, under numbers: the loader takes `test`,
`dev`, `valid` and the like in the name of any file or folder for a split, and loses the captions
of the rest. Rows without a caption are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.export.base import Rows, Written
from pipeline.export.captioned import captioned
from pipeline.export.pictures import ending

#: Files in one folder; more of them make some file systems and most people slow.
FOLDER_FILES = 10_000


@dataclass(frozen=True, slots=True)
class ImagefolderExporter:
    """Pictures in folders of 10,000, and their columns."""

    endings: tuple[str, ...] = ()
    pictures: bool = True

    def folder(self, dest: Path) -> bool:
        return True

    def write(self, rows: Rows, dest: Path) -> Written:
        written = Written()
        with (dest / "metadata.jsonl").open("wb") as metadata:
            names = column_names(rows.schema.names)
            for row in captioned(rows, columns=True, name=names.__getitem__):
                picture = rows.pictures.read(row.cell)
                inner = f"{written.rows // FOLDER_FILES:05d}"
                if written.rows % FOLDER_FILES == 0:
                    (dest / inner).mkdir()
                name = f"{inner}/{row.ordinal:09d}{ending(picture)}"
                (dest / name).write_bytes(picture)
                columns = row.columns
                if "file_name" in columns:
                    columns = json.dumps(_renamed(json.loads(columns)), ensure_ascii=False)
                metadata.write(f'{{"file_name":{json.dumps(name)},{columns[1:]}\n'.encode())
                written.rows += 1
        return written


def column_names(columns: Sequence[str]) -> dict[str, str]:
    """What columns are called beside the loader's own, each by a name that is not in use."""
    plain = [column for column in columns if _plain(column) == column]
    names = dict(zip(plain, plain, strict=True))
    for column in columns:
        if column not in names:
            name = _plain(column)
            while name in names.values():
                name += "_"
            names[column] = name
    return names


def _plain(name: str) -> str:
    """The loader makes `image` of `file_name`, and reads a file for every other `…_file_name` too."""
    if name == "image":
        return "manifest_image"
    if name in ("file_name", "file_names"):
        return f"manifest_{name.replace('_', '')}"
    return re.sub("_file_name(s?)$", r"_filename\1", name)


def _renamed(value: Any) -> Any:
    """The same with no name inside of which the loader makes a file: it looks into objects, too."""
    if isinstance(value, list):
        return [_renamed(inner) for inner in value]
    if isinstance(value, dict):
        return {
            re.sub("(^|_)file_name(s?)$", r"\1filename\2", name): _renamed(inner)
            for name, inner in value.items()
        }
    return value


IMAGEFOLDER = ImagefolderExporter()
