"""The HTTP client: one address, one key, no redirects, a deadline for the whole call.

The service answers 200 at once and then pads with blanks while the model works, so a timeout a
read would never fire: the deadline covers the call from the permit to the last byte. A body is
read whole and handed on unparsed. Image downloads never share this session.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from pipeline import __version__
from pipeline.aio import Deadline
from pipeline.clock import Clock, micros
from pipeline.errors import NoReply
from pipeline.memory_budget import Lease, MemoryBudget
from pipeline.model import Reply
from pipeline.redact import HIDDEN, spellings
from pipeline.service.body import is_whole, unpacked
from pipeline.service.classify import headers_kept
from pipeline.service.endpoint import Endpoint
from pipeline.service.exchange import (
    HEADER_BYTES,
    CutShort,
    Doubled,
    Poster,
    SilentRequest,
    Spoiled,
    TooLong,
    read_body,
)
from pipeline.service.last_answers import LastAnswers, nothing
from pipeline.service.settings import MAX_BODY

#: Connections that may stay open beside those in use, at most.
MOST_SPARE = 64
#: Bytes of all large answers in memory at once, and what is not yet large.
MAX_ANSWERS, SMALL_ANSWER = 48 * 2**20, 2**18
#: Name, connection, TLS and proxy together take no longer, and never more than half of the
#: deadline: so a call that runs out of time has certainly been connected, and may have been heard.
CONNECT_SECONDS = 15.0
#: A shorter key (`EMPTY`, `sk-1234`) is no secret, and its letters may stand in any caption.
SECRET_CHARS = 16


class Transport(Protocol):
    """The seam under the client: tests answer here without a socket."""

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        written: Callable[[], None],
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One exchange; raises NoReply. The caller keeps the deadline.

        written: called as the request leaves, where that is known.
        """
        ...


class AnswerMemory:
    """Bounds the bytes of large answers, from their coming until they are on disk.

    Each belongs to the task that receives it; what is small is not counted.
    """

    def __init__(self) -> None:
        self._budget = MemoryBudget(MAX_ANSWERS)
        self._leases: dict[asyncio.Task[Any] | None, Lease] = {}

    async def grow(self, size: int) -> None:
        """Wait until there is memory for so many bytes of this task's answer."""
        if size > SMALL_ANSWER:
            task = asyncio.current_task()
            if task not in self._leases:
                self._leases[task] = Lease(self._budget)
            await self._leases[task].grow(size)

    async def release(self) -> None:
        """This task's answer is no longer in memory."""
        if self._leases and (lease := self._leases.pop(asyncio.current_task(), None)) is not None:
            await lease.close()


