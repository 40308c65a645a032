"""What every export format is given and gives back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipeline.export.options import ExportOptions
from pipeline.export.pictures import Pictures

#: Lines of one kind that are shown; the rest is a number.
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows to export, once through."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    #: How to come by the pictures, for formats that hold them.
    pictures: Pictures
    #: The columns of caption and key.
    caption: str = "caption"
    key: str = "key"
    #: Further columns with captions, those of several prompts.
    more_captions: tuple[str, ...] = ()
    #: What a card calls the dataset.
    title: str = "Captions"
    options: ExportOptions = field(default_factory=ExportOptions)


@dataclass(slots=True)
class Written:
    """What an export has written."""

    #: Rows (or files, where each is one row) in DEST.
    rows: int = 0
    #: What `rows` counts.
    unit: str = "rows"
    #: Lines for the user, a few of each kind.
    notes: list[str] = field(default_factory=list)
    #: Captions that could not be written; the export ends with 1.
    refused: int = 0


class Notes:
    """Lines of one kind, of which only the first are kept."""

    def __init__(self, more: str) -> None:
        self._more = more
        self._kept: list[str] = []
        self.count = 0

    def add(self, line: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self._kept.append(line)

    def lines(self) -> list[str]:
        """What is kept, and how many more there were."""
        more = self.count - len(self._kept)
        return [*self._kept, f"{more:,} more {self._more}"] if more else self._kept


class Exporter(Protocol):
    """One format. One more format = one more file + one line in `EXPORTS`."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of DEST that mean this format."""
        ...

    @property
    def pictures(self) -> bool:
        """Does it always hold the picture files?"""
        ...

    def folder(self, dest: Path) -> bool:
        """Is DEST a folder (True) or one file?"""
        ...

    def write(self, rows: Rows, dest: Path) -> Written:
        """Write everything to `dest`, which nobody looks at yet."""
        ...
