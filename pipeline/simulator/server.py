"""The simulator on a loopback port, with aiohttp's server. Waits, cuts and resets happen here."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from pipeline.clock import Clock, SystemClock
from pipeline.errors import UsageError
from pipeline.simulator.core import Simulator
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.log import lines_to
from pipeline.simulator.parse_options import described, parse_options, turned
from pipeline.simulator.wire import SimResponse

#: A request that is never answered holds its connection at most so long.
_HANG = 86_400.0


@asynccontextmanager
async def serve(
    simulator: Simulator, *, port: int = 0, clock: Clock | None = None
) -> AsyncIterator[str]:
    """Serve on 127.0.0.1 until the end of the block; gives the base URL."""
    time = clock or simulator.clock

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            body: bytes | None = await request.read()
        except web.HTTPRequestEntityTooLarge:
            body = None
        target = str(request.rel_url)
        got = await simulator.handle(request.method, target, request.headers, body)
        await time.sleep(got.delay)
        return await _send(request, got, time)

    app = web.Application(client_max_size=simulator.knobs.max_body + 1)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://127.0.0.1:{bound}{simulator.base}"
    finally:
        await runner.cleanup()


async def _send(request: web.Request, got: SimResponse, clock: Clock) -> web.StreamResponse:
    """Send a response as it says; a plain one in one go."""
    if got.ending == "hang":
        await clock.sleep(_HANG)
    if got.ending in ("reset", "hang"):
        _reset(request)
        return web.Response(status=got.status)
    if got.ending == "whole" and len(got.chunks) <= 1:
        return web.Response(status=got.status, headers=got.headers, body=got.body)
    response = web.StreamResponse(status=got.status, headers=got.headers)
    await response.prepare(request)
    for wait, chunk in got.chunks:
        if wait:
            await clock.sleep(wait)
        await response.write(chunk)
    if got.ending == "cut":
        # The terminating chunk is missing: the client sees that the body is not whole.
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write_eof()
    return response


def _reset(request: web.Request) -> None:
    """End the connection with an RST, as a crashed proxy does."""
    transport = request.transport
    if transport is None:
        return
    plug = transport.get_extra_info("socket")
    if plug is not None:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def read_knobs(profile: str, changes: Sequence[str]) -> Knobs:
    """The knobs of a profile with `name=value` changes; UsageError says what is wrong."""
    try:
        return turned(profile, parse_options(changes))
    except ValueError as error:
        raise UsageError(f"simulate: {error}") from None


def describe_knobs(profile: str) -> str:
    """The text of `simulate --knobs`; UsageError for a profile that there is not."""
    try:
        return described(profile)
    except ValueError as error:
        raise UsageError(f"simulate: {error}") from None


def run_simulator(
    *, port: int, profile: str, seed: int, knobs: Sequence[str] = (), log: Path | None = None
) -> int:
    """Serve until SIGINT or SIGTERM; print the base URL. The log is JSON lines.

    knobs: `name=value`, the value as JSON or plain text. UsageError for one that there is not,
    for a port that is taken and for a log that cannot be written.
    """
    made = read_knobs(profile, knobs)
    try:
        asyncio.run(_run(port, made, seed, log))
    except OSError as error:
        raise UsageError(f"simulate: {error}") from None
    return 0


async def _run(port: int, knobs: Knobs, seed: int, log: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        listen = lines_to(stack.enter_context(log.open("ab"))) if log is not None else None
        simulator = Simulator(knobs, seed=seed, clock=SystemClock(), listen=listen)
        base = await stack.enter_async_context(serve(simulator, port=port))
        key = " and any text as its key" if knobs.needs_key and not knobs.keys else ""
        print(f"listening on {base}", flush=True)  # noqa: T201 - the command's result
        print(  # noqa: T201 - how to use it
            f'in a job: endpoint: {{profile: {knobs.service}, base_url: "{base}"}}{key}', flush=True
        )
        await stop.wait()
