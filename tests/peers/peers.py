"""Programs of other people, each in a virtual environment of its own below `.peers/`.

They share no dependency with ours, and no line of code: what they say of HTTP, of limits and of
OpenRouter's types is their own reading. An environment is made once and kept until its
requirements change; one that cannot be made fails the test.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.command import ROOT

PEERS = {
    "airflow": "apache-airflow>=3.3,<4",
    "kubernetes": "kubernetes-validate>=1.37,<2",
    # 1.107 was published by thieves and withdrawn.
    "litellm": "litellm[proxy]>=1.100,!=1.107.*,<2",
    "mocklimit": "mocklimit>=0.6,<1",
    "openrouter": "openrouter>=1.3,<2",
    # Prefect 3.8 calls FastAPI by a name that later versions took away.
    "prefect": "prefect>=3.8,<4 fastapi<0.140",
    "ray": "ray>=2.60,<2.61",
}


#: LiteLLM's master key.
KEY = "sk-peer-1234567890"


@dataclass(frozen=True)
class Proxy:
    """LiteLLM's proxy."""

    base: str
    log: Path

    def served(self) -> int:
        """Chat completions that it answered with 200, by its own log."""
        lines = self.log.read_text().splitlines()
        return sum("/v1/chat/completions" in line and "200 OK" in line for line in lines)


class Llama:
    """llama.cpp's server on one port, as often as it is started."""

    def __init__(self, model: Path, mmproj: Path) -> None:
        self._files, self._port = (model, mmproj), free_port()
        self._log = model.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self.base, self.key = f"http://127.0.0.1:{self._port}/v1", "llama-key-1234567890"

    def start(self) -> None:
        """Load, and return when it answers."""
        script = Path(__file__).with_name("serve_llama.py")
        command = [sys.executable, str(script), *map(str, self._files), str(self._port), self.key]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        until_ready(self._process, f"http://127.0.0.1:{self._port}/health", self._log)

    def kill(self) -> None:
        """-9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def bin_of(name: str) -> Path:
    """The `bin` folder of a peer's environment, made now if it is not there yet."""
    wanted = f"{PEERS[name]} {sys.version_info[:2]}"
    folder = ROOT / ".peers" / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            run([sys.executable, "-m", "venv", str(folder)])
            run([str(folder / "bin/python"), "-m", "pip", "install", "-q", *PEERS[name].split()])
            (folder / "ready").write_text(wanted)
    return folder / "bin"


def run(command: list[str], **more: str) -> str:
    """Run to its end; what it printed. AssertionError with its own words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(more))
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what would lead a peer to our packages or to a proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}


def free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


@contextmanager
def serving(command: list[str], ready: str, log: Path, **more: str) -> Iterator[None]:
    """A server as a process until the end of the block; `ready` is a URL that answers 200."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment(more), cwd=log.parent
        )
        try:
            until_ready(process, ready, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the URL answers 200; AssertionError with the log when the process ends before."""
    end = time.monotonic() + 120
    while not answers(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)  # another process starts in its own time


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as got:
            return bool(got.status == 200)
    except OSError:
        return False
