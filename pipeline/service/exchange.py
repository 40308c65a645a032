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
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from yarl import URL

from pipeline.service.body import is_whole

#: Longest header that is read: a content security policy may have some 30 KB.
HEADER_BYTES = 128 * 1024
#: A connection that has been idle for longer is not used again, as in aiohttp's own pool.
IDLE_SECONDS = 15.0
#: A connection takes the next request only after it was silent for so long, in seconds, unless
#: too many wait: what comes late is then seen, not taken for the next answer.
QUIET_SECONDS = 0.025
#: So many answers of a connection are doubted when more comes on it, those after which it was
#: silent for so many seconds excepted.
DOUBTED, SILENT_SECONDS = 8, 1.0
#: An answer that is whole is taken after so many seconds in which its connection was silent and
#: stayed open, though its Content-Length promises more or its last chunk is missing: waiting on
#: would end with the request's deadline, and the answer, which is paid, would be lost.
STALLED_SECONDS = 2.0
#: So long after the last answer of a run its connection is looked at once more, in seconds.
LAST_LOOK = 0.1
#: After so many connections on which more came than was asked for, each request has its own.
TRUSTED_AGAIN = 3


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


class Doubled(Exception):
    """More than the answer came with it, or it came too early: what of it is ours cannot be known."""


class TooLong(Exception):
    """The answer's body is longer than what is read."""


class CutShort(aiohttp.ClientPayloadError):
    """The connection ended before the body did, by what its head promises; `data` came."""

    def __init__(self, data: bytes, cause: Exception) -> None:
        super().__init__(str(cause))
        self.data = data
        self.status, self.headers = 0, {}  # type: tuple[int, Mapping[str, str]]


async def read_body(
    payload: aiohttp.StreamReader,
    most: int,
    grow: Callable[[int], Awaitable[None]],
    encoding: str,
) -> bytes:
    """All of a body. TooLong when it has more than `most` bytes; CutShort, also when an answer
    that is whole is followed by nothing though its head promises more.

    grow: waits until there is memory for so many bytes. encoding: its `Content-Encoding`.
    """
    pieces: list[bytes] = []
    try:
        size = len(data := await payload.readany())
        while not payload.at_eof() and size <= most:
            pieces.append(data)
            size += len(data := await _following(payload, pieces, encoding))
            await grow(size)
    except (aiohttp.ClientError, OSError) as error:
        if pieces or payload.total_bytes:
            # What came before the error is behind it: nothing public gives it out any more.
            rest = payload._read_nowait(-1)  # noqa: SLF001 - as above
            raise CutShort(b"".join((*pieces, rest)), error) from error
        raise
    if size > most:
        raise TooLong
    return b"".join((*pieces, data)) if pieces else data


async def _following(payload: aiohttp.StreamReader, pieces: list[bytes], encoding: str) -> bytes:
    """What follows these pieces of a body; CutShort when nothing does and they are a whole answer."""
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            return await payload.readany()
    except TimeoutError as stalled:
        if is_whole(data := b"".join(pieces), encoding):
            raise CutShort(data, stalled) from stalled
    return await payload.readany()


class _FirstBytes:
    """aiohttp's parser of an answer that is whole in the first bytes that come, whatever is behind
    it: the parser loses an answer when what follows in the same bytes is none."""

    __slots__ = ("_fresh", "_parser", "_protocol")

    def __init__(self, protocol: ResponseHandler, fresh: Callable[[], None]) -> None:
        """fresh: gives the protocol a new parser."""
        self._protocol, self._fresh = protocol, fresh
        fresh()
        self._parser: Any = protocol._parser  # noqa: SLF001 - nothing public takes a parser
        protocol._parser = self  # type: ignore[assignment]  # noqa: SLF001 - as above

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:
        protocol, parser = self._protocol, self._parser
        protocol._parser = parser  # noqa: SLF001 - what comes later is its own matter
        try:
            return parser.feed_data(data)
        except HttpProcessingError:
            good, bad = 0, len(data)
            while bad - good > 1:  # the parser fails at the first byte that does not belong
                middle = (good + bad) // 2
                good, bad = (middle, bad) if self._fed(data[:middle]) else (good, middle)
            parsed = self._fed(data[:good])
            if not parsed or not parsed[0] or not parsed[0][-1][1].is_eof():
                raise
            protocol.force_close()
            return parsed

    def _fed(self, data: bytes) -> Any:
        """What a new parser makes of it; None: nothing."""
        self._fresh()
        try:
            return self._protocol._parser.feed_data(data)  # type: ignore[union-attr]  # noqa: SLF001 - as above
        except HttpProcessingError:
            return None


