"""What is shipped: the wheel's contents, the container's recipe."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.support.command import ROOT


def test_the_wheel_holds_the_program_and_nothing_else(tmp_path: Path) -> None:
    """Every module, the report's templates and the marker of typed packages; no tests."""
    source = tmp_path / "source"  # a build leaves its own folders beside what it builds
    shutil.copytree(ROOT / "pipeline", source / "pipeline")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, source]
    subprocess.run(wheel, check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    kinds = ("*.py", "*.j2", "*.css", "*.js", "py.typed")
    files = (path for kind in kinds for path in (ROOT / "pipeline").rglob(kind))
    wanted = {str(path.relative_to(ROOT)) for path in files}

    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_container_is_well_written() -> None:
    """hadolint finds nothing, its lightest remarks included."""
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)

    assert (found.returncode, found.stdout) == (0, "")


def test_the_list_of_parts_is_complete() -> None:
    """docs/parts.md is made by docs/parts.py: every library and its licence."""
    made = runpy.run_path(str(ROOT / "docs/parts.py"))
    lines = (ROOT / "docs/parts.md").read_text().splitlines()
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]

    assert names[2:] == list(made["parts"]())
    assert all(line.count("|") == 4 and line.split("|")[3].strip() for line in lines if "|" in line)
