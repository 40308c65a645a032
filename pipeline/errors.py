"""Every way this program ends other than well, in one tree.

    PipelineError                 one clear line for the user and an exit code
    ├── UsageError           64   the command line
    ├── ManifestError        65   the manifest cannot be read, or has no image column
    ├── ServiceError         69   endpoint or model unavailable
    ├── OutputError          73   the output cannot be written, or is damaged
    ├── Held                 76   another run holds this output
    ├── KeyTrouble           77   key missing or refused, no credit, a price where none is allowed
    └── JobError             78   the job file, or a stop that asks for consent
    Stopped                       not a failure: the run is ending, this work stays unsettled
    ImageError                    one image cannot be sent; carries an error code, costs no request
    └── SourceUnavailable         not the image's fault: its folder, host or this machine is in trouble
    NoReply                       a request went out (or tried to) and no answer came back

Exit codes follow sysexits.h where it has one. A traceback is a bug: anything else that
escapes exits 70. Messages say what, where and how to mend, in one line, and never hold a
secret.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """Process exit codes (the contract's table)."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 64
    MANIFEST = 65
    SERVICE = 69
    BUG = 70
    OUTPUT = 73
    LATER = 75
    HELD = 76
    KEY = 77
    JOB = 78
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReason:
    """Why a run ends before its work does: what the gate's `stop` is told."""

    exit: Exit
    #: One line for the user, without a secret.
    message: str
    #: Epoch seconds on this machine's clock from which on it makes sense to go on, if known.
    resume_after: float | None = None


class PipelineError(Exception):
    """One clear line for the user; `exit_code` is the process's."""

    exit_code: Exit = Exit.BUG


class UsageError(PipelineError):
    """The command line is wrong."""

    exit_code = Exit.USAGE


class ManifestError(PipelineError):
    """The manifest is unreadable or has no image column."""

    exit_code = Exit.MANIFEST


class ServiceError(PipelineError):
    """The endpoint or the model is unavailable."""

    exit_code = Exit.SERVICE


class OutputError(PipelineError):
    """The output cannot be written or does not verify."""

    exit_code = Exit.OUTPUT


class Held(PipelineError):
    """Another run holds this output."""

    exit_code = Exit.HELD


class KeyTrouble(PipelineError):
    """The key is missing or refused, the credit is gone, or a price would be paid unasked."""

    exit_code = Exit.KEY


class JobError(PipelineError):
    """The job file is wrong, or the run needs consent before it goes on."""

    exit_code = Exit.JOB


class Stopped(Exception):
    """The run is ending: whoever meets this leaves its rows unsettled."""


class ImageError(Exception):
    """One image cannot be sent. `code` is one of `CODES`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        # Decoding happens in other processes; by default only `message` would travel.
        return ImageError, (self.code, self.message)


class SourceUnavailable(ImageError):
    """The place that an image comes from is in trouble: its folder, its host, or this machine.

    `code` and `message` are what the image fails with where the place proves to be well: a
    transient code, unless the image may be to blame by itself (a wrong path).
    `certain`: no image does this by itself (an I/O error, no descriptor left, a killed worker).
    """

    def __init__(self, code: str, message: str, *, place: str, certain: bool) -> None:
        super().__init__(code, message)
        self.place = place
        self.certain = certain


class NoReply(Exception):
    """No answer came: `code` is `server_error` (connection) or `timeout_service` (deadline).

    `sent` is False only when it is certain that no byte of the request left this machine
    (name resolution or the connection failed), so that the request may be given back.
    """

    def __init__(self, code: str, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.sent = sent


#: Error code -> permanent? The closed list. A transient one is asked again by the next run by
#: itself, a permanent one only when told (`--retry-failed`, `--retry CODE`).
CODES: dict[str, bool] = {
    # image
    "dns": False,
    "connect": False,
    "timeout": False,
    "http_4xx": True,
    "http_5xx": False,
    "blocked_address": True,
    "blocked_path": True,
    "too_large": True,
    "too_many_pixels": True,
    "unsupported_format": True,
    "corrupt": True,
    "noai": True,
    "missing_file": True,
    "bad_uri": True,
    # service
    "refused": True,
    "safety": True,
    "image_rejected": True,
    "empty": False,
    "malformed": False,
    "too_long": True,
    "server_error": False,
    "timeout_service": False,
    "truncated": True,
    "doubted": False,
    "check_failed": True,
    # row
    "bad_row": True,
}

#: Several errors at once: the one that tells most decides (a signal > 70 > 73/76 > 77/69 > …).
_WEIGHT = (Exit.OUTPUT, Exit.HELD, Exit.KEY, Exit.SERVICE)
_ROOM = "make room and run again"
_ACCESS = "let this user write there and run again"
#: errno -> what to do about the machine.
_MACHINE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f) and run again",
    errno.EROFS: _ACCESS,
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.EMFILE: "raise the limit of open files (ulimit -n) and run again",
    errno.ENFILE: "raise the machine's limit of open files (fs.file-max) and run again",
    errno.EISDIR: "move that folder away and run again",
    errno.ENOTDIR: "move the file that stands in the place of a folder away and run again",
    errno.ELOOP: "move that symbolic link away and run again",
    errno.EIO: "see to the disk and run again",
    errno.ESTALE: "mount the file system anew and run again",
}
#: SQLITE_PERM, READONLY, CANTOPEN, FULL, IOERR, CORRUPT, NOTADB -> the same.
_SQLITE = {
    **dict.fromkeys((3, 8, 14), _ACCESS),
    13: _ROOM,
    10: _MACHINE[errno.EIO],
    **dict.fromkeys((11, 26), "bring back a copy of it and run again"),
}


def remedy(error: BaseException) -> str:
    """What to do about an error of the system or of SQLite, to end a message with; empty where
    nothing is known."""
    advice = _SQLITE.get((getattr(error, "sqlite_errorcode", None) or 0) & 0xFF)
    if isinstance(error, OSError):
        advice = _MACHINE.get(error.errno or 0)
    return f"; {advice}" if advice else ""


def as_output_error(error: BaseException, output: Path | None = None) -> BaseException:
    """The OutputError that an error of the operating system comes to; others as they are.

    output: the job's folder; whatever the system says of a file in there is about the output.
    """
    if (code := getattr(error, "sqlite_errorcode", None)) is not None:
        if code & 0xFF not in _SQLITE:
            return error
        return OutputError(f"a database of this program cannot be used ({error}){remedy(error)}")
    if not isinstance(error, OSError):
        return error
    paths = [str(name) for name in (error.filename, error.filename2) if isinstance(name, str)]
    ours = output is not None and any(str(path).startswith(str(output)) for path in paths)
    advice = remedy(error)
    if not advice and not ours:
        return error
    where = paths[-1] if paths else output or "the output"
    advice = advice or "; see what happened to the folder and run again"
    return OutputError(f"{where}: cannot be written ({error.strerror or error}){advice}")


def heaviest(group: BaseExceptionGroup[BaseException], output: Path | None = None) -> BaseException:
    """The one error of a group that decides; the group itself when a bug is among them."""
    leaves = [as_output_error(leaf, output) for leaf in _leaves(group)]
    for leaf in leaves:
        if isinstance(leaf, KeyboardInterrupt | SystemExit):
            return leaf
    known = [leaf for leaf in leaves if isinstance(leaf, PipelineError)]
    if len(known) < len(leaves):
        return group
    rank = {code: at for at, code in enumerate(_WEIGHT)}
    return min(known, key=lambda error: rank.get(error.exit_code, len(rank)))


def deciding(error: BaseException, output: Path | None = None) -> BaseException:
    """What an error comes to for the exit code: one error, the system's as OutputError."""
    if isinstance(error, BaseExceptionGroup):
        return heaviest(error, output)
    return as_output_error(error, output)


def stop_reason_of(error: BaseException, output: Path | None = None) -> StopReason:
    """Why a run ended that an error ended."""
    error = deciding(error, output)
    if isinstance(error, PipelineError):
        return StopReason(exit=error.exit_code, message=str(error))
    if isinstance(error, KeyboardInterrupt):
        error = SystemExit(Exit.SIGINT)
    if isinstance(error, SystemExit) and error.code in (Exit.SIGHUP, Exit.SIGINT, Exit.SIGTERM):
        code = Exit(error.code)
        return StopReason(exit=code, message=f"stopped by {code.name}; run again to go on")
    return StopReason(exit=Exit.BUG, message=f"this is a bug ({type(error).__name__})")


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for inner in group.exceptions:
        if isinstance(inner, BaseExceptionGroup):
            yield from _leaves(inner)
        else:
            yield inner
