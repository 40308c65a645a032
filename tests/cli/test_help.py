"""What a newcomer meets first: help, version, completion; quick, and without a heavy import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.cli import COMMANDS
from tests.support.command import environment, pipeline

HEAVY = {"pyarrow", "aiohttp", "duckdb", "ray", "pandas", "PIL", "numpy", "uvloop", "yaml", "tqdm"}
#: Prints what the command left in sys.modules, whatever its exit code.
LOADED = """
import json, sys
from pipeline import cli
cli.leave = lambda code: None
cli.main()
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)
"""


def loaded(*arguments: str) -> set[str]:
    """Top-level modules in a process that ran this command."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["nonsense"]])
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    """Neither what the work needs nor what reads the job file."""
    assert not loaded(*arguments) & HEAVY


def test_the_check_above_sees_a_library() -> None:
    """A command that reads a job file does load some of them."""
    assert "yaml" in loaded("schema")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """--help: exit 0, its own line of the overview, nothing on stderr."""
    ended = pipeline(command, "--help")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: python -m pipeline {command} ")


def test_the_overview_names_every_command() -> None:
    """--help at the top."""
    ended = pipeline("--help")

    assert (ended.code, ended.err) == (0, "")
    assert all(f"\n  {command} " in ended.out for command in COMMANDS)


def test_the_version() -> None:
    """--version prints it and nothing else."""
    ended = pipeline("--version")

    assert (ended.code, ended.out, ended.err) == (0, f"caption-pipeline {__version__}\n", "")


def test_the_console_script_is_the_same_command() -> None:
    """`caption-pipeline`, as pyproject.toml installs it."""
    script = Path(sys.executable).with_name("caption-pipeline")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)

    assert done.stdout == f"caption-pipeline {__version__}\n"


def test_the_shell_completes_commands() -> None:
    """What the shell asks for when Tab is pressed after `caption-pipeline st`."""
    asked = {
        "_CAPTION_PIPELINE_COMPLETE": "complete_bash",
        "COMP_WORDS": "caption-pipeline st",
        "COMP_CWORD": "1",
    }
    script = Path(sys.executable).with_name("caption-pipeline")
    done = subprocess.run(
        [script], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout.split()) == (0, ["status"])
