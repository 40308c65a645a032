"""Pictures that nobody here drew: stamps that Debian packages, and two libraries' samples.

They are not kept in the repository. On CI a missing package fails the tests that need it; on
other machines those tests are skipped and say what to install.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

STAMPS = Path("/usr/share/tuxpaint/stamps")
ENDINGS = {".jpg", ".jpeg", ".png", ".gif", ".tif", ".tiff", ".bmp", ".webp"}
#: Package -> folder of pictures inside it.
SAMPLES = {"skimage": "data", "sklearn": "datasets/images"}


def missing(what: str) -> None:
    """Fail on CI, skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; CI must have it")
    pytest.skip(what)


def stamps() -> list[Path]:
    """Debian's tuxpaint-stamps-default, sorted."""
    found = sorted(path for path in STAMPS.rglob("*.png") if path.is_file())
    if len(found) < 250:
        missing(f"{STAMPS} has {len(found)} pictures: apt-get install tuxpaint-stamps-default")
    return found


def samples() -> list[Path]:
    """The photographs and drawings inside scikit-image and scikit-learn."""
    found: list[Path] = []
    for package, folder in SAMPLES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.origin:
            missing(f"{package} is not installed: pip install 'caption-pipeline[test]'")
        else:
            found += _pictures(Path(spec.origin).parent / folder)
    return found


def _pictures(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS))