class _Kept:
    """A connection of the pool, and the requests whose answers came on it."""

    __slots__ = ("answered", "connection", "since")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.answered: deque[Callable[[], None]] = deque(maxlen=DOUBTED)
        #: Loop time at which it became idle.
        self.since = 0.0

    @property
    def usable(self) -> bool:
        """Is it open, and was nothing said on it?"""
        protocol = self.connection.protocol
        return protocol is not None and protocol.is_connected() and not protocol.should_close

    @property
    def spoiled(self) -> bool:
        """Did more come than was asked for? A balancer's 408 before it closes is no answer."""
        protocol = self.connection.protocol
        if protocol is None:
            return False
        if protocol._buffer:  # noqa: SLF001 - nothing public tells an answer from a close
            (message, _), _ = protocol._buffer[0]  # noqa: SLF001 - as above
            return bool(message.code != 408)
        if protocol.is_connected():
            return protocol.should_close
        return isinstance(protocol.exception(), HttpProcessingError)


class Poster:
    """Posts bodies to one URL; one an endpoint.

    When more comes on a connection than was asked for, the answers that came on it last may be
    somebody else's: `on_doubt` is called, and `doubted` names their requests. Idle connections are
    looked at every 25 ms. After the third such connection each request
    gets its own, whose first answer is the right one.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        headers: Mapping[str, str],
        most: int,
        grow: Callable[[int], Awaitable[None]],
        spare: int,
    ) -> None:
        """most: longest body that is read, in bytes; grow: waits until there is memory for so
        many bytes of one; spare: connections that may stay without a request. ValueError for
        headers that cannot be sent."""
        connector = session.connector
        assert connector is not None
        self._connector, self._timeout, self._most = connector, session.timeout, most
        self._grow = grow
        self._now = asyncio.get_running_loop().time
        self._spare = spare
        #: Connections without a request; the one that has been silent the longest is used next.
        self._idle: deque[_Kept] = deque()
        #: Connections on which more came than was asked for.
        self.spoiled = 0
        self._doubted: list[Callable[[], None]] = []
        #: Called when an answer becomes doubtful.
        self.on_doubt: Callable[[], None] = lambda: None
        #: Runs out when the idle connections are looked at.
        self._timer: asyncio.TimerHandle | None = None
        #: When the last answer came that was kept in doubt.
        self._answered = float("-inf")
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
        kept = self._kept()
        if kept is None:
            try:
                kept = _Kept(await self._connector.connect(self._request, [], self._timeout))
            except TimeoutError as late:
                raise aiohttp.ConnectionTimeoutError from late
        connection, own = kept.connection, self.spoiled >= TRUSTED_AGAIN
        try:
            protocol = connection.protocol
            assert protocol is not None
            _FirstBytes(
                protocol,
                partial(
                    protocol.set_response_params,
                    read_until_eof=True,
                    auto_decompress=False,
                    max_line_size=HEADER_BYTES,
                    max_field_size=HEADER_BYTES,
                ),
            )
            transport = protocol.transport
            if transport is None or protocol.should_close:
                raise Spoiled
            transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            written()
            answer = await self._answer(protocol)
            unsent = transport.get_write_buffer_size()
            more = not own and kept.spoiled and answer[1].get("Connection", "").lower() != "close"
            if more or (unsent and answer[0] == 200):  # what is here still cannot be answered
                self._spoil(kept)
                raise Doubled
            if own or unsent or protocol.should_close:
                connection.close()  # refused before it was read: the rest would be a request
            else:
                kept.answered.append(written)
                kept.since = self._answered = self._now()
                self._idle.append(kept)
                self._look_later()
        except HttpProcessingError as error:
            if kept.answered:  # no answer at all: it may belong to something said before
                self._spoil(kept)
            connection.close()
            if isinstance(error.__cause__, LineTooLong):
                raise error.__cause__ from None
            raise aiohttp.ClientPayloadError from error
        except BaseException:
            connection.close()
            raise
        return answer

    def _kept(self) -> _Kept | None:
        """An idle connection that still holds and on which nothing was said, if there is one."""
        idle, now = self._idle, self._now()
        while idle and idle[0].since < now - IDLE_SECONDS:
            self._drop(idle.popleft())
        while idle and (
            idle[0].since <= now - QUIET_SECONDS or len(idle) >= self._spare or not idle[0].usable
        ):
            kept = idle.popleft()
            if kept.usable and self.spoiled < TRUSTED_AGAIN:
                if kept.since < now - SILENT_SECONDS:
                    kept.answered.clear()
                return kept
            self._drop(kept)
        return None

    def _drop(self, kept: _Kept) -> None:
        if kept.spoiled:
            self._spoil(kept)
        kept.connection.close()

    def _spoil(self, kept: _Kept) -> None:
        self.spoiled += 1
        self._doubted += kept.answered
        kept.answered.clear()
        self.on_doubt()

    def distrust(self, request: Callable[[], None], earlier: Callable[[], None]) -> None:
        """A request was given the answer of an earlier one: that one is doubted, too, and what
        came on their connections."""
        self._doubted.append(earlier)
        for kept in [k for k in self._idle if request in k.answered or earlier in k.answered]:
            kept.answered = deque(
                (r for r in kept.answered if r not in (request, earlier)), DOUBTED
            )
            self._idle.remove(kept)
            self._doubted += kept.answered
            kept.connection.close()
        self.spoiled += 1
        self.on_doubt()

    def _look_later(self) -> None:
        if self._timer is None and self._idle:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(QUIET_SECONDS, self._look)

    def _look(self) -> None:
        """Drop idle connections on which something was said."""
        self._timer = None
        for kept in [kept for kept in self._idle if not kept.usable]:
            self._idle.remove(kept)
            self._drop(kept)
        self._look_later()

    def doubted(self) -> list[Callable[[], None]]:
        """The requests (what was `written`) whose answers became doubtful since the last call."""
        requests, self._doubted = self._doubted, []
        return requests

    async def last_look(self) -> list[Callable[[], None]]:
        """`doubted` after a moment in which what is on its way can come; looks at every idle
        connection."""
        if self._idle:
            await asyncio.sleep(max(0.0, self._answered + LAST_LOOK - self._now()))
        self._look()
        return self.doubted()

    def close(self) -> None:
        """Let go of the idle connections."""
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.pop().connection.close()

    async def _answer(self, protocol: ResponseHandler) -> tuple[int, Mapping[str, str], bytes]:
        message, payload = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, payload = await protocol.read()
        try:
            encoding = message.headers.get("Content-Encoding", "")
            data = await read_body(payload, self._most, self._grow, encoding)
        except CutShort as cut:
            cut.status, cut.headers = message.code, message.headers
            raise
        return message.code, message.headers, data


__all__ = [
    "HEADER_BYTES",
    "TRUSTED_AGAIN",
    "CutShort",
    "Doubled",
    "Poster",
    "SilentRequest",
    "Spoiled",
    "TooLong",
    "read_body",
]
