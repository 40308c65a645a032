"""What an error body says, whichever of the known forms it has.

Forms: OpenRouter `{"error": {code, message, metadata}}` at the top or inside a choice; Google a
one-element JSON *array* of `{"error": {code, message, status, details}}`; LiteLLM with string
codes; vLLM flat; `{"error": "text"}`; FastAPI's `detail` (text, or a list with `loc` and `msg`);
Cloudflare's `errors` list; `message`, `msg` or `title` alone; plain text; HTML. The upstream's own
body may be inside `metadata.raw` or inside `message`, as a string of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

import orjson

from pipeline.model import Reply
from pipeline.patterns import lazy
from pipeline.service.wording import REQUESTS_LIMIT
from pipeline.values import dataclass

_SPENT_DAY = lazy(r"perday|per_day|per day", re.IGNORECASE)
#: Pages of a server that say what is wrong with the address.
_TOLD_BY_SERVER = lazy(r"plain HTTP request was sent|No required SSL certificate")
_NONE = lazy(r"\blimit: 0\b(?![.,]?\d)")
_SPENT_MINUTE = lazy(r"perminute|per_minute|per minute", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """An error, laid out."""

    #: Does the body carry an error at all?
    is_error: bool = False
    is_page: bool = False
    #: `error.code` where it is a number, else the HTTP status.
    status: int = 0
    message: str = ""
    error_type: str = ""
    #: Everything said, lower-case, for substrings.
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: The error object, and the upstream's own found inside it.
    bodies: tuple[Mapping[str, Any], ...] = ()
    per_day: bool = False
    per_minute: bool = False
    #: Google's `limit: 0`: not on this tier at all.
    zero_limit: bool = False
    moderated: bool = False
    gateway_limit: bool = False
    retryable: bool = False
    resets_at: Any = None
    limit: int | None = None


def evidence_of(value: Any, reply: Reply) -> Evidence:
    """Lay out what a reply says about an error. Never raises."""
    error = error_in(value)
    if error is None:
        text = "" if value is not None else reply.body[:2000].decode("utf-8", "replace").strip()
        # Cloudflare's short form of its pages is `error code: 1015`.
        page = text[:1] == "<" or text.startswith("error code: ")
        return Evidence(
            is_page=page,
            status=reply.status,
            message=_title(text) if page else text[:400],
            text=_title(text).lower()
            if _TOLD_BY_SERVER.search(text)
            else ""
            if page
            else text.lower(),
        )
    metadata = _dict(error.get("metadata"))
    upstream = (*_upstream(metadata.get("raw")), *_upstream(error.get("message")))
    details = [d for body in (error, *upstream) for d in _list(body.get("details"))]
    quota_ids = " ".join(_quota_ids(details))
    message = _said(error) or str(error.get("code") or "")
    said = [message, *map(_said, upstream)]
    raw = metadata.get("raw")
    if isinstance(raw, str) and not upstream:
        said.append(raw)
    availability = _dict(error.get("availability"))
    source = str(metadata.get("limit_source") or "")
    kinds = [
        str(metadata.get("error_type") or ""),
        str(error.get("type") or ""),
        str(error.get("error_type") or ""),
        str(availability.get("code") or ""),
        *(code for body in (error, *upstream) if isinstance(code := body.get("code"), str)),
        *(str(body.get("status") or "") for body in (error, *upstream)),
    ]
    text = " ".join([*said, source, *kinds]).lower()
    status = _int(error.get("code")) or _int(error.get("status")) or reply.status
    limited = status == 429 or "resource_exhausted" in text
    return Evidence(
        is_error=True,
        status=status if 100 <= status < 600 else reply.status,
        message=_words(said),
        error_type=str(metadata.get("error_type") or error.get("type") or "").lower(),
        text=text,
        metadata=metadata,
        bodies=(error, *upstream),
        per_day=limited and bool(_SPENT_DAY.search(quota_ids)),
        per_minute=limited and bool(_SPENT_MINUTE.search(quota_ids)),
        zero_limit=limited and (any(_zero(d) for d in details) or bool(_NONE.search(text))),
        moderated=bool(metadata.get("reasons") or metadata.get("flagged_input")),
        gateway_limit="litellm" in text and "ratelimiterror" in text and not upstream,
        retryable=availability.get("retryable") is True,
        resets_at=metadata.get("resets_at"),
        limit=_int(_lower(_dict(metadata.get("headers"))).get("x-ratelimit-limit"))
        or _int(reply.headers.get("x-ratelimit-limit"))
        or (_requests_limit(details, text) if limited else None),
    )


def error_in(value: Any) -> Mapping[str, Any] | None:
    """The error object of a body, in one form; None when there is none."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict) and error:
        return error
    base = _dict(value.get("base_resp"))  # MiniMax
    if base.get("status_code"):
        return {"message": base.get("status_msg")}
    if value.get("choices") and value.get("object") != "error" and not error:
        for choice in _list(value["choices"]):
            if isinstance(choice, dict) and isinstance(choice.get("error"), dict):
                return _dict(choice["error"])
        return None
    if any(_said(value.get(name)) for name in _SAID):
        first = next(iter(_list(error) or _list(value.get("errors"))), None)
        return {**value, **_dict(first), "message": _said(value)}
    return value if value.get("object") == "error" else None


