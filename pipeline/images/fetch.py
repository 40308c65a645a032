"""Images over HTTP, from strangers: no secrets, no proxy from the environment, every size capped.

Redirects are followed here, hop by hop, so that each is looked at anew; bodies are read as they
come, and those that are packed although nobody asked are unpacked up to the same size; a server that drips is cut off by the total time and by a least rate.
A host that asks to come later (429, 503) is obeyed, for all its images.

With `images.proxy` the proxy dials, so that it alone sees the addresses; only hosts that are
written as addresses can be judged here.
"""

from __future__ import annotations

import asyncio
import urllib.request
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDictProxy
from yarl import URL

from pipeline import __version__
from pipeline.clock import Clock, http_date
from pipeline.errors import ImageError, SourceUnavailable
from pipeline.images.cache import Cache
from pipeline.images.guard import DIAL, Dial, Guard, allowed
from pipeline.images.limits import MAX_BYTES
from pipeline.images.outage import MACHINE, place_of_errno
from pipeline.images.settings import ImageSettings
from pipeline.images.urls import authority_of, check_place, parse
from pipeline.memory_budget import Lease

MAX_HOPS = 10
PER_HOST = 16
#: After 5 s a download must have made 1 KB/s.
RATE_AFTER, RATE = 5.0, 1_000
#: Times that an image is asked for where the host says "later", or the connection breaks.
TRIES = 3
#: The longest wait for a host, and the wait where it names none.
LONGEST_REST, REST = 60.0, 2.0
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
#: A connection that was there and broke; often one kept alive that the host has just closed.
_BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionResetError)
#: 203: a proxy on the way has changed something, most often made the picture smaller.
_GIVEN = frozenset({200, 203})
#: Content codings that are unpacked.
_UNPACKED = frozenset({"gzip", "x-gzip", "deflate"})
_NO_AI = frozenset({"noai", "noimageai"})
USER_AGENT = f"caption-pipeline/{__version__}"


class Later(Exception):
    """The host says: not now. `error` is what the image fails with if it never does."""

    def __init__(self, host: str, wait: float, error: ImageError) -> None:
        super().__init__(error.message)
        self.host, self.wait, self.error = host, wait, error


