"""Programs of the system that tests call: systemd-analyze, crontab, promtool, a C compiler."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Where it is; on CI its absence is a failure, elsewhere a skip that is seen."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed; .ci/run installs it")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
