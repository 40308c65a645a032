"""`service.client.Transport` without a socket: a function answers, and what was sent is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from pipeline.errors import NoReply
from pipeline.simulator.core import Simulator
from tests.support.inprocess import InProcess

#: (status, headers, body).
Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as the client sends it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_chat(self) -> bool:
        return self.url.endswith("/chat/completions")


Service = Callable[[Exchange], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class FakeTransport:
    """The client's transport over a service that is a function; it may raise `NoReply`."""

    service: Service
    sent: list[Exchange] = field(default_factory=list)

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        written: Callable[[], None],
    ) -> Answer:
        written()
        self.sent.append(Exchange(method, url, dict(headers), body or b""))
        return await self.service(self.sent[-1])


def simulated(simulator: Simulator) -> Service:
    """The simulator in process; a connection that breaks is told as the client's sockets tell it."""
    inner = InProcess(simulator)

    async def service(sent: Exchange) -> Answer:
        try:
            return await inner.request(sent.method, sent.url, sent.headers, sent.body)
        except ConnectionResetError:
            raise NoReply("server_error", "the connection broke (simulated)", sent=True) from None

    return service
