"""What the command line of `export` asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How the files are written."""

    #: CSV: leave cells that a spreadsheet would run as formulas as they are.
    raw_cells: bool = False
    #: Sidecar, kohya: keep the line breaks of captions.
    keep_lines: bool = False
    #: Parquet: with the picture files.
    images: bool = False
    #: Replace files that this job did not write.
    overwrite: bool = False
    #: Hugging Face and WebDataset: bytes and rows of one shard.
    shard_size: int | None = None
    shard_rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is exported, and where to."""

    #: None: beside the pictures.
    dest: Path | None
    #: None: by DEST's ending.
    format: str | None = None
    beside: bool = False
    #: The recipe whose captions are wanted; None: the job's own.
    recipe: str | None = None
    #: The prompt (its name) whose captions are wanted; None: all, or the first in formats with one.
    prompt: str | None = None
    #: Trigger words around each caption.
    prefix: str | None = None
    suffix: str | None = None
    #: Only captions that somebody has accepted or edited.
    reviewed_only: bool = False
    options: ExportOptions = field(default_factory=ExportOptions)


def size_of(text: str | None) -> int | None:
    """`1GB` as bytes; UsageError for what is no size."""
    from pydantic import TypeAdapter, ValidationError

    from pipeline.settings import Size

    if text is None:
        return None
    try:
        size: int = TypeAdapter(Size).validate_python(text)
    except ValidationError:
        size = 0
    if size < 1:
        raise UsageError(f"--shard-size {text}: write a size as 268435456, 500MB or 1GB")
    return size
