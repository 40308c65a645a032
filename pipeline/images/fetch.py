"""Images over HTTP, from strangers: no secrets, no proxy from the environment, every size capped.

Redirects are followed here, hop by hop, so that each is looked at anew; bodies are read as they
come and never decompressed; a server that drips is cut off by the total time and by a least rate.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import socket
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from pipeline import __version__, fs
from pipeline.clock import Clock
from pipeline.errors import ImageError
from pipeline.images.guard import Blocked, Guard, allowed, refuse_odd_host
from pipeline.images.settings import ImageSettings

MAX_BYTES = 20_000_000
MAX_URL = 8_192
MAX_HOPS = 3
#: Bytes of downloads held in memory at once, over all workers.
MAX_IN_FLIGHT = 128_000_000
PER_HOST = 16
#: After 5 s a download must have made 1 KB/s.
RATE_AFTER, RATE = 5.0, 1_000
PORTS = {"http": 80, "https": 443}
#: Spaces, control characters and backslashes: parsers disagree about them.
_ODD = re.compile(r"[\x00-\x20\x7f\\]")
USER_AGENT = f"caption-pipeline/{__version__}"


@dataclass(slots=True)
class Fetcher:
    """Downloads; one a run."""

    settings: ImageSettings
    guard: Guard
    session: aiohttp.ClientSession
    clock: Clock
    cache: Path | None
    #: Host -> when it may be asked again (its own Retry-After).
    rest: dict[str, float] = field(default_factory=dict)
    room: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(MAX_IN_FLIGHT // MAX_BYTES)
    )

    async def get(self, text: str) -> bytes:
        """The bytes behind a URL; ImageError with the code that fits."""
        url = parse(text)
        if self.cache is not None:
            held = self.cache / hashlib.sha256(text.encode()).hexdigest()
            if held.is_file():
                return await asyncio.to_thread(held.read_bytes)
        async with self.room:
            try:
                async with asyncio.timeout(self.settings.timeout):
                    data = await self._follow(url)
            except TimeoutError:
                raise ImageError(
                    "timeout", f"{url.host} took more than {self.settings.timeout:g} s"
                ) from None
        if self.cache is not None:
            await asyncio.to_thread(fs.write_atomic, held, data, private=True)
        return data

    async def _follow(self, url: URL) -> bytes:
        for _ in range(MAX_HOPS + 1):
            if (until := self.rest.get(url.host or "", 0.0)) > self.clock.monotonic():
                await self.clock.sleep(until - self.clock.monotonic())
            got = await self._one(url)
            if isinstance(got, bytes):
                return got
            if url.scheme == "https" and got.scheme == "http":
                raise ImageError("bad_uri", f"{url.host} redirects from https to http")
            url = got
        raise ImageError("http_4xx", f"{url.host} redirects more than {MAX_HOPS} times")

    async def _one(self, url: URL) -> bytes | URL:
        """One hop: the bytes, or where it leads."""
        try:
            await self._check_place(url)
            async with self.session.get(
                url, allow_redirects=False, proxy=self._proxy(url), max_redirects=0
            ) as response:
                if 300 <= response.status < 400 and "Location" in response.headers:
                    return parse(str(url.join(URL(response.headers["Location"]))))
                self._check_answer(url, response.status, response.headers)
                return await self._read(url, response)
        except Blocked as error:
            raise ImageError("blocked_address", f"{url.host}: {error}") from None
        except socket.gaierror:
            raise ImageError("dns", f"{url.host}: no such host") from None
        except aiohttp.ClientConnectorDNSError:
            raise ImageError("dns", f"{url.host}: no such host") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.__cause__, Blocked) or isinstance(error.os_error, Blocked):
                raise ImageError("blocked_address", f"{url.host}: {error.os_error}") from None
            raise ImageError("connect", f"{url.host}: {error.os_error.strerror}") from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ImageError("connect", f"{url.host}: {type(error).__name__}") from None

    def _proxy(self, url: URL) -> str | None:
        proxy = self.settings.proxy
        if proxy == "env":
            return urllib.request.getproxies().get(url.scheme)
        return proxy

    async def _check_place(self, url: URL) -> None:
        """Ports and hosts, before anything is resolved."""
        host, port = url.host or "", url.port or 0
        opened = self.guard.allow.host(host, port)
        refuse_odd_host(host)
        with suppress(ValueError):
            opened = opened or self.guard.allow.address(ipaddress.ip_address(host), port)
        if opened:
            # What a name opened by the job resolves to is opened with it, at this port alone.
            loop = asyncio.get_running_loop()
            for found in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                self.guard.opened.add(f"{found[4][0]}:{port}")
        elif port != PORTS[url.scheme]:
            raise ImageError(
                "blocked_address", f"{host}: port {port} is not open (images.allow opens it)"
            )

    def _check_answer(self, url: URL, status: int, headers: Mapping[str, str]) -> None:
        if status in (429, 503) and headers.get("Retry-After", "").isdecimal():
            wait = min(float(headers["Retry-After"]), 60.0)
            self.rest[url.host or ""] = self.clock.monotonic() + wait
        if status >= 400:
            raise ImageError(f"http_{status // 100}xx"[:8], f"{url.host}: HTTP {status}")
        if status != 200:
            raise ImageError("http_4xx", f"{url.host}: HTTP {status}")
        robots = headers.get("X-Robots-Tag", "").lower()
        if "noai" in {word.strip() for word in robots.replace(":", ",").split(",")}:
            raise ImageError("noai", f"{url.host} asks not to use this image (X-Robots-Tag: noai)")
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ImageError("corrupt", f"{url.host}: compressed although not asked for")
        length = headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > MAX_BYTES:
            raise ImageError("too_large", f"{url.host}: {length} bytes, {MAX_BYTES} at most")

    async def _read(self, url: URL, response: aiohttp.ClientResponse) -> bytes:
        started, data = self.clock.monotonic(), bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            seconds = self.clock.monotonic() - started
            if len(data) > MAX_BYTES:
                raise ImageError("too_large", f"{url.host}: more than {MAX_BYTES} bytes")
            if seconds > RATE_AFTER and len(data) < seconds * RATE:
                raise ImageError("timeout", f"{url.host}: slower than {RATE} bytes a second")
        return bytes(data)


def parse(text: str) -> URL:
    """A URL that may be fetched; ImageError `bad_uri` says why not. Never shows its query."""
    if len(text) > MAX_URL:
        raise ImageError("bad_uri", f"the URL is longer than {MAX_URL} characters")
    if _ODD.search(text):
        raise ImageError("bad_uri", "the URL has spaces, control characters or a backslash")
    try:
        url = URL(text)
    except ValueError:
        raise ImageError("bad_uri", "this is not a URL") from None
    if url.scheme not in PORTS or not url.host:
        raise ImageError("bad_uri", f"{url.scheme or 'no scheme'}: only http and https")
    if url.user or url.password:
        raise ImageError("bad_uri", f"{url.host}: no user or password in an image URL")
    return url


@asynccontextmanager
async def open_fetcher(
    settings: ImageSettings, *, clock: Clock, concurrency: int
) -> AsyncIterator[Fetcher]:
    """A fetcher whose session closes at the end of the block."""
    guard = Guard(allowed(settings.allow))
    cache = Path(settings.cache) if settings.cache else None
    if cache is not None:
        fs.make_private_dir(cache)
    session: dict[str, Any] = {
        "connector": aiohttp.TCPConnector(
            limit=max(8, concurrency), limit_per_host=PER_HOST, socket_factory=guard
        ),
        "timeout": aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=10.0),
        "trust_env": False,
        "auto_decompress": False,
        "cookie_jar": aiohttp.DummyCookieJar(),
        "headers": {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Accept": "image/*"},
    }
    async with aiohttp.ClientSession(**session) as opened:
        yield Fetcher(settings, guard, opened, clock, cache)
