"""A small HTTP server on loopback, for pages that one person looks at.

Any page in a browser may send requests to a loopback port, and a name may be made to point there
(DNS rebinding). So: a request whose Host is not this server's own name is refused; a POST needs
this server's own Origin, if it has one, and a token that only its pages know; nothing may be
framed, and answers may be read by nobody else.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pipeline.errors import UsageError

#: Largest body of a POST.
BODY_BYTES = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: The policy of what is no page: nothing at all.
_NOTHING = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a handler answers."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    #: Content-Security-Policy of a page.
    policy: str = _NOTHING


#: Gets the rest of the path and the query's values.
Get = Callable[[str, Mapping[str, str]], Awaitable[Answer]]
#: Gets the JSON object of the body.
Post = Callable[[Mapping[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is served: first part of a path -> handler (`` is the page itself)."""

    gets: Mapping[str, Get]
    posts: Mapping[str, Post] = field(default_factory=dict)
    #: What a POST has to bring along in `X-Token`.
    token: str = ""
    #: Called when the server has ended, on its loop.
    close: Callable[[], Awaitable[None]] | None = None


def answer(value: object, status: int = 200) -> Answer:
    """A JSON answer."""
    return Answer(body=json.dumps(value).encode(), status=status)


def is_loopback(host: str) -> bool:
    """Does this name only reach this machine?"""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allows_host(header: str | None, host: str, port: int) -> bool:
    """May a request with this Host header be answered by a server on `host` and `port`? Pure.

    On loopback, and on an address, only by the names that mean it. Where every address is
    listened on (0.0.0.0, ::), by any address and this machine's name, never by a foreign name.
    """
    if not header:
        return False
    name, separator, number = header.rpartition(":")
    if not separator or not number.isdigit() or int(number) != port:
        return False
    name = name.strip("[]").lower()
    if name == host.lower() or (is_loopback(host) and name in LOOPBACK):
        return True
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", socket.gethostname().lower())
    return True


def refusal(
    method: str, headers: Mapping[str, str], token: str, host: str, port: int
) -> tuple[int, str] | None:
    """Why a request is not answered: status and words; None: it is. Pure."""
    if not allows_host(headers.get("Host"), host, port):
        return 403, "this server is not called that"
    origin = headers.get("Origin")
    if origin is not None and not (
        origin.startswith("http://") and allows_host(origin[len("http://") :], host, port)
    ):
        return 403, "another page may not ask this server"
    if method in ("GET", "HEAD"):
        return None
    if method != "POST":
        return 405, "GET and POST only"
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return 403, "another page may not ask this server"
    if not token or not hmac.compare_digest(headers.get("X-Token", "").encode(), token.encode()):
        return 403, "the token is missing or old; load the page again"
    return None


@asynccontextmanager
async def serve(site: Site, *, host: str, port: int) -> AsyncIterator[str]:
    """Serve during the block; gives the URL. UsageError (64) when the port cannot be had."""
    bound = port

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        refused = refusal(request.method, request.headers, site.token, host, bound)
        if refused is not None:
            return _response(answer({"error": refused[1]}, refused[0]))
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _response(answer({"error": error.reason}, error.status))

    async def handle(request: web.Request) -> web.StreamResponse:
        first, _, rest = request.path.lstrip("/").partition("/")
        if request.method == "POST":
            return _response(await _post(site, first, request))
        act = site.gets.get(first)
        if act is None:
            raise web.HTTPNotFound
        return _response(await act(rest, request.query))

    app = web.Application(middlewares=[guard], client_max_size=BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, host, port)
        try:
            await listener.start()
        except OSError as error:
            raise UsageError(f"--port {port}: cannot listen on {host} ({error.strerror})") from None
        bound = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{bound}/"
    finally:
        await runner.cleanup()
        if site.close is not None:
            await site.close()


async def _post(site: Site, name: str, request: web.Request) -> Answer:
    act = site.posts.get(name)
    if act is None:
        return answer({"error": "GET only"}, 405)
    try:
        body = json.loads(await request.read())
    except ValueError:
        return answer({"error": "the body is not JSON"}, 400)
    if not isinstance(body, dict):
        return answer({"error": "the body is not a JSON object"}, 400)
    return await act(body)


def _response(made: Answer) -> web.Response:
    headers = {**_HEADERS, "Content-Security-Policy": made.policy}
    headers["Content-Type"] = made.kind
    return web.Response(body=made.body, status=made.status, headers=headers)


async def until_signal() -> int:
    """Wait for SIGINT, SIGTERM or SIGHUP; its exit code. What the caller ignores stays ignored."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    codes: list[int] = []

    def hear(number: signal.Signals) -> None:
        codes.append(128 + number)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, hear, number)
    await stopped.wait()
    return codes[0]
