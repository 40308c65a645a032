"""The house rules that a machine can check: imports go down, rooms keep apart, modules stay small."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "pipeline"
ROOMS = {"manifest", "images", "plan", "api", "quota", "checkpoint", "export", "sim"}
FLOORS = {
    "records": 0,
    "errors": 0,
    **dict.fromkeys(("schema", "aio", "clock", "fs", "retry", "settings", "shown"), 1),
    **dict.fromkeys(ROOMS, 2),
    **dict.fromkeys(("config", "jobfile", "jobenv", "jobwords"), 3),
    "stories": 4,
    "cli": 6,
    "ending": 6,
    "__main__": 7,
    "__init__": 0,
}
#: All that the simulator may use of ours.
SIM_MAY = {"sim", "clock", "errors"}
MODULES = sorted(ROOT.rglob("*.py"))
LONGEST = 400


def room_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, our top-level module) of every import of ours, also the late ones."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "pipeline":
                names = [f"pipeline.{alias.name}" for alias in node.names]
            elif node.module:
                names = [node.module]
        found += [
            (node.lineno, name.split(".")[1])
            for name in names
            if name.startswith("pipeline.") and name != "pipeline.__version__"
        ]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_and_rooms_keep_apart(path: Path) -> None:
    """No module imports a floor above its own, no room imports another."""
    mine = room_of(path)
    for line, theirs in imports(path):
        assert FLOORS[theirs] <= FLOORS[mine], f"{path}:{line}: imports {theirs} from below"
        if mine in ROOMS and theirs in ROOMS:
            assert theirs == mine, f"{path}:{line}: room {mine} imports room {theirs}"
        if mine == "sim":
            assert theirs in SIM_MAY, f"{path}:{line}: the simulator imports {theirs}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_stay_readable(path: Path) -> None:
    """No module is longer than 400 lines; the page that tells the run is at most 120."""
    lines = len(path.read_text().splitlines())
    longest = 120 if path.name == "run.py" else LONGEST
    assert lines <= longest, f"{path}: {lines} lines"


def test_the_checker_sees_a_forbidden_import(tmp_path: Path) -> None:
    """Late and plain imports of ours are both found."""
    module = tmp_path / "x.py"
    module.write_text(
        "import os\nfrom pipeline.api import wire\ndef f():\n  import pipeline.sim.core\n"
    )
    assert imports(module) == [(2, "api"), (4, "sim")]
