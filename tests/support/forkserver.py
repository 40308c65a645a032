"""Fork server of `python -m pipeline …`: a process that has loaded the program forks each command.

Starting Python and loading the libraries costs several times what most commands do afterwards. A
fork is a process of its own in all else: pid, descriptors, working folder, environment, signals,
threads, exit code; faults of `shim.c` are armed in the fork. Its image workers are forks too, of the command, with the descriptors of a
process that was spawned. What acts at a start alone (LD_PRELOAD, Python's own variables, the
locale) a fork cannot show: `starts_alike` says where it would matter.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import multiprocessing.util
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Variables that a process reads when it starts.
_AT_START = ("PYTHON", "LD_", "LANG", "LC_", "MALLOC_", "ARROW_")
#: Modules that commands load when they come to need them.
_LATE = (
    "duckdb",
    "fsspec.implementations.local",
    "pyarrow.dataset",
    "uvloop",
    "PIL.JpegImagePlugin",
)
#: Packages that its image workers load, and a command itself never does.
_OF_WORKERS = ("numpy", "simplejpeg")
_of_workers: dict[str, Any] = {}
#: More than any command's arguments and environment take.
_MESSAGE = 1 << 17


def starts_alike(env: Mapping[str, str]) -> bool:
    """Would a process of this environment start as a fork server did?"""
    return _at_start(env) == _at_start(_started_in(_faults(env)))


def _faults(env: Mapping[str, str]) -> str:
    """The library whose faults are armed, if any."""
    return env.get("LD_PRELOAD", "") if "FAULT_BELOW" in env else ""


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}


@functools.cache
def _started_in(preload: str = "") -> dict[str, str]:
    """The environment of a fork server: this process's, when its first command was started."""
    library = {"LD_PRELOAD": preload} if preload else {}
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **library}


@functools.cache
def _server(preload: str = "") -> socket.socket:
    """A fork server of this process's own; it ends when this socket closes, whatever closes it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-m", "tests.support.forkserver", str(theirs.fileno())]
    env = _started_in(preload)
    server = subprocess.Popen(words, cwd=ROOT, env=env, pass_fds=[theirs.fileno()])
    theirs.close()
    atexit.register(server.wait)
    atexit.register(ours.close)  # called before the other
    return ours


class Forked(subprocess.Popen[Any]):
    """`subprocess.Popen` of `python -m pipeline ARGUMENTS`, forked by the server."""

    def _execute_child(self, *given: Any) -> None:  # where Popen would fork and exec
        arguments, cwd, env = given[0], given[5], given[6]
        pipes = given[10:16]  # read and write end of stdin, stdout, stderr; -1: inherited
        streams = [end if end >= 0 else at for at, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps([list(map(str, arguments)), str(cwd), dict(env)]).encode()
        socket.send_fds(_server(_faults(env)), [request], [*streams, theirs.fileno()])
        theirs.close()
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        self.pid = int(self._status.recv(32))
        self._child_created = True

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.recv(32))
            self._status.close()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self._internal_poll()
        assert code is not None
        return code


def _fork() -> int:
    """`os.fork`; Python's warning of other threads is known (Arrow's allocator has one)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _serve(requests: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """Take requests until this process is the fork that has to become a command: which one."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for commands
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, _MESSAGE, 4)
        if not message:
            os._exit(0)
        if not _fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            if _forked(descriptors):
                arguments, cwd, env = json.loads(message)
                return arguments, cwd, env
        for descriptor in descriptors:
            os.close(descriptor)


def _forked(descriptors: list[int]) -> bool:
    """Fork the command, of which this is True; the other process tells its end and is gone."""
    *streams, status = descriptors
    if child := _fork():
        for stream in (*streams, 0, 1):
            os.close(stream)
        os.write(status, str(child).encode())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(OSError):  # nobody waits for it any more
            os.write(status, str(code).encode())
        os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for descriptor in descriptors:
        os.close(descriptor)
    return True


def _fork_instead(path: object, words: list[Any], descriptors: tuple[int, ...]) -> int:
    """`multiprocessing.util.spawnv_passfds` by a fork that keeps no other descriptor."""
    if child := _fork():
        return child
    kept = sorted({0, 1, 2, *descriptors})
    for last, following in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(last + 1, following)
    words = [os.fsdecode(word) for word in words]
    at, code = words.index("-c") + 1, 70
    sys.argv[1:] = words[at + 1 :]
    from pipeline.images import fast

    sys.modules.update(_of_workers)
    fast.simplejpeg = _of_workers.get("simplejpeg")
    try:
        exec(words[at], {})
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os._exit(code)


def _warm() -> None:
    """Load what the commands load, as they do it."""
    from pipeline.images import fast
    from pipeline.memory import keep_little

    # What image workers alone load: a command has no numpy, not even through pyarrow.
    _of_workers.update(
        (n, sys.modules.pop(n)) for n in [*sys.modules] if n.split(".")[0] in _OF_WORKERS
    )
    fast.simplejpeg = None
    assert "pyarrow" not in sys.modules
    keep_little()
    import pipeline

    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no fork copies pages only to look for cycles in them


def main() -> None:
    """Serve on the descriptor that is named by the only argument; in a fork, be the command."""
    code = 70
    # First registered, last called: to tear down all that is loaded takes longer than most commands.
    atexit.register(lambda: os._exit(code))
    _warm()
    arguments, cwd, env = _serve(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(cwd)
    random.seed()
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - open as long as the process is
    sys.path[0] = cwd
    sys.argv[1:] = arguments
    if _faults(env):
        below, mode, log = (env[f"FAULT_{name}"].encode() for name in ("BELOW", "MODE", "LOG"))
        ctypes.CDLL(None).fault_arm(below, ctypes.c_long(int(env["FAULT_AT"])), mode, log)
    multiprocessing.util.spawnv_passfds = _fork_instead
    try:
        runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = int(ended.code or 0)


if __name__ == "__main__":
    main()