@dataclass(slots=True)
class Fetcher:
    """Downloads; one a run."""

    settings: ImageSettings
    guard: Guard
    session: aiohttp.ClientSession
    clock: Clock
    cache: Cache | None
    #: Host -> when it may be asked again (its own Retry-After).
    rest: dict[str, float] = field(default_factory=dict)
    #: URL -> held while it is downloaded, so that the second asker finds it in the cache.
    under_way: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def get(self, text: str, hold: Lease) -> bytes:
        """The bytes behind a URL, with room taken for them; ImageError with the code that fits."""
        url = parse(text)
        cache = self.cache
        if cache is None:
            return await self._download(url, hold)
        async with self.under_way.setdefault(text, asyncio.Lock()):
            data = await asyncio.to_thread(cache.get, text)
            if data is not None:
                await hold.grow(len(data))
                return data
            data = await self._download(url, hold)
            await asyncio.to_thread(cache.put, text, data)
            return data

    async def _download(self, url: URL, hold: Lease) -> bytes:
        for left in reversed(range(TRIES)):
            await self._rest(url)
            try:
                async with asyncio.timeout(self.settings.timeout) as timeout:
                    return await self._follow(url, _Reading(hold, timeout, self.clock))
            except TimeoutError:
                raise ImageError(
                    "timeout", f"{url.host} took more than {self.settings.timeout:g} s"
                ) from None
            except Later as later:
                if not left or later.wait > LONGEST_REST:
                    raise later.error from None
                self.rest[later.host] = self.clock.monotonic() + later.wait
        raise AssertionError("the last try returns or raises")

    async def _rest(self, url: URL) -> None:
        """Wait until the host may be asked again. Does not count as time of the download."""
        while (left := self.rest.get(url.host or "", 0.0) - self.clock.monotonic()) > 0:
            await self.clock.sleep(left)

    async def _follow(self, url: URL, reading: _Reading) -> bytes:
        # Cookies live as long as this fetch: some hosts set one and redirect to see it again.
        first, jar = url.host, aiohttp.CookieJar(unsafe=True, quote_cookie=False)
        for _ in range(MAX_HOPS + 1):
            headers = dict(self.settings.headers) if url.host == first else {}
            if cookies := jar.filter_cookies(url):
                headers["Cookie"] = "; ".join(
                    f"{cookie.key}={cookie.value}" for cookie in cookies.values()
                )
            got = await self._one(url, headers, jar, reading)
            if isinstance(got, bytes):
                return got
            if url.scheme == "https" and got.scheme == "http":
                raise ImageError("bad_uri", f"{url.host} redirects from https to http")
            url = got
        raise ImageError("http_4xx", f"{url.host} redirects more than {MAX_HOPS} times")

    async def _one(
        self, url: URL, headers: dict[str, str], jar: aiohttp.CookieJar, reading: _Reading
    ) -> bytes | URL:
        """One hop: the bytes, or where it leads."""
        proxy = self._proxy(url)
        opened = check_place(url, self.guard.allow, proxied=proxy is not None)
        dial = Dial(opened=opened or proxy is not None)
        before = DIAL.set(dial)
        try:
            async with self.session.get(
                url, allow_redirects=False, proxy=proxy, headers=headers
            ) as response:
                if 300 <= response.status < 400 and "Location" in response.headers:
                    jar.update_cookies(response.cookies, url)
                    return _target(url, response.headers["Location"])
                self._check_answer(url, response.status, response.headers)
                return await self._read(url, response, reading)
        except (aiohttp.InvalidURL, UnicodeError):  # a label of the host, as DNS has it
            raise ImageError("bad_uri", f"{url.host}: this is not a URL") from None
        except aiohttp.ClientConnectorDNSError:
            raise _host_trouble("dns", url, "no such host") from None
        except aiohttp.ConnectionTimeoutError:
            raise _host_trouble("connect", url, "no connection within 5 s") from None
        except aiohttp.SocketTimeoutError:
            raise _host_trouble("timeout", url, "silent for 10 s") from None
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            if dial.refused is not None and not dial.dialled:
                raise ImageError(
                    "blocked_address", f"{url.host}: {dial.refused} is not public"
                ) from None
            failed = _host_trouble("connect", url, _words(error), error)
            if isinstance(error, _BROKEN):
                raise Later(url.host or "", 0.0, failed) from None
            raise failed from None
        finally:
            DIAL.reset(before)

    def _proxy(self, url: URL) -> str | None:
        proxy = self.settings.proxy
        if proxy != "env":
            return proxy
        if urllib.request.proxy_bypass(url.host or ""):
            return None
        return urllib.request.getproxies().get(url.scheme)

    def _check_answer(self, url: URL, status: int, headers: CIMultiDictProxy[str]) -> None:
        if status in _LATER:
            # Codes of the 400s are permanent; this host may well give the image another day.
            error = _host_trouble("http_5xx", url, f"HTTP {status}")
            raise Later(url.host or "", self._wait(headers), error)
        if status not in _GIVEN:
            code = "http_5xx" if status >= 500 else "http_4xx"
            hint = (
                "; the URL has &amp; where & may be meant"
                if "&amp;" in url.raw_query_string
                else ""
            )
            raise ImageError(code, f"{url.host}: HTTP {status}{hint}")
        robots = ",".join(headers.getall("X-Robots-Tag", ())).lower().replace(":", ",")
        if _NO_AI & {word.strip() for word in robots.split(",")}:
            raise ImageError("noai", f"{url.host} asks not to use this image (X-Robots-Tag: noai)")
        if (packing := _packing(headers)) not in ("", *_UNPACKED):
            raise ImageError("unsupported_format", f"{url.host}: packed by {packing[:20]!a}")

    def _wait(self, headers: CIMultiDictProxy[str]) -> float:
        """Seconds of Retry-After, given as such or as a date."""
        text = headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdecimal():
            return float(text[:9])
        try:
            return max(0.0, http_date(text) - self.clock.now())
        except ValueError:
            return REST

    async def _read(self, url: URL, response: aiohttp.ClientResponse, reading: _Reading) -> bytes:
        length = response.content_length
        if length is not None:
            if length > MAX_BYTES:
                raise ImageError("too_large", f"{url.host}: {length} bytes, {MAX_BYTES} at most")
            await reading.take(length)
        started, data = self.clock.monotonic(), bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > MAX_BYTES:
                raise ImageError("too_large", f"{url.host}: more than {MAX_BYTES} bytes")
            await reading.take(len(data))
            seconds = self.clock.monotonic() - started - reading.waited
            if seconds > RATE_AFTER and len(data) < seconds * RATE:
                raise ImageError("timeout", f"{url.host}: slower than {RATE} bytes a second")
        if not _packing(response.headers):
            return bytes(data)
        unpacked = await asyncio.to_thread(_unpacked, data)
        await reading.take(len(unpacked))
        return unpacked


