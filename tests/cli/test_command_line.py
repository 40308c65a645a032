"""The command line, read without Typer: what is read is what Typer reads, the rest is left to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import COMMANDS
from pipeline.command_line import Argument, Command, parameters, read, typers

#: Calls that are read.
WELL_FORMED = [
    ["run", "job.yaml"],
    ["run", "--yes", "job.yaml", "--limit", "3", "--set", "a=1", "--set=b.c=-2", "--quiet"],
    ["run", "job.yaml", "--limit=3", "--limit=4"],
    ["nightly", "a.yaml", "b.yaml:2", "--systemd", "--per-day", "50"],
    ["nightly", "a.yaml", "--cron", "--print"],
    ["export", "job.yaml", "out.csv", "--shard-rows", "1", "--format", "csv"],
    ["export", "job.yaml", "--beside"],
    ["simulate", "--port", "0", "--knob", "a=1", "--log", "log.jsonl"],
    ["init"],
]
#: Calls about which Typer has something to say.
OTHERS = [
    [],
    ["nonsense"],
    ["--nonsense"],
    ["run"],
    ["run", "--help"],
    ["run", "job.yaml", "extra"],
    ["run", "job.yaml", "--lim", "3"],
    ["run", "job.yaml", "--limit"],
    ["run", "job.yaml", "--limit", "-5"],
    ["run", "job.yaml", "--limit", "1e3"],
    ["run", "job.yaml", "--limit", "٣"],
    ["run", "job.yaml", "--quiet=3"],
    ["run", "--", "--job.yaml"],
    ["export", "job.yaml", "--no-images"],
    ["export", "job.yaml", "--shard-rows", "0"],
    ["simulate", "--port", "70000"],
    ["nightly"],
]


def by_typer(arguments: list[str]) -> dict[str, Any]:
    """The values that Typer hands to the command."""
    calls: list[dict[str, Any]] = []
    name = arguments[0]
    copy = _copy(COMMANDS[name], calls)
    typers({name: copy, "other": _copy(COMMANDS["schema"], [])})(arguments, standalone_mode=False)
    return calls[0]


def _copy(command: Command, calls: list[dict[str, Any]]) -> Command:
    """The same signature; it notes what it is called with."""
    assert isinstance(command, FunctionType)
    names = command.__code__.co_varnames[: command.__code__.co_argcount]
    space = {**command.__globals__, "calls": calls}
    exec(
        f"def {command.__name__}({', '.join(names)}):\n"
        f"    calls.append(dict({', '.join(f'{name}={name}' for name in names)}))\n    return 0",
        space,
    )
    copy: Callable[..., int] = space[command.__name__]
    copy.__defaults__ = command.__defaults__
    copy.__annotations__ = dict(command.__annotations__)
    copy.__doc__ = command.__doc__
    return copy


def by_read(arguments: list[str]) -> dict[str, Any] | None:
    """The values that are read here; None: left to Typer."""
    calls: list[dict[str, Any]] = []
    call = read(arguments, {name: _copy(command, calls) for name, command in COMMANDS.items()})
    if call is None:
        return None
    assert call() == 0
    return calls[0]


@pytest.mark.parametrize("arguments", WELL_FORMED, ids=" ".join)
def test_a_well_formed_call_is_read_as_typer_reads_it(arguments: list[str]) -> None:
    """The same values under the same names."""
    values = by_read(arguments)

    assert values is not None
    assert values == by_typer(arguments)


@pytest.mark.parametrize("arguments", OTHERS, ids=" ".join)
def test_what_typer_has_a_word_for_is_left_to_it(arguments: list[str]) -> None:
    """Help, mistakes, and what is not surely right."""
    assert read(arguments, COMMANDS) is None


@given(st.data())
def test_what_is_read_is_what_typer_reads(data: st.DataObject) -> None:
    """Any order of options, places and values that is read at all."""
    name = data.draw(st.sampled_from(["run", "export", "simulate", "nightly", "init", "push"]))
    options = [
        (
            f"--{key.rstrip('_').replace('_', '-')}"
            if not about.names
            else about.names[0].split("/")[0]
        )
        for key, (_, about) in parameters(COMMANDS[name]).items()
        if not isinstance(about, Argument)
    ]
    value = st.sampled_from(["a", "3", "0", "x=y", "ä b", "1_0", " 2", "", "./x/", "-1", "--"])
    word = st.one_of(
        st.sampled_from(options),
        value,
        st.builds("{}={}".format, st.sampled_from(options), value),
    )
    arguments = [name, *data.draw(st.lists(word, max_size=5))]
    values = by_read(arguments)

    if values is not None:
        assert values == by_typer(arguments)


def test_paths_are_paths() -> None:
    """As the signatures say."""
    values = by_read(["export", "job.yaml", "out.csv"])

    assert values is not None
    assert (values["job"], values["dest"]) == (Path("job.yaml"), Path("out.csv"))
