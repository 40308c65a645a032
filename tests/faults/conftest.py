"""One table at the end of all fault tests: what was tried, what fired, what was lost."""

from __future__ import annotations

import pytest

_HEAD = f"{'fault':<28}{'runs':>16}{'fired':>8}{'lost':>6}{'doubled':>9}{'void':>6}"
#: The line's name among a report's `user_properties`, which come from pytest-xdist's workers too.
_LINE = "fault"


class Table:
    """Takes one line a fault; a line with a void run, a loss or a double fails its test."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._properties = properties

    def add(
        self, fault: str, *, runs: int, of: int = 0, fired: int = 0, lost: int = 0, doubled: int = 0
    ) -> None:
        """Print the line at the end, whatever it says; then hold it against the promises.

        of: how many there are, where not all were tried."""
        void = runs - fired
        tried = f"{runs} of {of}" if of > runs else str(runs)
        self._line(f"{fault:<28}{tried:>16}{fired:>8}{lost:>6}{doubled:>9}{void:>6}")
        assert runs > 0, f"{fault}: nothing was tried"
        assert void == 0, f"{fault}: {void} of {runs} faults did not fire"
        assert lost == doubled == 0, f"{fault}: {lost} lost, {doubled} doubled"

    def not_run(self, fault: str, why: str) -> None:
        """Say that this machine does not allow it."""
        self._line(f"{fault:<28}not run: {why}")

    def _line(self, line: str) -> None:
        self._properties.append((_LINE, line))


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    """The table of this session."""
    return Table(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show it."""
    lines = [
        str(line)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, line in report.user_properties
        if name == _LINE
    ]
    if lines:
        terminalreporter.section("faults")
        for line in (_HEAD, *lines):
            terminalreporter.write_line(line)