#: Where an error's reason stands, the most telling first.
_SAID = (
    *("error", "errors", "message", "detail", "msg", "error_message", "title"),
    *("errorMessage", "error_msg"),
)
#: Lists and objects inside each other that are followed, and entries of a list that are told.
_DEPTH, _ENTRIES = 5, 5


def _said(value: Any, depth: int = _DEPTH) -> str:
    """The reason in an error or a part of it: text, JSON inside a text, a list of either, or an
    object; "" when there is none."""
    if isinstance(value, str):
        text = value.strip()
        return (_said(_parsed(text), depth - 1) if depth else "") or text
    if depth and isinstance(value, list):
        return "; ".join(filter(None, (_said(entry, depth - 1) for entry in value[:_ENTRIES])))
    if not depth or not isinstance(value, dict):
        return ""
    said = next(filter(None, (_said(value.get(name), depth - 1) for name in _SAID)), "")
    place = ".".join(str(step) for step in _list(value.get("loc")))
    return f"{place}: {said}" if place and said else said


def _parsed(text: str) -> Any:
    """A text that is JSON of an object or a list, as such; None for any other text."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _upstream(raw: Any) -> Iterator[Mapping[str, Any]]:
    """The upstream's error objects: `raw` is JSON text, or already an object."""
    error = error_in(_parsed(raw.strip()) if isinstance(raw, str) else raw)
    if error is not None:
        yield error


def _quota_ids(details: list[Any]) -> Iterator[str]:
    for detail in details:
        for violation in _list(_dict(detail).get("violations")):
            yield str(_dict(violation).get("quotaId") or _dict(violation).get("quotaMetric") or "")


def _requests_limit(details: list[Any], text: str) -> int | None:
    """How many requests a limit has: Google's `quotaValue` beside an id of requests, or the words."""
    for violation in (v for d in details for v in _list(_dict(d).get("violations"))):
        named = f"{_dict(violation).get('quotaId')} {_dict(violation).get('quotaMetric')}"
        if "requests" in named.lower() and (value := _int(_dict(violation).get("quotaValue"))):
            return value
    match = REQUESTS_LIMIT.search(text)
    return int(match[1]) if match else None


def _zero(detail: Any) -> bool:
    return any(
        str(_dict(violation).get("quotaValue")) == "0"
        for violation in _list(_dict(detail).get("violations"))
    )


def _words(said: list[str]) -> str:
    """The message for people: the service's own, and the upstream's if that says more."""
    unique = list(dict.fromkeys(text.strip() for text in said if text.strip()))
    return ": ".join(unique)


def _title(page: str) -> str:
    match = re.search(r"<title>([^<]*)</title>", page, re.IGNORECASE)
    return f"a web page instead of an answer ({match[1].strip()[:100]})" if match else "a web page"


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _lower(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name).lower(): value for name, value in headers.items()}


def _int(value: Any) -> int | None:
    """A whole number, also from a string; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal() and len(value) < 20:
        return int(value)
    return None
