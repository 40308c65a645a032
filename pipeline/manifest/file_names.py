"""File names of folders and shards: those of pictures, and those that are no rows."""

from __future__ import annotations

from pipeline.media import ENDINGS

#: Folders that systems make beside pictures (Synology, QNAP, macOS, Windows, ext4).
_OF_SYSTEMS = frozenset(
    ("@eaDir", "@Recycle", "#recycle", "__MACOSX", "$RECYCLE.BIN", "lost+found")
)


def left_out(name: str) -> bool:
    """Is it hidden, or in a folder of thumbnails, of deleted files or of a Mac's attributes?"""
    if "/" not in name and name[:1] not in (".", "@", "#", "_", "$", "l"):
        return False  # nearly every name of a tar
    parts = name.split("/")
    return any((p.startswith(".") and p not in (".", "..")) or p in _OF_SYSTEMS for p in parts)


def is_image(name: str) -> bool:
    """By its ending, whatever the case."""
    return name.lower().endswith(ENDINGS)
