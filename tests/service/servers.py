"""Servers that lie: a few lines of asyncio each, so that every byte and every close is theirs."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pipeline.clock import SystemClock
from pipeline.service.client import Client, open_client
from pipeline.service.endpoint import endpoint_of
from pipeline.service.settings import EndpointSettings

KEY = "sk-or-v1-0123456789abcdef"
ANSWER = (
    b'{"id":"gen-1","choices":[{"index":0,"finish_reason":"stop","message":{"content":"A cat."}}]}'
)


@dataclass(slots=True)
class Heard:
    """One request as the server read it."""

    line: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Server:
    """Where it listens and what it has heard."""

    base: str = ""
    record_result: list[Heard] = field(default_factory=list)
    #: Connections accepted so far, and most at once.
    connections: int = 0
    open: int = 0
    most: int = 0


Act = Callable[[Heard], Awaitable[None]]


@asynccontextmanager
async def served(act: Act, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    """Serve on a free port; `act` answers each request as it likes."""
    server = Server()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.open += 1
        server.most = max(server.most, server.open)
        try:
            while (record_result := await read(reader, writer)) is not None:
                server.record_result.append(record_result)
                await act(record_result)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            server.open -= 1
            writer.close()

    listening = await asyncio.start_server(talk, host, 0, limit=2**24)
    address = listening.sockets[0].getsockname()
    server.base = f"http://{host}:{address[1]}/api/v1"
    try:
        yield server
    finally:
        listening.close()


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Heard | None:
    """One request with its body, None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Heard(line=line, headers=headers, body=body, writer=writer)


def response(body: bytes = ANSWER, status: str = "200 OK", *headers: str) -> bytes:
    """A whole response; Content-Length unless the headers say otherwise."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(re.match("(?i)content-length|transfer-encoding", one) for one in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def says(*pieces: bytes, close: bool = False) -> Act:
    """Write the pieces; then close, or leave the connection open."""

    async def act(record_result: Heard) -> None:
        for piece in pieces:
            record_result.writer.write(piece)
            await record_result.writer.drain()
        if close:
            record_result.writer.close()

    return act


def resets(*pieces: bytes) -> Act:
    """Write the pieces, then end the connection with an RST."""

    async def act(record_result: Heard) -> None:
        await says(*pieces)(record_result)
        if pieces:
            await asyncio.sleep(0.05)  # an RST overtakes what the client has not read yet
        plug = record_result.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        record_result.writer.transport.abort()

    return act


@asynccontextmanager
async def client_of(base: str, concurrency: int = 4, **settings: object) -> AsyncIterator[Client]:
    """The real client on real sockets."""
    made = EndpointSettings.model_validate(
        {"base_url": base, "model": "m", "timeout": 20, **settings}
    )
    endpoint = endpoint_of(made, {"OPENROUTER_API_KEY": KEY})
    async with open_client(endpoint, concurrency=concurrency, clock=SystemClock()) as client:
        yield client
