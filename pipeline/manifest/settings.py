"""The job file's `manifest` section."""

from __future__ import annotations

import sys
from typing import Literal

from pipeline.settings import Settings

Format = Literal["auto", "parquet", "csv", "tsv", "jsonl", "json", "txt", "folder", "webdataset"]


class ManifestSettings(Settings):
    path: str | list[str]
    """File, glob, list, folder, or URL; from the current folder."""
    format: Format = "auto"
    """How to read it; compression is seen through."""
    image: str = "auto"
    """Column with the URL, path, bytes or {bytes, path} of the image."""
    id: str | None = None
    """Column copied to the record as `id`."""
    where: str | None = None
    """SQL predicate on manifest columns."""

    @property
    def bounds(self) -> tuple[int, int]:
        """The rows of its files that are read: from the first up to the second."""
        return 0, sys.maxsize


class ManifestRange(ManifestSettings):
    """A part of a manifest: rows from `start` up to `stop`, counted over all files before `where`.
    Never read from a job file."""

    start: int
    stop: int

    @property
    def bounds(self) -> tuple[int, int]:
        return self.start, self.stop
