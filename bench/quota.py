"""What the gate costs: CPU per permit and report, and the ledger's share of a core.

    python bench/quota.py                 all of it, about half a minute
    python bench/quota.py --json

`free` is a gate without limits (concurrency only, the paid endpoint), less the bare loop that does
the same without a gate. `ledger` is 600 a minute with a daily limit, 20 s of real time each with
a ledger on the disk and without; the difference is the ledger's. CPU is that of the whole
process, its threads included.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from pipeline.clock import SystemClock
from pipeline.model import Limits
from pipeline.ratelimit.gate import Gate, open_gate
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Kind, Verdict

OK = Verdict(kind=Kind.OK)
KEYS = ["image"]
#: Targets: µs of CPU, and share of a core.
FREE_US, LEDGER_SHARE = 20.0, 0.02


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def free(gate: Gate, count: int, workers: int) -> float:
    """CPU µs for a permit and its report, with so many workers that yield in between."""

    async def with_gate() -> None:
        for _ in range(count // workers):
            permit = await gate.permit(tokens=500)
            await asyncio.sleep(0)
            gate.report(permit, OK, tokens=400, cost_usd=0.0, images=KEYS)

    async def bare() -> None:
        for _ in range(count // workers):
            await asyncio.sleep(0)

    spent = []
    for one in (bare, with_gate):
        begun = cpu()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(one())
        spent.append(cpu() - begun)
    return (spent[1] - spent[0]) / count * 1e6


async def kept(gate: Gate, seconds: float) -> tuple[float, int]:
    """Share of a core, requests."""
    sent, begun, end = 0, cpu(), time.monotonic() + seconds

    async def worker() -> None:
        nonlocal sent
        while time.monotonic() < end:
            permit = await gate.permit(tokens=500)
            sent += 1
            await asyncio.sleep(0.3)
            gate.report(permit, OK, tokens=400, cost_usd=0.0, images=KEYS)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(worker())
    return (cpu() - begun) / seconds, sent


def opener(
    state: Path, limits: Limits, concurrency: int, account: str | None = "bench"
) -> AbstractAsyncContextManager[Gate]:
    return open_gate(
        QuotaSettings(concurrency=concurrency),
        limits,
        account=account,
        model="bench",
        output="bench",
        patience=900.0,
        clock=SystemClock(),
        rng=random.Random(1),
        state=state,
    )


async def main() -> dict[str, float]:
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        async with opener(Path(folder), Limits(), 64) as gate:
            await free(gate, 20_000, 1)
            figures["free_us"] = min([await free(gate, 100_000, 1) for _ in range(3)])
            figures["free_64_workers_us"] = min([await free(gate, 100_000, 64) for _ in range(3)])
        limits = Limits(requests_per_minute=600, requests_per_day=1_000_000)
        shares = []
        for account in (None, "bench"):
            async with opener(Path(folder) / "state", limits, 8, account) as gate:
                share, sent = await kept(gate, 20.0)
                shares.append(share)
        figures["paced_core_share"], whole = shares
        figures["ledger_core_share"] = whole - shares[0]
        figures["ledger_requests_per_minute"] = sent / 20.0 * 60
    return figures


if __name__ == "__main__":
    figures = asyncio.run(main())
    if "--json" in sys.argv:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:30} {figure:10.4f}")
    sys.exit(figures["free_us"] > FREE_US or figures["ledger_core_share"] > LEDGER_SHARE)
