"""Image hosts on loopback for these tests: raw sockets, so that they may lie as they like."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from pipeline.clock import SystemClock
from pipeline.errors import ImageError
from pipeline.images.load import Images, open_images
from pipeline.images.settings import ImageSettings
from pipeline.local_files import Boundary

Answer = Callable[["Asked"], bytes | AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    line: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        return self.line.split()[1]


@dataclass(slots=True)
class Host:
    """A server and what it saw."""

    port: int = 0
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str = "/a.jpg", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def reply(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """A whole HTTP answer. length: what Content-Length says, if it lies."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def host(answer: Answer, bind: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Host]:
    """Serve until the end of the block; one answer a connection, then it is closed."""
    made = Host()
    tasks: set[asyncio.Task[Any]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            named = [line.partition(":") for line in head[1:] if line]
            asked = Asked(head[0], {name.lower(): value.strip() for name, _, value in named})
            made.asked.append(asked)
            said = answer(asked)
            if isinstance(said, bytes):
                writer.write(said)
            else:
                async for chunk in said:
                    writer.write(chunk)
                    await writer.drain()
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, bind, port)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        # A closed server attaches no connection (asyncio 3.11 leaves its socket open): first none is
        # accepted any more, and those that were get their tasks, after four turns.
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(10):
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(one.wait_closed() for one in writers), return_exceptions=True)


class Names(AbstractResolver):
    """A resolver of the test's own: name -> its answers, one after the other."""

    def __init__(self, names: Mapping[str, list[list[str]]]) -> None:
        self.names, self.asked = dict(names), list[str]()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.names.get(host)
        if not answers:
            raise OSError(None, "no such name")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for one in addresses
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def images(
    folder: Path | None = None,
    *,
    clock: Any = None,
    resolver: AbstractResolver | None = None,
    boundary: Boundary | None = None,
    **settings: Any,
) -> AsyncIterator[Images]:
    """The loader of a run."""
    async with open_images(
        ImageSettings(**settings),
        folder=folder,
        clock=clock or SystemClock(),
        concurrency=8,
        resolver=resolver,
        boundary=boundary or Boundary(root=ImageSettings(**settings).folder),
    ) as opened:
        yield opened


async def code_of(work: Awaitable[object]) -> str:
    """The error code that an image failed with, `ok` if it did not."""
    try:
        await work
    except ImageError as error:
        print(error.message[:200])  # shown with a test that fails
        return error.code if error.message else "no words"
    return "ok"


class FastClock:
    """A clock that stands still but for sleeps, which take no time: they are only counted."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        #: Set by the first sleep.
        self.first = asyncio.Event()
        self._began = SystemClock().now()

    def now(self) -> float:
        return self._began + sum(self.slept)

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.first.set()
        await asyncio.sleep(0)


def peak_mb() -> int:
    """The most memory that this process has had since it was started (not its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
