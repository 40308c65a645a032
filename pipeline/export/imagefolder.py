"""A folder as Hugging Face's `imagefolder` loads it: pictures and `metadata.jsonl`.

`datasets.load_dataset("imagefolder", data_dir=DEST)` gives the pictures with every column, the
caption among them. The pictures are copied as they are. Rows without a caption are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.export.base import Rows
from pipeline.export.captioned import captioned
from pipeline.export.cells import to_json
from pipeline.export.names import FOLDER_FILES, Names
from pipeline.export.pictures import ending


@dataclass(frozen=True, slots=True)
class ImagefolderExporter:
    """Pictures in folders of 10,000, and their columns."""

    folder: bool = True
    endings: tuple[str, ...] = ()

    def write(self, rows: Rows, dest: Path) -> int:
        written = 0
        with (dest / "metadata.jsonl").open("wb") as metadata:
            for row in captioned(rows, others=True):
                picture = rows.pictures.read(row.cell)
                inner = dest / f"{written // FOLDER_FILES:05d}"
                inner.mkdir(exist_ok=True)
                end = ending(picture)
                file = inner / (Names(inner, end).of(row.cell, row.key, row.ordinal) + end)
                file.write_bytes(picture)
                # The loader keeps `file_name` and `image` for itself.
                taken = {"file_name", "image", "caption"}
                others = {f"manifest_{n}" if n in taken else n: v for n, v in row.others.items()}
                line = {"file_name": str(file.relative_to(dest)), rows.caption: row.caption}
                metadata.write(to_json(line | others) + b"\n")
                written += 1
        return written


IMAGEFOLDER = ImagefolderExporter()
