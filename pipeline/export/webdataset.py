"""One tar shard as WebDataset reads it: picture, caption (`.txt`) and columns (`.json`) a row.

Members of a row follow each other and share a key, which is the row's position. Times and owners
are fixed, so that the same rows give the same bytes. Rows without a caption are left out.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.export.base import Rows
from pipeline.export.captioned import captioned
from pipeline.export.cells import to_json
from pipeline.export.pictures import ending


@dataclass(frozen=True, slots=True)
class WebdatasetExporter:
    """One `.tar` file."""

    folder: bool = False
    endings: tuple[str, ...] = (".tar",)

    def write(self, rows: Rows, dest: Path) -> int:
        written = 0
        with tarfile.open(dest, "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in captioned(rows, others=True):
                picture = rows.pictures.read(row.cell)
                name = f"{row.ordinal:09d}"
                _add(tar, name + ending(picture), picture)
                _add(tar, f"{name}.txt", row.caption.encode())
                _add(tar, f"{name}.json", to_json({rows.caption: row.caption} | row.others))
                tar.members = []  # type: ignore[attr-defined] # it keeps all headers it has seen
                written += 1
        return written


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


WEBDATASET = WebdatasetExporter()
