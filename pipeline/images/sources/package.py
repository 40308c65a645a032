"""`package://skimage/data/chelsea.png`: pictures that ship inside an installed package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipeline.errors import ImageError
from pipeline.images.sources.base import Places, brief
from pipeline.images.sources.file import read_file


def from_package(text: str, places: Places) -> bytes:
    """A file of a package that the job names. The package is found, never imported."""
    name, _, inner = text[len("package://") :].partition("/")
    if name not in places.packages:
        raise ImageError("blocked_address", f"package {brief(name)!r} is not in images.packages")
    parts = inner.split("/")
    if not inner or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ImageError("bad_uri", f"{brief(inner)!r} is not a path inside a package")
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise ImageError(
            "missing_file", f"package {name} is not installed (pip install it, then run again)"
        )
    for folder in folders:
        try:
            return read_file(Path(folder, *parts))
        except (OSError, UnicodeError):
            continue
    raise ImageError("missing_file", f"package {name} has no file {brief(inner)}")
