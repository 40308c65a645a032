"""A folder as Hugging Face's `imagefolder` loads it: pictures and `metadata.jsonl`.

`datasets.load_dataset("imagefolder", data_dir=DEST)` gives the pictures with every column, the
caption among them. The pictures are copied as they are, under numbers: the loader takes `test`,
`dev`, `valid` and the like in the name of any file or folder for a split, and loses the captions
of the rest. Rows without a caption are left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

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
            for row in captioned(rows, columns=True, name=column_name):
                picture = rows.pictures.read(row.cell)
                inner = f"{written.rows // FOLDER_FILES:05d}"
                if written.rows % FOLDER_FILES == 0:
                    (dest / inner).mkdir()
                name = f"{inner}/{row.ordinal:09d}{ending(picture)}"
                (dest / name).write_bytes(picture)
                line = f'{{"file_name":{json.dumps(name)},{row.columns[1:]}\n'
                metadata.write(line.encode())
                written.rows += 1
        return written


def column_name(name: str) -> str:
    """What a column is called beside the loader's own: it makes `image` of `file_name`, and reads
    a file for every other `…_file_name` too."""
    if name == "image":
        return "manifest_image"
    if name in ("file_name", "file_names"):
        return f"manifest_{name.replace('_', '')}"
    return re.sub("_file_name(s?)$", r"_filename\1", name)


IMAGEFOLDER = ImagefolderExporter()
