"""An environment with Ray behind our packages, and sessions in a folder of a short name."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.peers import bin_of
from tests.support.command import ROOT


@contextmanager
def ray_env(folder: Path, **more: str) -> Iterator[dict[str, str]]:
    """Its `RAY_TMPDIR` is the folder of the sessions: the paths of Ray's sockets must be short."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = bin_of("ray").parent / "lib" / version / "site-packages"
    sessions = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    try:
        yield {
            "CAPTION_PIPELINE_STATE": str(folder / "state"),
            "PYTHONPATH": f"{ROOT}:{packages}",
            "RAY_TMPDIR": sessions,
            "HOME": sessions,
            **more,
        }
    finally:
        shutil.rmtree(sessions, ignore_errors=True)
