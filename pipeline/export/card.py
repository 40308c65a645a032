"""A dataset card, `README.md`: tells `datasets` and the hub which files are the data.

Without one, `load_dataset(FOLDER)` mixes everything in the folder. A card that somebody else wrote
is left alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline import fs

MARK = "<!-- Written by caption-pipeline, again with each export; without this line it is kept. -->"


def our_card(folder: Path) -> bool:
    """Is there a card, and did this program write it?"""
    try:
        return MARK in (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def write_card(folder: Path, *, title: str, data: str, text: str) -> bool:
    """Write the card; False where one of somebody else stands. data: glob of the files."""
    path = folder / "README.md"
    if os.path.lexists(path) and not our_card(folder):
        return False
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        f"    path: {data}",
        "---",
        "",
        MARK,
        "",
        f"# {title}",
        "",
        text,
        "",
    ]
    fs.write_atomic(path, "\n".join(lines).encode())
    return True
