"""Names for the files of an export: safe, and each one used once."""

from __future__ import annotations

from pathlib import Path

from pipeline.export.pictures import short, stem

#: Files in one folder; more of them make some file systems and most people slow.
FOLDER_FILES = 10_000


class Names:
    """Gives each picture a name in a folder that starts empty.

    Taken names are looked up on disk, not remembered, so that ten million cost no memory.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self._folder = folder
        self._ending = ending

    def of(self, cell: object, key: str, ordinal: int) -> str:
        """A name without ending: the picture's own; beside another of that name, with its key."""
        base = stem(cell, key) or f"{ordinal:09d}"
        for name in (base, f"{base}-{short(key)}", f"{base}-{ordinal:09d}"):
            if not (self._folder / (name + self._ending)).exists():
                return name
        return f"{ordinal:09d}-{base}"
