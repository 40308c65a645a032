"""How the process ends: one line on stderr and the documented exit code, whatever happened.

A PipelineError is its line and its code, a mistake on the command line is 64, a signal 128 + its
number. Anything else is a bug: 70, the traceback in a log file, one line that names it. Nothing
written here holds a key, and a terminal that goes away does not change how a run ends.
"""

from __future__ import annotations

import io
import os
import platform
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pipeline import __version__, fs
from pipeline.errors import Exit, PipelineError, deciding
from pipeline.redact import fit_to_print, hidden, one_line, spellings

if TYPE_CHECKING:
    import typer
    from _typeshed import ReadableBuffer

#: What an error that names a key of the job file begins with, as `prompt.text: …`.
_KEY = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)*): ")
_SECRET = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)


@dataclass(slots=True)
class Known:
    """What a command has found out by the time it ends; filled in as it goes."""

    #: The job's output folder, which has the place for a bug's log.
    output: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    #: `endpoint.base_url` -> `job.yaml:7: `, once a job file was read.
    where: Callable[[str], str] = lambda _: ""


class StdoutLost(Exception):
    """What a command had to say could not be written."""


class _Stdout(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return _length(data)  # as with `| head`: the command ends as it would have
        except OSError as error:
            raise StdoutLost(f"stdout cannot be written ({error.strerror})") from None


class _Stderr(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return _length(data)  # the work goes on


class _Text(io.TextIOWrapper):
    """Text of files, services and models is among what is printed: none of it acts on the
    terminal. Whoever prints has cleaned it; what was forgotten is caught here."""

    def write(self, text: str, /) -> int:
        super().write(fit_to_print(text))
        return len(text)


def _length(data: ReadableBuffer) -> int:
    return memoryview(data).nbytes


def open_streams() -> None:
    """Make stdout and stderr such that every character can be written, and failure is known.

    A standard stream that the caller closed becomes /dev/null, or else the next file that is
    opened would get its number and what is printed.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(null, True)
    os.close(null)
    sys.stdout = _text(_Stdout(1, "wb", closefd=False))
    sys.stderr = _text(_Stderr(2, "wb", closefd=False))


def _text(raw: io.FileIO) -> io.TextIOWrapper:
    lines = raw.isatty() or raw.fileno() == 2
    return _Text(io.BufferedWriter(raw), "utf-8", errors="backslashreplace", line_buffering=lines)


def hear_signals() -> None:
    """A signal unwinds the process and names itself; a run replaces this by its drain.

    What the caller ignores stays ignored: `nohup` must go on when the terminal closes.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def exit_of(error: BaseException, known: Known) -> int:
    """Say in one line what ended the process; the exit code."""
    error = deciding(error, known.output)
    if isinstance(error, KeyboardInterrupt) or _aborted(error):
        error = SystemExit(Exit.SIGINT)
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        stopped = code in (Exit.SIGHUP, Exit.SIGINT, Exit.SIGTERM)
        return say(f"stopped by {signal.Signals(code - 128).name}", code) if stopped else code
    if isinstance(error, StdoutLost):
        return _lost(error)
    if isinstance(error, PipelineError):
        message = str(error)
        key = _KEY.match(message)
        return say((known.where(key[1]) if key else "") + message, error.exit_code)
    if hasattr(error, "format_message"):
        return _misused(error.format_message(), getattr(error, "ctx", None))
    return _bug(error, known)


def say(message: str, code: int) -> int:
    """One line on stderr; gives the code back."""
    print(f"caption-pipeline: {one_line(message)}", file=sys.stderr)  # noqa: T201
    return int(code)


def flushed(code: int) -> int:
    """Write what stdout still holds; 73 when that cannot be done."""
    try:
        sys.stdout.flush()
    except StdoutLost as error:
        return _lost(error)
    return code


def leave(code: int) -> NoReturn:
    """End the process at once, also when a thread hangs in a read that will never come back.

    Whoever writes has closed its files by now. Python's own end would make further signals deadly
    again, and to tear down all that was loaded takes a fifth of the CPU of a short job.
    """
    with suppress(OSError):  # a terminal that is gone
        sys.stderr.flush()
    os._exit(code)


def _lost(error: StdoutLost) -> int:
    """What is still buffered goes to /dev/null, or the interpreter would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return say(str(error), Exit.OUTPUT)


def _aborted(error: BaseException) -> bool:
    """Typer's word for a prompt that nobody answers; it is there only if Typer was asked."""
    typer = sys.modules.get("typer")
    return typer is not None and isinstance(error, typer.Abort)


def _misused(message: str, context: typer.Context | None) -> int:
    """A mistake on the command line, in the words of typer's parser."""
    if context is None:
        return say(message, Exit.USAGE)
    if message == context.get_help():  # no arguments at all
        print(message, file=sys.stderr)  # noqa: T201
        return int(Exit.USAGE)
    return say(f"{message} ({context.command_path} --help)", Exit.USAGE)


def _bug(error: BaseException, known: Known) -> int:
    """The traceback to a log, one line to the terminal."""
    secrets = spellings(
        value for name, value in known.environ.items() if _SECRET.fullmatch(name) and len(value) > 7
    )
    trace = "".join(traceback.format_exception(error))
    about = (
        f"caption-pipeline {__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    text = hidden(f"{about}\n{sys.argv}\n{trace}", secrets)
    message = hidden(f"{type(error).__name__}: {str(error)[:200]}", secrets)
    for folder in _folders(known):
        try:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            fd, name = tempfile.mkstemp(".log", f"bug-{stamp}-", folder())
            with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            where = f"the traceback is in {name}"
            break
        except Exception as next_one:  # noqa: BLE001 - the last resort; the next folder is tried
            where = f"its traceback could not be written ({type(next_one).__name__})"
    return say(f"this is a bug ({message}); {where}", Exit.BUG)


def _folders(known: Known) -> Iterator[Callable[[], Path]]:
    """Where a bug's log may go, best first; each may fail."""

    def in_output() -> Path:
        state = Path(known.output or "") / "_state"
        if known.output is None or not state.is_dir():
            raise FileNotFoundError
        fs.make_private_dir(state / "logs")
        return state / "logs"

    def in_state() -> Path:
        from pipeline.captioning.output_location import state_folder

        folder = state_folder(known.environ)
        fs.make_private_dir(folder)
        fs.make_private_dir(folder / "logs")
        return folder / "logs"

    yield in_output
    yield in_state
    yield lambda: Path(tempfile.gettempdir())
