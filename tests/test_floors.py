"""The house rules that a machine can check: imports go down, rooms keep apart, modules stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "pipeline"
ROOMS = {
    *("manifest", "images", "packsize", "service", "ratelimit", "store"),
    *("export", "report", "web", "simulator", "nightly", "checks"),
}
TOOLS = {
    *("schema", "aio", "clock", "fs", "verdict", "settings", "redact"),
    *(
        "memory",
        "trust_store",
        "memory_budget",
        "descriptors",
        "media",
        "patterns",
        "celltext",
        "plural",
        "picture_cell",
        "local_files",
    ),
}
FLOORS = {
    **dict.fromkeys(("values", "model", "errors"), 0),
    **dict.fromkeys(TOOLS, 1),
    **dict.fromkeys(ROOMS, 2),
    "config": 3,
    "captioning": 4,
    **dict.fromkeys(("commands", "distributed"), 5),
    **dict.fromkeys(("api", "arguments", "cli", "command_line", "exit"), 6),
    **dict.fromkeys(("__init__", "__main__"), 7),
}
#: All that the simulator may use of ours: it is written from the service's documentation alone.
SIM_MAY = {"simulator", "clock", "errors"}
#: What no room's `__init__` and none of the modules that start the program load at once.
HEAVY = {
    *("pyarrow", "duckdb", "aiohttp", "PIL", "numpy", "pandas", "ray", "uvloop"),
    *("fsspec", "tqdm", "sqlite3", "asyncio", "pydantic", "yaml"),
}
LIGHT = [
    "__main__.py",
    "arguments.py",
    "cli.py",
    "command_line.py",
    "memory.py",
    "exit.py",
    "errors.py",
    "redact.py",
    "fs.py",
]
LONGEST, LONGEST_PAGE, LONGEST_COMMAND = 400, 120, 15
LONGEST_FUNCTION = 60
LONG_WITH_REASON = {
    "captioning/wiring.py:open_run": "a list of what a run needs, in the order in which it is opened",
}
MODULES = sorted(ROOT.rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    """The room, or the module on its own floor, that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path, *, late: bool = True) -> Iterator[tuple[int, str]]:
    """(line, module) of every import; late: also those inside functions and for type checkers."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if late else tree.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "pipeline":
                yield from ((node.lineno, f"pipeline.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, str(node.module)


def ours(path: Path) -> list[tuple[int, str]]:
    """(line, our room or module) of every import of ours."""
    return [
        (line, name.split(".")[1])
        for line, name in imports(path)
        if name.startswith("pipeline.") and name != "pipeline.__version__"
    ]


def broken(path: Path, room: str) -> list[str]:
    """What a module of this room imports and must not."""
    found = []
    for line, theirs in ours(path):
        if theirs not in FLOORS:
            found.append(f"{line}: {theirs} has no floor; give it one here")
        elif FLOORS[theirs] > FLOORS[room]:
            found.append(f"{line}: imports {theirs}, which is a floor above")
        elif room in ROOMS and theirs in ROOMS - {room}:
            found.append(f"{line}: room {room} imports room {theirs}")
        elif room == "simulator" and theirs not in SIM_MAY:
            found.append(f"{line}: the simulator imports {theirs}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_imports_go_down_and_rooms_keep_apart(path: Path) -> None:
    """No module imports a floor above its own, no room imports another."""
    assert room_of(path) in FLOORS, f"{shown(path)}: give it a floor here"
    assert broken(path, room_of(path)) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    """The graph of imports has no circle, imports inside functions and for type checkers included."""
    names = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in MODULES
    }
    graph = {
        name: {
            f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in names else node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        & names.keys()
        for name, path in names.items()
    }

    TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_variables_say_what_they_are(path: Path) -> None:
    """No variable, parameter or function bears a name that could be anything's."""
    vague = {"told", "found", "held", "words", "one", "mine", "who", "some"}
    names = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        if (
            name := getattr(node, "id", None)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            else getattr(node, "arg", None)
            if isinstance(node, ast.arg)
            else getattr(node, "name", None)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            else None
        )
    }

    assert names & vague == set()


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_modules_stay_readable(path: Path) -> None:
    """No module is longer than 400 lines; the page that tells the run is at most 120."""
    lines = len(path.read_text().splitlines())
    longest = LONGEST_PAGE if shown(path) == "captioning/run.py" else LONGEST

    assert lines <= longest, f"{shown(path)}: {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_functions_stay_readable(path: Path) -> None:
    """No function is longer than 60 lines, but those with a reason."""
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {f"{shown(path)}:{name}" for name, lines in lengths.items() if lines > LONGEST_FUNCTION}

    assert long - LONG_WITH_REASON.keys() == set()


@pytest.mark.parametrize("path", [one for one in MODULES if one.name != "__init__.py"], ids=shown)
def test_modules_say_what_they_are(path: Path) -> None:
    """A docstring comes first."""
    assert ast.get_docstring(ast.parse(path.read_text())), shown(path)


@pytest.mark.parametrize(
    "path", [*ROOT.glob("*/__init__.py"), *(ROOT / one for one in LIGHT)], ids=shown
)
def test_what_starts_the_program_is_light(path: Path) -> None:
    """`--help` waits for no library; a room costs nothing before its work begins."""
    heavy = {name.partition(".")[0] for _, name in imports(path, late=False)} & HEAVY

    assert not heavy


def test_commands_are_short() -> None:
    """A command loads the job and calls a story: at most 15 lines under its docstring."""
    text = (ROOT / "cli.py").read_text()
    written = text.splitlines()
    commands = [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(one) == "command" for one in node.decorator_list)
    ]

    assert commands
    for node in commands:
        assert ast.get_docstring(node), node.name
        body = written[node.body[1].lineno - 1 : node.end_lineno]
        lines = [line for line in body if line.strip()]
        assert len(lines) <= LONGEST_COMMAND, f"{node.name}: {len(lines)} lines"


@pytest.mark.parametrize(
    ("room", "text", "lines"),
    [
        ("ratelimit", "import os\nfrom pipeline.service import wire", [2]),
        ("ratelimit", "def f():\n  import pipeline.simulator.core", [2]),
        ("ratelimit", "from pipeline import service, errors", [1]),
        ("service", "from pipeline.config.job import JobConfig", [1]),
        ("model", "from pipeline import clock", [1]),
        ("simulator", "from pipeline.captioning.retry import decide", [1]),
        ("commands", "from pipeline.cli import main\nfrom pipeline.unheard_of import x", [1, 2]),
        ("commands", "from pipeline.service import wire\nfrom pipeline import __version__", []),
        ("service", "from pipeline.service.wire import x\nfrom pipeline.errors import y", []),
    ],
)
def test_the_checker_sees_a_forbidden_import(
    tmp_path: Path, room: str, text: str, lines: list[int]
) -> None:
    """Late, plain and renamed imports: what breaks a rule is found, the rest is not."""
    (tmp_path / "x.py").write_text(text)

    assert [int(one.partition(":")[0]) for one in broken(tmp_path / "x.py", room)] == lines
