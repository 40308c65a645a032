"""The recipes of docs/nightly.md and docs/cluster.md, as a user copies them, and the command that they call."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from tests.support.command import ROOT, write_job
from tests.support.pictures import folder_of


def recipe(name: str, page_name: str = "nightly") -> str:
    """The block of code under a heading."""
    page = (ROOT / f"docs/{page_name}.md").read_text()
    section = page.split(f"\n### {name}\n")[1].split("\n### ")[0]
    (block,) = re.findall(r"^```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(block)


def command_on_path(folder: Path) -> Path:
    """A folder that holds `caption-pipeline`, this very program."""
    made = folder / "bin"
    made.mkdir()
    held = made / "caption-pipeline"
    held.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m pipeline "$@"\n')
    held.chmod(0o755)
    return made


def jobs_that_end(folder: Path, base: str) -> dict[int, str]:
    """Texts of a `job.yaml` below `folder`, by the code they end with, in this order."""
    rows = folder_of(folder, 3)
    minute: dict[str, Any] = {"requests_per_minute": None}
    some = write_job(folder, base, rows, quota={**minute, "requests_per_day": 2}).read_text()
    wrong = write_job(folder, base, rows, quota={**minute, "concurency": 2}).read_text()
    whole = write_job(folder, base, rows, quota=minute).read_text()
    return {75: some, 78: wrong, 0: whole}
