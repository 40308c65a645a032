"""One POST over a pooled aiohttp connection, without what `ClientSession` does around it.

A session prepares every request anew: merged headers, cookies, redirects, authentication, traces,
a payload object and a task that writes it. All of that is switched off or the same each time
here, and it costs more than sending and reading. So the request's head is made once, by aiohttp's
own `ClientRequest`, head and body are written in one piece, and a connection is not given back to
the pool after each answer. Connecting (names, TLS, limits and timeouts) and parsing the answer stay
aiohttp's; `connector.connect` and `ResponseHandler` are what `ClientSession` itself calls.

Not for proxies, which may want another request line: those go through the session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

#: A connection that has been idle for longer is not used again, as in aiohttp's own pool.
IDLE_SECONDS = 15.0


class Spoiled(Exception):
    """A connection of the pool on which the server spoke unasked.

    What a server says on an idle connection (a balancer its 408, a broken gateway a second
    answer) would be read as the answer to the next request: a caption on the wrong image.
    """


class SilentRequest(aiohttp.ClientRequest):
    """A session's request that goes out on a silent connection only; raises Spoiled."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is None or conn.protocol.should_close:
            raise Spoiled
        return await super().send(conn)


class TooLong(Exception):
    """The answer's body is longer than what is read."""


class Poster:
    """Posts bodies to one URL; one an endpoint."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        headers: Mapping[str, str],
        most: int,
        grow: Callable[[int], Awaitable[None]],
    ) -> None:
        """most: longest body that is read, in bytes; grow: waits until there is memory for so
        many bytes of one. ValueError for headers that cannot be sent."""
        connector = session.connector
        assert connector is not None
        self._connector, self._timeout, self._most = connector, session.timeout, most
        self._grow = grow
        self._now = asyncio.get_running_loop().time
        #: Connections without a request, since when; the one that was used last is used next.
        self._idle: deque[tuple[Connection, float]] = deque()
        self._request = aiohttp.ClientRequest("POST", url, headers=headers, session=session)
        named = {
            name: value
            for name, value in self._request.headers.items()
            if name.lower() != "content-length"
        }
        lines = [f"POST {url.raw_path_qs} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in named.items()]
        if any(not line.isprintable() for line in lines):
            raise ValueError("a header holds a control character")
        self._head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode()

    async def post(
        self, body: bytes, written: Callable[[], None]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer; `written` is called as the request leaves.

        Raises Spoiled (nothing was sent), TooLong, and what aiohttp raises. The caller keeps
        the deadline.
        """
        connection = self._kept()
        if connection is None:
            try:
                connection = await self._connector.connect(self._request, [], self._timeout)
            except TimeoutError as late:
                raise aiohttp.ConnectionTimeoutError from late
        try:
            protocol = connection.protocol
            assert protocol is not None
            protocol.set_response_params(read_until_eof=True, auto_decompress=True)
            transport = protocol.transport
            if transport is None or protocol.should_close:
                raise Spoiled
            transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            written()
            answer = await self._answer(protocol)
            if transport.get_write_buffer_size() or protocol.should_close:
                connection.close()  # answered before it was read: the rest would be a request
            else:
                self._idle.append((connection, self._now()))
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientPayloadError from error
        except BaseException:
            connection.close()
            raise
        return answer

    def _kept(self) -> Connection | None:
        """An idle connection that still holds and on which nothing was said, if there is one."""
        idle, oldest = self._idle, self._now() - IDLE_SECONDS
        while idle and idle[0][1] < oldest:
            idle.popleft()[0].close()
        while idle:
            connection = idle.pop()[0]
            protocol = connection.protocol
            if protocol is not None and protocol.is_connected() and not protocol.should_close:
                return connection
            connection.close()
        return None

    def close(self) -> None:
        """Let go of the idle connections."""
        while self._idle:
            self._idle.pop()[0].close()

    async def _answer(self, protocol: ResponseHandler) -> tuple[int, Mapping[str, str], bytes]:
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        data = await payload.readany()
        if not payload.at_eof():
            pieces, size = [data], len(data)
            while not payload.at_eof() and size <= self._most:
                pieces.append(await payload.readany())
                size += len(pieces[-1])
                await self._grow(size)
            data = b"".join(pieces)
        if len(data) > self._most:
            raise TooLong
        return message.code, message.headers, data


__all__ = ["Poster", "SilentRequest", "Spoiled", "TooLong"]