@dataclass(slots=True)
class _Reading:
    """The room and the time of one download. Waiting for room is not the host's fault."""

    hold: Lease
    timeout: asyncio.Timeout
    clock: Clock
    waited: float = 0.0

    async def take(self, size: int) -> None:
        if self.hold.fits(size):
            await self.hold.grow(size)
            return
        until, before = self.timeout.when(), self.clock.monotonic()
        self.timeout.reschedule(None)
        await self.hold.grow(size)
        waited = self.clock.monotonic() - before
        self.waited += waited
        if until is not None:
            self.timeout.reschedule(until + waited)


def _host_trouble(
    code: str, url: URL, message: str, error: Exception | None = None
) -> SourceUnavailable:
    """What many images of one host may have in common: its outage, or this machine's."""
    host = authority_of(url)
    place = place_of_errno(getattr(error, "errno", None), host) or host
    return SourceUnavailable(code, f"{url.host}: {message}", place=place, certain=place == MACHINE)


def _packing(headers: CIMultiDictProxy[str]) -> str:
    packing = headers.get("Content-Encoding", "").strip().lower()
    return "" if packing == "identity" else packing


def _unpacked(data: bytearray) -> bytes:
    """What gzip or deflate packed, up to the size of an image."""
    try:
        try:
            unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
            unpacked = unpacker.decompress(data, MAX_BYTES + 1)
        except zlib.error:  # some hosts send deflate without its two bytes in front
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            unpacked = unpacker.decompress(data, MAX_BYTES + 1)
    except zlib.error:
        raise ImageError("corrupt", "the host packed it, and it cannot be unpacked") from None
    if len(unpacked) > MAX_BYTES:
        raise ImageError("too_large", f"more than {MAX_BYTES} bytes, unpacked")
    return unpacked


def _target(url: URL, location: str) -> URL:
    try:
        return parse(urljoin(str(url), location.strip()))
    except ValueError:
        raise ImageError("bad_uri", f"{url.host} redirects to what is no URL") from None


def _words(error: Exception) -> str:
    """What happened, without addresses and headers that aiohttp would tell."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its certificate is not valid"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy said HTTP {error.status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "the proxy cannot be reached"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke inside the image"
    return getattr(error, "strerror", None) or type(error).__name__


@asynccontextmanager
async def open_fetcher(
    settings: ImageSettings,
    *,
    clock: Clock,
    concurrency: int,
    resolver: AbstractResolver | None = None,
) -> AsyncIterator[Fetcher]:
    """A fetcher whose session closes at the end of the block."""
    guard = Guard(allowed(settings.allow))
    cache = None
    if settings.cache:
        cache = await asyncio.to_thread(Cache, Path(settings.cache).expanduser().absolute())
    session: dict[str, Any] = {
        "connector": aiohttp.TCPConnector(
            limit=max(8, concurrency),
            limit_per_host=PER_HOST,
            socket_factory=guard,
            resolver=resolver,
        ),
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=10.0),
        "trust_env": False,
        "auto_decompress": False,
        "cookie_jar": aiohttp.DummyCookieJar(),
        "headers": {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Accept": "image/*"},
    }
    async with aiohttp.ClientSession(**session) as opened:
        yield Fetcher(settings, guard, opened, clock, cache)
