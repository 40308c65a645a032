"""How many rows a manifest has, as far as that is known without reading it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import FileInfo
from pipeline.manifest.settings import ManifestRange, ManifestSettings

#: Formats with a row in a line, but for line breaks inside of cells.
_LINES = frozenset({"csv", "tsv", "jsonl", "txt"})
#: Bytes of the first file whose lines are counted.
_SAMPLE = 1 << 18


def known_rows(settings: ManifestSettings, looks: Sequence[FileInfo]) -> int | None:
    """The rows of its files, before `where`; None where they have to be read for that."""
    if isinstance(settings, ManifestRange):
        return settings.stop - settings.start
    counts = [look.rows for look in looks if look.rows is not None]
    return sum(counts) if len(counts) == len(looks) else None


def about_rows(format: str, files: Sequence[ManifestFile]) -> int | None:  # noqa: A002 - the job's word
    """About how many rows text files on this machine have, by their size and their first lines. None
    where that tells nothing: other formats, compressed files. ManifestError when none can be read."""
    if format not in _LINES or any(file.path is None or not file.size for file in files):
        return None
    with files[0].open() as file:
        head = file.read(_SAMPLE)
    lines = head.count(b"\n")
    if not lines or b"\0" in head:
        return None
    return sum(file.size or 0 for file in files) * lines // len(head)
