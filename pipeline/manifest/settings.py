"""The job file's `manifest` section."""

from __future__ import annotations

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
