"""What a URL must look like before anything is resolved or dialled, and how it is sent.

A URL is sent as it was written wherever that is legal: `%2F`, `%3A`, `(` and `+` mean something to
the servers that look at them. Only what no URL may hold is encoded: blanks, letters beyond ASCII.
"""

from __future__ import annotations

import re

from yarl import URL

from pipeline.errors import ImageError
from pipeline.images.guard import PORTS, Allowed, address_of, is_public, refuse_odd_host
from pipeline.images.limits import MAX_URL
from pipeline.media import web_url

#: Control characters and backslashes: parsers disagree about them.
_ODD = re.compile(r"[\x00-\x1f\x7f\\]")
#: What is encoded behind the host: what browsers encode there, and a `%` that encodes nothing.
_ENCODED = re.compile(r"""[^!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z|~]|%(?![0-9A-Fa-f]{2})""")
_PLACE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def parse(text: str) -> URL:
    """A URL that may be fetched; ImageError `bad_uri` says why not. Never shows its query."""
    text = web_url(text) or text.strip()
    check_text(text)
    match = _PLACE.match(text)
    place = match[0] if match else text
    try:
        url = URL(place)
        port = url.port
    except ValueError:
        raise ImageError("bad_uri", "this is not a URL") from None
    if url.scheme not in PORTS or not url.host:
        raise ImageError("bad_uri", f"{url.scheme or 'no scheme'}: only http and https")
    # An empty user counts, which yarl drops: `http://@host/` is nobody's honest address.
    if url.user or url.password or "@" in place:
        raise ImageError("bad_uri", f"{url.host}: no user or password in an image URL")
    if not port or any(letter.isspace() for letter in place):
        raise ImageError("bad_uri", f"{url.host}: port 0, or a blank in the host")
    # Host and port as they were judged; the rest as it was written.
    return URL(f"{url.origin()}{_rest(text, len(place))}", encoded=True)


def as_sent(text: str) -> str:
    """A URL as a server should get it, its host as written."""
    match = _PLACE.match(text)
    return text if match is None else match[0] + _rest(text, match.end())


def _rest(text: str, start: int) -> str:
    """Path and query, encoded where they have to be, without the fragment."""
    rest = text[start:].partition("#")[0]
    return _ENCODED.sub(_percent, rest if rest.startswith("/") else "/" + rest)


def _percent(match: re.Match[str]) -> str:
    # A redirect's raw bytes come as surrogates.
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def check_text(text: str) -> None:
    """Has the URL a length and letters that all parsers read alike? ImageError `bad_uri`."""
    if len(text) > MAX_URL:
        raise ImageError("bad_uri", f"the URL is longer than {MAX_URL} characters")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ImageError("bad_uri", "the URL has half a letter (a lone surrogate)") from None
    if _ODD.search(text):
        raise ImageError("bad_uri", "the URL has control characters or a backslash")


def place_of(text: str) -> str | None:
    """Scheme, host and port of an http(s) URL as written: all that says whether it may be fetched.

    None for any other text. ImageError as `check_text`.
    """
    match = _PLACE.match(text)
    if match is None:
        return None
    # Printable text has no odd letter but this one.
    if len(text) > MAX_URL or "\\" in text or not text.isprintable():
        check_text(text)
    return match[0]


def authority_of(url: URL) -> str:
    """Host, and port where it is not the scheme's own: what is down when it is down."""
    return f"{url.host}" if url.is_default_port() else f"{url.host}:{url.port}"


def check_place(url: URL, allow: Allowed, *, proxied: bool) -> bool:
    """Is the host opened by name? ImageError `blocked_address` for what needs no look at DNS.

    proxied: nobody here will see the address that is dialled, so what can be seen must do.
    """
    host, port = url.host or "", url.port or 0
    if allow.opens(host, port):
        return True
    refuse_odd_host(host)
    literal = address_of(host)
    if literal is not None and not is_public(literal):
        raise ImageError("blocked_address", f"{host} is not a public address")
    if proxied and literal is None and _is_local(host.lower().rstrip(".")):
        raise ImageError("blocked_address", f"{host} is not a public name")
    if port != PORTS[url.scheme] and (literal is not None or proxied or not allow.networks):
        raise ImageError(
            "blocked_address", f"{host}: port {port} is not open (images.allow opens it)"
        )
    return False


def _is_local(name: str) -> bool:
    """A name that only the proxy's own machine or network gives a meaning to."""
    return "." not in name or name.endswith((".localhost", ".local", ".internal"))