class HttpTransport:
    """aiohttp, with every convenience that could leak or hide something switched off."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        memory: AnswerMemory,
        proxy: str | None = None,
        *,
        spare: int,
    ) -> None:
        """spare: connections that may stay open without a request."""
        self._session, self._memory, self._proxy = session, memory, proxy
        self._spare = spare
        self._posters: dict[str, Poster] = {}
        self._answers = LastAnswers()
        #: Set when an answer becomes doubtful.
        self.doubt = asyncio.Event()

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        written: Callable[[], None],
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            status, sent_back, data = await self._exchange(method, url, headers, body, written)
            if (encoding := sent_back.get("Content-Encoding")) is not None:
                data = unpacked(data, encoding, MAX_BODY)
            if status == 200 and (earlier := self._answers.repeats(body, data, written)):
                self._poster(url, headers).distrust(written, earlier)
                raise Doubled
            if encoding is not None:
                await self._memory.grow(len(data))
            if len(data) > MAX_BODY:
                raise TooLong
            return status, sent_back, data
        except (Doubled, TooLong, LineTooLong) as error:
            message = {
                Doubled: "more than one answer came on the connection, or one too early; which is ours cannot be known",
                TooLong: f"the answer is larger than {MAX_BODY >> 20} MB",
                LineTooLong: f"a header of the answer is longer than {HEADER_BYTES >> 10} KiB",
            }[type(error)]
            raise NoReply("server_error", message, sent=True) from None
        except _NOT_CONNECTED as error:
            message = f"no connection ({_why(error)})"
            raise NoReply("server_error", message, sent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            # The text of client errors can hold headers: only the type is told.
            message = f"the connection broke ({type(error).__name__})"
            raise NoReply("server_error", message, sent=True) from None

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        written: Callable[[], None],
    ) -> tuple[int, Mapping[str, str], bytes]:
        """The answer as it came."""
        while True:
            try:
                if self._proxy is None and method == "POST" and body is not None:
                    return await self._poster(url, headers).post(body, written)
                return await self._by_session(method, url, headers, body)
            except CutShort as cut:
                if not is_whole(cut.data, cut.headers.get("Content-Encoding", "")):
                    raise
                # A head that promises more than comes takes nothing from an answer that is whole.
                return cut.status, cut.headers, cut.data
            except Spoiled:
                continue  # nothing was sent; that connection is closed, take another

    @property
    def spoiled(self) -> int:
        """Connections on which more came than was asked for."""
        return sum(poster.spoiled for poster in self._posters.values())

    def doubted(self) -> list[Callable[[], None]]:
        """See `Poster.doubted`."""
        self.doubt.clear()
        return [request for poster in self._posters.values() for request in poster.doubted()]

    async def last_look(self) -> list[Callable[[], None]]:
        """See `Poster.last_look`."""
        return [
            request for poster in self._posters.values() for request in await poster.last_look()
        ]

    def close(self) -> None:
        """Let go of the connections; before the session is closed."""
        for poster in self._posters.values():
            poster.close()

    def _poster(self, url: str, headers: Mapping[str, str]) -> Poster:
        """Of this URL; a client sends the same headers every time."""
        poster = self._posters.get(url)
        if poster is None:
            poster = self._posters[url] = Poster(
                self._session, URL(url), headers, MAX_BODY, self._memory.grow, self._spare
            )
            poster.on_doubt = self.doubt.set
        return poster

    async def _by_session(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """What is rare: questions without a body, and all that goes through a proxy."""
        async with self._session.request(
            method,
            URL(url),
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy,
        ) as response:
            try:
                encoding = response.headers.get("Content-Encoding", "")
                data = await read_body(response.content, MAX_BODY, self._memory.grow, encoding)
            except CutShort as cut:
                cut.status, cut.headers = response.status, response.headers
                raise
            return response.status, response.headers, data


#: Nothing of the request has left: the name, the connection, TLS or the proxy's tunnel failed.
_NOT_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
)


def _why(error: Exception) -> str:
    """What was in the way, in words that hold nothing but the host."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return "it took too long"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answers {error.status}"
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} does not resolve"
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "")
            return f"the certificate of {error.host} is not trusted: {reason}".rstrip(": ")
        case aiohttp.ClientConnectorSSLError():
            return f"no TLS at {error.host}:{error.port}"
        case aiohttp.ClientConnectorError() if error.os_error.errno:
            return os.strerror(error.os_error.errno).lower()
    return type(error).__name__


