"""`notify.url`: told when a run starts and how it ends, in the way of healthchecks.io.

POST to URL/start, then to URL (well, also when the rest waits for tomorrow) or URL/fail, with the
last line of the run as text. Whoever listens, or does not, changes nothing about the run.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit, urlunsplit

from pipeline.errors import Exit
from pipeline.redact import one_line

#: Seconds that the other side gets; a run does not wait longer to be heard.
SECONDS = 10.0
#: Longest text that is sent.
TEXT_CHARS = 2_000
#: A run that ended in one of these did what it could.
WELL = frozenset({Exit.DONE, Exit.SOME_FAILED, Exit.LATER})
_log = logging.getLogger("pipeline")


def address(url: str, what: str) -> str:
    """URL/what, before a query; `what` may be empty."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + (f"/{what}" if what else "")
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def ending(code: int) -> str:
    """The last part of the address for a run that ended with this code."""
    return "" if code in WELL else "fail"


async def ping(url: str | None, what: str, text: str = "") -> None:
    """Tell; never raises, never logs the URL (its path is the secret of such services)."""
    if url is None:
        return
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=SECONDS)
    body = one_line(text, TEXT_CHARS).encode()
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.post(address(url, what), data=body, allow_redirects=False) as reply,
        ):
            if reply.status >= 400:
                _log.warning("notify.url answers %d", reply.status)
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
        _log.warning("notify.url could not be told (%s)", type(error).__name__)
