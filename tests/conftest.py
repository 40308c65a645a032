"""Shared fixtures: every test has its own state folder, no key and no proxy from outside."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import weekly

# Under `nohup`, or in the background of a shell, the tests' own processes would ignore these too.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's ledger, key or proxy."""
    monkeypatch.setenv("CAPTION_PIPELINE_STATE", str(tmp_path / "user-state"))
    for name in ("OPENROUTER_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the weekly run tried, and how to try it again."""
    if weekly.WEEKLY:
        terminalreporter.section("weekly")
        terminalreporter.write_line(
            f"WEEKLY_N={weekly.N} random weeks and {weekly.N // 3} random months from "
            f"WEEKLY_SEED={weekly.SEED} on"
        )
