"""One HTTP request on its way through the service, with the knobs as they stood when it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from pipeline.simulator.accounts import Who, who_asks
from pipeline.simulator.dialects.base import Dialect
from pipeline.simulator.dialects.table import DIALECTS
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.log import Logged

#: Where the API lives below the root; every service answers at all of them.
BASES = ("/v1beta/openai", "/openai/v1", "/api/v1", "/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request."""

    method: str
    #: Behind the base, without the query.
    path: str
    query: Mapping[str, str]
    #: None: longer than `max_body`.
    body: bytes | None
    #: Arrival, by the server's clock.
    now: float
    account: Who
    entry: Logged
    knobs: Knobs
    dialect: Dialect


def received(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    knobs: Knobs,
    now: float,
) -> Call:
    """A request as it came; the target may begin with a base and hold a query."""
    bare, _, query = target.partition("?")
    base = next((known for known in BASES if bare.startswith(known + "/")), "")
    given = {name.lower(): value for name, value in headers.items()}
    account = who_asks(given, knobs)
    entry = Logged(
        at=now,
        method=method,
        path=_clean(unquote(bare[len(base) :])),
        key_sha256=account.sha256,
        referer=_said(given, "http-referer"),
        title=_said(given, "x-openrouter-title") or _said(given, "x-title"),
        size=len(body or b""),
    )
    return Call(
        method=method,
        path=entry.path,
        query=dict(parse_qsl(query)),
        body=body,
        now=now,
        account=account,
        entry=entry,
        knobs=knobs,
        dialect=DIALECTS[knobs.service],
    )


def _clean(text: str) -> str:
    """Text that can be written as JSON, whatever bytes came."""
    return text.encode(errors="replace").decode()


def _said(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    return None if value is None else _clean(value[:500])
