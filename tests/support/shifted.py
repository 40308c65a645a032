"""Processes whose wall clock a test sets, by `clock.c` under their libc."""

from __future__ import annotations

import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.command import ROOT
from tests.support.tools import tool


def library(folder: Path) -> Path:
    """The shim, compiled."""
    made = folder / "clock.so"
    source = ROOT / "tests/support/clock.c"
    words = [tool("cc"), "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"]
    subprocess.run(words, check=True)
    return made


@dataclass(frozen=True, slots=True)
class Shifted:
    """One machine's wall clock; `env` puts a process on it."""

    shim: Path
    held: Path

    def set(self, at: float) -> None:
        """The wall clock now says `at`, seconds since the epoch. No time passes by that."""
        self._put(int((at - time.time()) * 1e9), self._offsets()[1])

    def sleep_until(self, at: float) -> None:
        """As if the machine had slept until `at` by its wall clock."""
        passed = int((at - self.now()) * 1e9)
        wall, up = self._offsets()
        self._put(wall + passed, up + passed)

    def now(self) -> float:
        return time.time() + self._offsets()[0] / 1e9

    def _offsets(self) -> tuple[int, int]:
        wall, up = struct.unpack("=qq", self.held.read_bytes()) if self.held.exists() else (0, 0)
        return wall, up

    def _put(self, wall: int, up: int) -> None:
        new = struct.pack("=qq", wall, up)
        if not self.held.exists():
            self.held.write_bytes(new)
        with self.held.open("r+b") as file:  # in place: it is mapped
            file.write(new)

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.shim), "CLOCK_OFFSET": str(self.held)}
