"""The command line: a well-formed call is read here, all else is left to Typer.

Typer knows every way to ask (help of a command, completion, mistakes and what was meant), and its
import alone is most of what `--help` takes. So signatures are written once, as Typer takes them,
with `Option` and `Argument` of our own in place of Typer's; `read` knows the calls that need no word
said, and Typer is given the same signatures for the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from pipeline import __version__

if TYPE_CHECKING:
    import typer

Command = Callable[..., int]
ABOUT = "Caption image datasets through a throttled vision API: unattended, resumable."
#: The options of the whole, as Typer shows them.
OPTIONS = {
    "--version": "Show the version.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "--help": "Show this message and exit.",
}
#: Columns of the overview.
WIDTH = 80


class Option:
    """What `typer.Option` takes."""

    def __init__(self, *names: str, **about: Any) -> None:
        self.names, self.about = names, about


class Argument(Option):
    """What `typer.Argument` takes."""


def parameters(command: Command) -> dict[str, tuple[Any, Option]]:
    """Name -> (type, what is said of it), in the order of the signature."""
    hints = get_type_hints(command, include_extras=True)
    hints.pop("return")
    return {name: (hint.__origin__, hint.__metadata__[0]) for name, hint in hints.items()}


def plain(hint: Any) -> Any:
    """`int | None` -> int, `list[str] | None` -> list."""
    first = get_args(hint)[0] if type(None) in get_args(hint) else hint
    return get_origin(first) or first


def names_of(name: str, option: Option) -> dict[str, bool]:
    """What is written -> the value of a flag that is written so: `--cron/--systemd`."""
    yes, _, no = (option.names or (f"--{name.replace('_', '-')}",))[0].partition("/")
    return {yes: True} | ({no: False} if no else {})


def answer(arguments: list[str], commands: Mapping[str, Command]) -> int:
    """Do what the command line says; the exit code. Mistakes are Typer's errors."""
    if arguments in (["--help"], ["--version"]):
        whole = overview(commands) if arguments == ["--help"] else f"caption-pipeline {__version__}"
        print(whole)  # noqa: T201 - the command's result
        return 0
    call = read(arguments, commands)
    if call is not None:
        return call()
    code = typers(commands)(standalone_mode=False)
    return code if isinstance(code, int) else 0


def read(arguments: list[str], commands: Mapping[str, Command]) -> Callable[[], int] | None:
    """A well-formed call of a command; None where Typer has something to say about it."""
    if not arguments or (command := commands.get(arguments[0])) is None:
        return None
    known = parameters(command)
    places = [name for name, (_, about) in known.items() if isinstance(about, Argument)]
    written = {
        text: (name, flag)
        for name, (_, about) in known.items()
        if name not in places
        for text, flag in names_of(name, about).items()
    }
    values: dict[str, Any] = {}
    rest = iter(arguments[1:])
    for word in rest:
        if word.startswith("-"):
            text, equals, value = word.partition("=")
            name, flag = written.get(text, ("", False))
            if not name:
                return None
            if plain(known[name][0]) is bool:
                if equals:
                    return None
                values[name] = flag
                continue
            value = value if equals else next(rest, "-")
        elif places:
            name, value = places[0], word
            if plain(known[name][0]) is not list:
                places.pop(0)
        else:
            return None
        if not take(values, name, value, *known[name]):
            return None
    optional = {*known} - {*list(known)[: len(known) - len(command.__defaults__ or ())]}
    return partial(command, **values) if {*known} - optional <= {*values} else None


def take(values: dict[str, Any], name: str, value: str, hint: Any, about: Option) -> bool:
    """Add a value to those of a call; False where it is none that is surely right."""
    kind = plain(hint)
    if value.startswith("-") or not value.isprintable():
        return False
    if kind is list:
        values.setdefault(name, []).append(value)
    elif kind is int:
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            return False
        least, most = about.about.get("min"), about.about.get("max")
        values[name] = int(value)
        return (least is None or int(value) >= least) and (most is None or int(value) <= most)
    else:
        values[name] = Path(value) if kind is Path else value
    return True


def overview(commands: Mapping[str, Command]) -> str:
    """What `--help` prints: every command in its first line."""
    import textwrap

    def table(rows: Mapping[str, str]) -> list[str]:
        indent = max(map(len, rows)) + 4
        return [
            textwrap.fill(
                text,
                WIDTH,
                initial_indent=f"  {name}".ljust(indent),
                subsequent_indent=" " * indent,
            )
            for name, text in rows.items()
        ]

    program = Path(sys.argv[0]).name
    program = "python -m pipeline" if program == "__main__.py" else program
    firsts = {name: (command.__doc__ or "").split("\n\n")[0] for name, command in commands.items()}
    about = textwrap.fill(ABOUT, WIDTH, initial_indent="  ", subsequent_indent="  ")
    blocks = [
        [f"Usage: {program} [OPTIONS] COMMAND [ARGS]..."],
        [about],
        ["Options:", *table(OPTIONS)],
        ["Commands:", *table(firsts)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def typers(commands: Mapping[str, Command]) -> typer.Typer:
    """The same commands as Typer's."""
    import typer

    app = typer.Typer(
        name="caption-pipeline",
        help=ABOUT,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    def show(value: bool) -> None:
        if value:
            typer.echo(f"caption-pipeline {__version__}")
            raise typer.Exit

    shown = typer.Option("--version", callback=show, is_eager=True, help=OPTIONS["--version"])

    @app.callback()
    def root(version: bool = False) -> None:
        pass

    root.__annotations__["version"] = Annotated[bool, shown]
    for name, command in commands.items():
        for key, (hint, about) in parameters(command).items():
            kind = typer.Argument if isinstance(about, Argument) else typer.Option
            command.__annotations__[key] = Annotated[hint, kind(*about.names, **about.about)]
        app.command(name)(command)
    return app
