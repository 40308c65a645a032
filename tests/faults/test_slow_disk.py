"""A disk that takes its time: 50 ms more for every sync, and once 2 s. Nothing is lost, and the
event loop goes on meanwhile: answers still arrive, signals are still heard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import Table
from tests.faults.test_file_faults import shim
from tests.support.checker import check_whole
from tests.support.command import ROOT

__all__ = ["shim"]
WORKERS, ROUNDS = 64, 8

SCRIPT = f"""
import asyncio, ctypes, json, os, sys, time
from pathlib import Path
from pipeline.store.store import open_checkpoint
from pipeline.clock import SystemClock
from tests.support.small_run import derive, reply, sent

folder = Path(sys.argv[1])

async def main():
    ticks = settled = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    async def worker(number):
        nonlocal settled
        for one in range(number, {WORKERS * ROUNDS}, {WORKERS}):
            await checkpoint.reply(sent([one], 1), reply([one]))
            settled += 1

    async with open_checkpoint(folder / "out", derive=derive, clock=SystemClock()) as checkpoint:
        shim = ctypes.CDLL(None)
        shim.fault_arm(os.fsencode(folder / "out"), ctypes.c_long(40), b"slow",
                       os.fsencode(folder / "fired"))
        ticker, began = asyncio.create_task(tick()), time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range({WORKERS}):
                group.create_task(worker(number))
        seconds = time.monotonic() - began
        ticker.cancel()
        print(json.dumps([ticks, settled, seconds]))

asyncio.run(main())
"""


@pytest.mark.faults
def test_the_loop_goes_on_while_the_disk_does_not(tmp_path: Path, shim: Path, table: Table) -> None:
    """Every answer is on disk in the end; ticks of the loop fill the time that syncs took."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(shim)}
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    ticks, settled, seconds = json.loads(ended.stdout)
    fired = (tmp_path / "fired").exists()
    assert len(check_whole(tmp_path / "out")) == settled == WORKERS * ROUNDS
    assert seconds > 2, "the stall was not waited for: what was acknowledged was not on disk"
    # Were it the loop that waits for the disk, there would be next to none.
    assert ticks > seconds / 0.01 / 4
    table.add("slow syncs and a stall", runs=1, fired=int(fired))
