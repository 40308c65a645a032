"""llama.cpp's server, started with a run and ended with it.

It lives in a child process of its own: a fault in it ends the child, which is started again on the
same port. Requests meanwhile meet a closed port, which is an outage and fails no image. The child
ends with this process, however that ends (`child.py`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from pipeline.clock import Clock
from pipeline.errors import ServiceError
from pipeline.service.llamacpp.child import Orders, Report
from pipeline.service.settings import EndpointSettings

#: Deaths in a row without an answer between them, after which it is given up. More than one image
#: has attempts: one picture that kills the server each time must not end the run.
DEATHS = 8
#: Seconds before it is started again: the first, and the longest.
AGAIN_FIRST, AGAIN_LONGEST = 1.0, 60.0
#: Seconds between lines on how much of the model is loaded.
LOADING_EVERY = 5.0
_CHILD = "pipeline.service.llamacpp.child"
#: `0.00.010.524 E llama_model_load: error loading model: …`
_ERROR_LINE = re.compile(r"^[\d.]+ E \S+\s*:?\s*(?:error: |error loading model: )?(.+)$")
_ENDED = "llama.cpp's server ended"
_log = logging.getLogger("pipeline")


class LlamaServer:
    """One server. Made by `llama_server`."""

    def __init__(self, settings: EndpointSettings, concurrency: int, clock: Clock) -> None:
        self._settings, self._concurrency, self._clock = settings, concurrency, clock
        self.key = secrets.token_hex(16)
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=40)
        self._port = 0
        self.url, self.slots = "", 0
        #: When a request was last answered, on the clock's monotonic time.
        self.answered: Callable[[], float] = lambda: float("-inf")
        #: Called with why, when it is given up.
        self.on_end: Callable[[str], None] = lambda _message: None

    async def start(self) -> None:
        """Load the model and serve. ServiceError when it cannot."""
        orders = Orders(
            model=str(Path(self._settings.model).expanduser()),
            mmproj=str(Path(self._settings.mmproj or "").expanduser()),
            name=self._settings.model,
            key=self.key,
            concurrency=self._concurrency,
            port=self._port,
            parent=os.getpid(),
        )
        began = self._clock.monotonic()
        self._lines.clear()
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # ^C is for the run, which answers what is under way
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._reading = asyncio.create_task(self._keep_lines(process))
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(asdict(orders)).encode() + b"\n")
            await process.stdin.drain()
        telling = asyncio.create_task(self._say_how_far(process.pid, orders))
        try:
            line = await process.stdout.readline()
        finally:
            telling.cancel()
        report = Report(**json.loads(line)) if line else Report()
        if report.url is None:
            await process.wait()
            await self._reading
            files = f"{orders.model} with {orders.mmproj}"
            why = f"{files} cannot be loaded: {self._why(process.returncode)}"
            raise ServiceError(f"llamacpp: {report.refused or why}")
        self.url, self.slots = report.url, report.slots
        self._port = int(report.url.rpartition(":")[2].partition("/")[0])
        _log.info(
            "llama.cpp: ready after %.0f s: %d at a time, %s tokens of context each",
            self._clock.monotonic() - began,
            report.slots,
            f"{report.context:,}",
        )

    async def keep(self) -> None:
        """Start it again whenever it dies, until it was in vain too often."""
        deaths, died_at = 0, self._clock.monotonic()
        while True:
            assert self._process is not None
            code = await self._process.wait()
            await self._reading
            why = self._why(code)
            deaths = 1 if self.answered() > died_at else deaths + 1
            died_at = self._clock.monotonic()
            while True:
                if deaths >= DEATHS:
                    self.on_end(f"{_ENDED} {deaths} times in a row (last: {why})")
                    return
                wait = min(AGAIN_LONGEST, AGAIN_FIRST * 2 ** (deaths - 1))
                _log.warning("%s (%s); starting it again in %.0f s", _ENDED, why, wait)
                await self._clock.sleep(wait)
                try:
                    await self.start()
                    break
                except ServiceError as error:
                    deaths, why = deaths + 1, str(error)

    async def end(self) -> None:
        """End it: it has nothing to save."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _keep_lines(self, process: asyncio.subprocess.Process) -> None:
        """Read its log, so that it never waits for us; the last lines tell why it died."""
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:  # longer than is read at once
                continue
            if not line:
                return
            self._lines.append(line.decode("utf-8", "replace").strip())

    def _why(self, code: int | None) -> str:
        """Why it died, in its own words where there are any."""
        errors = [match[1] for line in self._lines if (match := _ERROR_LINE.match(line))]
        if code == -signal.SIGKILL:
            return "killed by SIGKILL: out of memory?"
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return (
            errors[0] if errors else next(filter(None, reversed(self._lines)), f"exit code {code}")
        )

    async def _say_how_far(self, pid: int, orders: Orders) -> None:
        total = sum(_size(path) for path in (orders.model, orders.mmproj))
        if not all(Path(path).is_file() for path in (orders.model, orders.mmproj)):
            return  # the refusal says so
        _log.info("llama.cpp: loading %s, %s MB", orders.model, f"{total / 1e6:,.0f}")
        while True:
            await self._clock.sleep(LOADING_EVERY)
            if total and (resident := _resident(pid)):
                _log.info("llama.cpp: loading, %.0f %%", min(99, 100 * resident / total))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _resident(pid: int) -> int:
    """Bytes of a process that are in memory, mapped files included; 0 where it is not told."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def llama_server(
    settings: EndpointSettings, *, concurrency: int, clock: Clock
) -> AsyncIterator[LlamaServer]:
    """A server for the job's model until the end of the block. ServiceError (69): the extra is not
    installed, a file is not what it should be, or memory is too short."""
    if find_spec("xllamacpp") is None:
        raise ServiceError("llamacpp: needs an extra; pip install 'caption-pipeline[llama]'")
    if settings.mmproj is None:
        raise ServiceError(
            f"llamacpp: {settings.model} has no vision projector: name its mmproj-….gguf, which is "
            "published beside it, in endpoint.mmproj"
        )
    server = LlamaServer(settings, concurrency, clock)
    try:
        await server.start()
        keeping = asyncio.create_task(server.keep())
        try:
            yield server
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    finally:
        await server.end()
