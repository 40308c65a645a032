"""Shared fixtures: every test has its own state folder, no key and no proxy from outside."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# Under `nohup`, or in the background of a shell, the tests' own processes would ignore these too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's ledger, key or proxy."""
    monkeypatch.setenv("CAPTION_PIPELINE_STATE", str(tmp_path / "user-state"))
    for name in ("OPENROUTER_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
