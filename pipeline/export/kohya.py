"""kohya's `metadata.json`: picture -> caption, as sd-scripts' fine-tuning reads it (`in_json`).

A picture that is a file of this machine is named by its whole path, which sd-scripts finds whatever
`image_dir` is; any other by its name without ending. Rows without a caption are left out.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from pathlib import Path

from pipeline.export.base import Notes, Rows, Written
from pipeline.export.captioned import captioned, one_line
from pipeline.export.names import Refused, relative_path, text_of

Entries = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class KohyaExporter:
    """One JSON object."""

    endings: tuple[str, ...] = (".json",)
    pictures: bool = False

    def folder(self, dest: Path) -> bool:
        return False

    def write(self, rows: Rows, dest: Path) -> Written:
        written, refused, entries = Written(unit="pictures"), Notes("without an entry"), Entries()
        for row in captioned(rows):
            caption = row.caption if rows.options.keep_lines else one_line(row.caption)
            try:
                entry = entries.setdefault(_name(rows, row.cell) or row.key, {"caption": caption})
                if entry["caption"] != caption:
                    raise Refused("another picture or row has this name, and another caption")
            except Refused as why:
                refused.add(f"{text_of(row.cell)!r}: left out: {why}")
        # A path need not be UTF-8; its bytes become `\\udcff`, which Python's json reads back.
        with dest.open("w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(entries, file, ensure_ascii=False, indent=1)
        written.rows, written.refused = len(entries), refused.count
        written.notes += refused.lines()
        return written


def _name(rows: Rows, cell: object) -> str | None:
    if (path := rows.pictures.file(cell)) is not None and path.exists():
        return str(path)
    relative = relative_path(cell, rows.pictures.root)
    return posixpath.splitext(str(relative))[0] if relative is not None else None


KOHYA = KohyaExporter()
