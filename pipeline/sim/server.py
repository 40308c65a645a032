"""The simulator on a loopback port, with aiohttp's server."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from aiohttp import web

from pipeline.clock import Clock, SystemClock
from pipeline.errors import UsageError
from pipeline.sim.core import Logged, Simulator
from pipeline.sim.knobs import PROFILES, Knobs, turned
from pipeline.sim.wire import MAX_BODY

#: Where the API lives below the root, longest first.
BASES = ("/v1beta/openai", "/api/v1", "/v1")


@asynccontextmanager
async def serve(simulator: Simulator, *, port: int = 0, clock: Clock) -> AsyncIterator[str]:
    """Serve on 127.0.0.1; gives the base URL."""

    async def answer(request: web.Request) -> web.StreamResponse:
        base = next((base for base in BASES if request.path.startswith(base + "/")), "")
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        got = await simulator.handle(request.method, request.path[len(base) :], headers, body)
        if got.delay:
            await clock.sleep(got.delay)
        if got.cut is None and not got.padding:
            return web.Response(status=got.status, body=got.body, headers=got.headers)
        response = web.StreamResponse(status=got.status, headers=got.headers)
        response.content_length = got.padding + len(got.body)
        transport = request.transport
        if got.cut == 0:
            if transport is not None:
                transport.abort()
            return response
        await response.prepare(request)
        await response.write(b"\n" * got.padding + got.body[: got.cut])
        if got.cut is not None:
            await asyncio.sleep(0)
            if transport is not None:
                transport.close()
            return response
        await response.write_eof()
        return response

    app = web.Application(client_max_size=MAX_BODY + 1)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://127.0.0.1:{bound}/api/v1"
    finally:
        await runner.cleanup()


def read_knobs(profile: str, changes: Sequence[str]) -> Knobs:
    """The knobs of a profile with `name=value` changes; UsageError says what is wrong."""
    if profile not in PROFILES:
        raise UsageError(f"--profile {profile}: there are {', '.join(PROFILES)}")
    read: dict[str, object] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--knob {change}: write name=value")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        read[name] = tuple(value) if isinstance(value, list) else value
    try:
        return turned(profile, read)
    except KeyError as error:
        raise UsageError(f"--knob: {error.args[0]}") from None


def run_simulator(
    *, port: int, profile: str, seed: int, knobs: Sequence[str], log: Path | None
) -> int:
    """Serve until SIGINT or SIGTERM; print the base URL. The log is JSON lines.

    knobs: `name=value`, the value as JSON or plain text. UsageError for one that there is not.
    """
    made = read_knobs(profile, knobs)

    async def main() -> None:
        clock = SystemClock()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        file: TextIO | None = log.open("a") if log is not None else None

        def listen(entry: Logged) -> None:
            if file is not None:
                file.write(json.dumps(asdict(entry)) + "\n")
                file.flush()

        simulator = Simulator(made, seed=seed, clock=clock, listen=listen)
        try:
            async with serve(simulator, port=port, clock=clock) as base:
                print(f"listening on {base}", flush=True)  # noqa: T201 - the command's result
                await stop.wait()
        finally:
            if file is not None:
                file.close()

    asyncio.run(main())
    return 0


__all__ = ["run_simulator", "serve"]
