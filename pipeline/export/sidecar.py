"""One text file a captioned image, named after it: `beach.jpg` gives `beach.txt`.

Trainers that read `NAME.jpg` + `NAME.txt` take the folder beside the pictures. Rows without a
caption have no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.export.base import Rows
from pipeline.export.captioned import captioned
from pipeline.export.names import Names


@dataclass(frozen=True, slots=True)
class SidecarExporter:
    """A folder of `.txt` files."""

    folder: bool = True
    endings: tuple[str, ...] = ()

    def write(self, rows: Rows, dest: Path) -> int:
        names, written = Names(dest, ".txt"), 0
        for row in captioned(rows):
            name = names.of(row.cell, row.key, row.ordinal)
            (dest / f"{name}.txt").write_text(row.caption + "\n", encoding="utf-8")
            written += 1
        return written


SIDECAR = SidecarExporter()
