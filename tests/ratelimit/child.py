"""A process that asks as fast as its gate lets it, and writes down when. Started by tests.

    python -m tests.ratelimit.child STATE LOG OUTPUT SECONDS

"Per minute" means per two seconds here. It says `ready`, begins when it gets a line, and writes
a line to the log where a request would be sent.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from pipeline.clock import SystemClock
from pipeline.errors import Stopped
from pipeline.model import Limits
from pipeline.ratelimit.gate import open_gate
from pipeline.ratelimit.rules import requests
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Kind, Verdict

MINUTE = 2.0
PER_MINUTE = 20
PER_DAY = 45


async def main(state: Path, log: Path, output: str, seconds: float) -> None:
    requests.MINUTE_LENGTH = MINUTE
    requests.PAD_START = 1.0
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    limits = Limits(requests_per_minute=PER_MINUTE, requests_per_day=PER_DAY)
    end = time.monotonic() + seconds
    async with open_gate(
        QuotaSettings(),
        limits,
        account="account",
        model="m",
        output=output,
        patience=900.0,
        clock=SystemClock(),
        rng=random.Random(output),
        state=state,
    ) as gate:

        async def worker() -> None:
            while time.monotonic() < end:
                try:
                    permit = await gate.permit(tokens=1)
                except Stopped:
                    return
                os.write(fd, f"{time.monotonic()} {output}\n".encode())
                await asyncio.sleep(0.05)
                gate.report(permit, Verdict(kind=Kind.OK), tokens=None, cost_usd=None, images=["x"])

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(worker())
    os.close(fd)


if __name__ == "__main__":
    state, log, output, seconds = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    asyncio.run(main(Path(state), Path(log), output, float(seconds)))