class Client:
    """Sends request bodies to one endpoint. Made by `open_client`."""

    def __init__(
        self,
        endpoint: Endpoint,
        transport: Transport,
        clock: Clock,
        memory: AnswerMemory | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._memory = memory or AnswerMemory()
        self._sockets = transport if isinstance(transport, HttpTransport) else None
        self.clock = clock
        self._headers = request_headers(endpoint)
        self._deadline = Deadline(endpoint.settings.timeout)
        key = endpoint.key.reveal() if endpoint.key is not None else ""
        self._spelled = [
            spelling.encode() for spelling in (spellings([key]) if len(key) >= SECRET_CHARS else ())
        ]

    async def send(self, body: bytes, written: Callable[[], None] = nothing) -> Reply:
        """POST one chat completion; the whole answer, unparsed. Raises NoReply.

        written: called as the request leaves. `release` when the answer is on disk.
        """
        return await self._call("POST", "/chat/completions", body, written)

    async def get(self, path: str) -> Reply:
        """GET below the base URL. Raises NoReply."""
        try:
            return await self._call("GET", path, None, nothing)
        finally:
            await self.release()

    @property
    def spoiled(self) -> int:
        """Connections on which more came than was asked for."""
        return self._sockets.spoiled if self._sockets else 0

    async def doubt(self) -> None:
        """Wait until an answer becomes doubtful: forever, where there are no sockets."""
        await (self._sockets.doubt if self._sockets else asyncio.Event()).wait()

    def doubted(self) -> list[Callable[[], None]]:
        """What was given as `written` with requests whose answers can no longer be trusted:
        more came on their connections than was asked for. Each is told once."""
        return self._sockets.doubted() if self._sockets else []

    async def last_look(self) -> list[Callable[[], None]]:
        """`doubted`, when nothing is under way any more."""
        return await self._sockets.last_look() if self._sockets else []

    async def release(self) -> None:
        """The answer that this task was sent last is no longer needed in memory."""
        await self._memory.release()

    async def _call(
        self, method: str, path: str, body: bytes | None, written: Callable[[], None]
    ) -> Reply:
        started = self.clock.monotonic()
        try:
            status, headers, data = await self._deadline.within(
                self._transport.request(
                    method, self.endpoint.base_url + path, self._headers, body, written
                )
            )
        except TimeoutError:
            message = f"no whole answer within {self.endpoint.settings.timeout:g} s"
            raise NoReply("timeout_service", message, sent=True) from None
        return Reply(
            status=status,
            headers=self._without_key(headers_kept(headers)),
            body=self._hidden(data),
            latency_ms=int((self.clock.monotonic() - started) * 1000),
            at=micros(self.clock.now()),
        )

    def _hidden(self, data: bytes) -> bytes:
        """The body without our key, which gateways like to quote when they refuse it: what
        comes from here is stored as it is."""
        for spelled in self._spelled:
            if spelled in data:
                data = data.replace(spelled, HIDDEN.encode())
        return data

    def _without_key(self, headers: dict[str, str]) -> dict[str, str]:
        joined = "\n".join(headers.values()).encode()
        if not any(spelled in joined for spelled in self._spelled):
            return headers
        return {name: self._hidden(text.encode()).decode() for name, text in headers.items()}


def request_headers(endpoint: Endpoint) -> dict[str, str]:
    """Headers of every request to this endpoint, the key included."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": f"caption-pipeline/{__version__}",
    }
    if endpoint.key is not None:
        headers["Authorization"] = f"Bearer {endpoint.key.reveal()}"
    app = endpoint.settings.app
    if endpoint.profile.openrouter_fields:
        if app.url:
            headers["HTTP-Referer"] = app.url
        if app.title:
            headers["X-OpenRouter-Title"] = headers["X-Title"] = app.title
    return headers


@asynccontextmanager
async def open_client(
    endpoint: Endpoint, *, concurrency: int, clock: Clock, transport: Transport | None = None
) -> AsyncIterator[Client]:
    """A client with a connection for each request in flight and some spare ones; closed at the end of the block.

    transport: what to send through instead of sockets.
    """
    if transport is not None:
        yield Client(endpoint, transport, clock)
        return
    spare = min(concurrency, MOST_SPARE) + 1
    # Through a proxy, what comes late on a connection cannot be told: each request has its own.
    connector = aiohttp.TCPConnector(
        limit=concurrency + spare + 2,
        ttl_dns_cache=300,
        force_close=endpoint.settings.proxy is not None,
    )
    connecting = min(CONNECT_SECONDS, endpoint.settings.timeout / 2)
    timeout = aiohttp.ClientTimeout(total=None, connect=connecting)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        request_class=SilentRequest,
    ) as session:
        memory = AnswerMemory()
        sockets = HttpTransport(session, memory, endpoint.settings.proxy, spare=spare)
        try:
            yield Client(endpoint, sockets, clock, memory)
        finally:
            sockets.close()
