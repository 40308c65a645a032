"""One table at the end of all fault tests: what was tried, what fired, what was lost."""

from __future__ import annotations

import pytest

_HEAD = f"{'fault':<28}{'runs':>8}{'fired':>8}{'lost':>6}{'doubled':>9}{'void':>6}"
_ROWS = pytest.StashKey[list[str]]()


class Table:
    """Takes one line a fault; a line with a void run, a loss or a double fails its test."""

    def __init__(self, rows: list[str]) -> None:
        self._rows = rows

    def add(
        self, fault: str, *, runs: int, fired: int = 0, lost: int = 0, doubled: int = 0
    ) -> None:
        """Print the line at the end, whatever it says; then hold it against the promises."""
        void = runs - fired
        self._rows.append(f"{fault:<28}{runs:>8}{fired:>8}{lost:>6}{doubled:>9}{void:>6}")
        assert runs > 0, f"{fault}: nothing was tried"
        assert void == 0, f"{fault}: {void} of {runs} faults did not fire"
        assert lost == doubled == 0, f"{fault}: {lost} lost, {doubled} doubled"

    def not_run(self, fault: str, why: str) -> None:
        """Say that this machine does not allow it."""
        self._rows.append(f"{fault:<28}not run: {why}")


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """The table of this session."""
    return Table(request.config.stash.setdefault(_ROWS, []))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show it."""
    if rows := config.stash.get(_ROWS, []):
        terminalreporter.section("faults")
        for line in (_HEAD, *rows):
            terminalreporter.write_line(line)
