"""600 a minute over real sockets for 100 s, against services that count in every way at once."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pipeline.clock import SystemClock
from pipeline.errors import Exit, Stopped, StopReason
from pipeline.model import Limits
from pipeline.ratelimit.gate import Gate, open_gate
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.verdict import Kind, Scope, Verdict
from tests.ratelimit.servers import OK, SERVERS

PER_MINUTE = 600
BODY = b"x" * 60_000


class Service:
    """Counts each request in the instant of its arrival; answers after 200 to 800 ms."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._servers = {name: make(PER_MINUTE) for name, make in SERVERS.items()}
        self.arrivals: list[float] = []
        self.refused = dict.fromkeys(self._servers, 0)

    async def answer(self, request: web.Request) -> web.Response:
        at = time.time()
        self.arrivals.append(at)
        for name, server in self._servers.items():
            self.refused[name] += not server.take(at)
        await request.read()
        await asyncio.sleep(self._rng.uniform(0.2, 0.8))
        return web.Response(text="{}")


async def ask(gate: Gate, session: aiohttp.ClientSession, url: str, service: Service) -> None:
    """One worker; a refusal by any of the servers would be told to the gate."""
    while True:
        try:
            permit = await gate.permit(tokens=100)
        except Stopped:
            return
        refused = sum(service.refused.values())

        async def written(*_: object, permit: object = permit) -> None:
            gate.written(permit)  # type: ignore[arg-type]  # bound early, it is this permit

        async with session.post(url, data=BODY, trace_request_ctx=written) as reply:
            await reply.read()
        late = Verdict(kind=Kind.ACCOUNT_MINUTE, scope=Scope.ACCOUNT)
        bad = sum(service.refused.values()) > refused
        gate.report(permit, late if bad else OK, tokens=100, cost_usd=0.0, images=["x"])


async def drive(state: Path, seconds: float, *, per_day: int | None) -> Service:
    service = Service(1)
    app = web.Application()
    app.router.add_post("/", service.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    trace = aiohttp.TraceConfig()

    async def sent(_: object, context: object, __: object) -> None:
        await context.trace_request_ctx()  # type: ignore[attr-defined]  # set by the request

    trace.on_request_chunk_sent.append(sent)
    try:
        async with (
            open_gate(
                QuotaSettings(concurrency=32),
                Limits(requests_per_minute=PER_MINUTE, requests_per_day=per_day),
                account="account",
                model="m",
                output="out",
                patience=900.0,
                clock=SystemClock(),
                rng=random.Random(1),
                state=state,
            ) as gate,
            aiohttp.ClientSession(trace_configs=[trace]) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(32):
                group.create_task(ask(gate, session, url, service))
            await asyncio.sleep(seconds)
            gate.stop(StopReason(exit=Exit.LATER, message="enough"))
    finally:
        await runner.cleanup()
    return service


@pytest.mark.weekly
@pytest.mark.parametrize("per_day", [None, 100_000])
def test_a_hundred_seconds_at_600_a_minute(tmp_path: Path, per_day: int | None) -> None:
    """No refusal in any way of counting, and 97 % of the allowance used in the last minute."""
    service = asyncio.run(drive(tmp_path / "state", 100.0, per_day=per_day))

    last = service.arrivals[-1]
    used = sum(1 for at in service.arrivals if at > last - 60.0)
    print(service.refused, used)
    assert not any(service.refused.values())
    assert used >= 0.97 * PER_MINUTE


def test_two_seconds_over_real_sockets(tmp_path: Path) -> None:
    """The same for two seconds: spaced, and none refused."""
    service = asyncio.run(drive(tmp_path / "state", 2.0, per_day=1000))

    assert not any(service.refused.values())
    assert 1 <= len(service.arrivals) <= 31
