"""The real command and the real simulator as processes, for tests that see what a user sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.support.forkserver import Forked, starts_alike

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120


@dataclass(frozen=True, slots=True)
class RequestResult:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The object of `--json`: all of stdout, one line."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pipeline", *map(str, arguments)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if "coverage" not in k.lower()}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **(more or {})}


def pipeline(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> RequestResult:
    """Run `python -m pipeline …` to its end."""
    with start(
        *arguments,
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return RequestResult(process.returncode, out, err)


def start(
    *arguments: object,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | int | None = None,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.DEVNULL,
    text: bool = False,
    forked: bool = True,
) -> subprocess.Popen[Any]:
    """Start `python -m pipeline …`; the caller ends it.

    forked: by the fork server, which is quick, where `env` does not ask for a start of its own.
    """
    whole = environment(env)
    forked = forked and starts_alike(whole)
    return (Forked if forked else subprocess.Popen)(
        list(map(str, arguments)) if forked else command(*arguments),
        cwd=cwd or ROOT,
        env=whole,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=text,
    )


class Server:
    """A simulator in its own process, and what it received."""

    def __init__(self, base: str, log: Path) -> None:
        self.base, self._log = base, log

    def size(self) -> int:
        """Bytes of its log: more of them, and it has received something."""
        return self._log.stat().st_size if self._log.exists() else 0

    def received(self) -> list[dict[str, Any]]:
        """Every request so far, whole lines only."""
        if not self._log.exists():
            return []
        text = self._log.read_text()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def asked(self) -> list[dict[str, Any]]:
        """The chat completions among them."""
        return [one for one in self.received() if one["path"] == "/chat/completions"]

    def answered(self) -> list[dict[str, Any]]:
        """Those that were answered with 200."""
        return [one for one in self.asked() if one["status"] == 200]


@contextmanager
def simulator(
    folder: Path,
    *knobs: str,
    profile: str = "embedded",
    seed: int = 0,
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run `simulate` on a free port until the end of the block."""
    log = folder / "received.jsonl"
    arguments: list[object] = ["simulate", "--port", 0, "--profile", profile, "--seed", seed]
    arguments += ["--log", log]
    for knob in knobs:
        arguments += ["--knob", knob]
    process = start(*arguments, env=env, stdout=subprocess.PIPE, stderr=None, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield Server(line.split()[-1], log)
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def until(condition: Any, *, seconds: float = 60) -> None:
    """Look again and again until something in another process has happened."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)  # other processes move in real time


def write_job(folder: Path, base: str, table: Path, **more: Any) -> Path:
    """A job on the simulator; `more` are sections, merged."""
    job: dict[str, Any] = {
        "name": "test",
        "manifest": {"path": str(table)},
        "endpoint": {
            "profile": "openai",
            "base_url": base,
            "model": "embedded/pixels",
            "api_key_env": None,
        },
        "output": {"path": str(folder / "out")},
    }
    for section, values in more.items():
        job[section] = {**job.get(section, {}), **values} if isinstance(values, dict) else values
    path = folder / "job.yaml"
    path.write_text(json.dumps(job))
    return path
