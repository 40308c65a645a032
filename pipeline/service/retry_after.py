"""How long the service says to wait, in the order in which its words can be trusted.

`Retry-After` header (seconds or date) → the same inside `metadata.headers` →
`retry_after_seconds_raw` / `retry_after_seconds` → `availability.retry_after` → Google's RetryInfo →
`X-RateLimit-Reset` (epoch milliseconds, in a header or in the body). Absurd values are ignored.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pipeline.clock import http_date
from pipeline.model import LimitTold
from pipeline.patterns import lazy
from pipeline.service.error_body import Evidence

#: Longest wait in seconds that is believed, of a day's limit too, and the farthest reset instant.
LONGEST_WAIT, LONGEST_DAY, FARTHEST_RESET = 3600.0, 48 * 3600.0, 40 * 86400.0
#: A reset that is past by no more is told: the answer, or its clock, was a little late.
JUST_PASSED = 5.0
_DELAY = lazy(r"^(\d+(?:\.\d+)?)s$")
#: `retry in 57.2s` (Google), `try again in 7m12s`, `retry after 350ms` (OpenAI).
_RETRY_IN = lazy(
    r"(?:retry|try again|available|wait)(?: (?:in|after|for))? (?:about |at least )?"
    r"(?:(\d+)\s?h(?:ours?)?\s?)?(?:(\d+)\s?m(?:in(?:ute)?s?)?(?![a-z])\s?)?(?:(\d+(?:\.\d+)?)\s?(m?)s)?",
    re.IGNORECASE,
)
#: `Quota will be replenished in 1.12:01:22` (Azure API Management).
_REPLENISHED = lazy(r"replenished in (?:(\d{1,3})\.)?(\d{1,2}):(\d{2}):(\d{2})")
#: `1m0s`, `6.5s`, `350ms`, `6`.
_SPAN = lazy(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(m?)s?)?")
#: Seconds or an instant: more is no number of seconds.
_SECONDS_MOST = 86_400.0


def told_wait(
    evidence: Evidence, headers: Mapping[str, str], now: float, *, longest: float = LONGEST_WAIT
) -> tuple[float | None, float | None]:
    """(seconds to wait, epoch instant of the reset), each None when nothing believable is told.

    longest: of what can be believed here.
    """
    inner = {str(k).lower(): v for k, v in _mapping(evidence.metadata.get("headers")).items()}
    waits = (
        _retry_after(headers.get("retry-after"), now),
        _scaled(headers.get("retry-after-ms")),
        _retry_after(headers.get("llm_provider-retry-after"), now),  # as LiteLLM passes it on
        _retry_after(inner.get("retry-after"), now),
        _seconds(evidence.metadata.get("retry_after_seconds_raw")),
        _seconds(evidence.metadata.get("retry_after_seconds")),
        _seconds(_mapping(evidence.metadata.get("availability")).get("retry_after")),
        *(_retry_info(body) for body in reversed(evidence.bodies)),
        *(_seconds(body.get(name)) for body in evidence.bodies for name in _BODY_WAITS),
        *(_reset_in(headers, evidence.status)),
    )
    known = [seconds for seconds in waits if seconds is not None and seconds <= longest]
    # No time at all, or a date that is past, says nothing where others say more.
    wait = next((seconds for seconds in known if seconds > 0), 0.0 if known else None)
    until = _first(
        _instant(evidence.resets_at, now),
        _instant(headers.get("x-ratelimit-reset"), now),
        _instant(inner.get("x-ratelimit-reset"), now),
    )
    return wait, until


_BODY_WAITS = ("retry_after", "retryAfter", "estimated_time")


def _reset_in(headers: Mapping[str, str], status: int) -> Iterator[float | None]:
    """Seconds until a limit that is used up is new, in the words of several services: of OpenAI's
    two limits, that of which nothing remains; a small `reset` is no instant."""
    if status != 429:
        return
    yield span_of(headers.get("x-ratelimit-reset-after"))
    left = "x-ratelimit-remaining-"
    spent = (
        headers.get(name.replace("remaining", "reset", 1))
        for name, value in headers.items()
        if name.startswith(left) and value == "0"
    )
    yield max((span for span in map(span_of, spent) if span is not None), default=None)
    for name in ("ratelimit-reset", "x-ratelimit-reset"):
        seconds = _seconds(headers.get(name))
        yield seconds if seconds is not None and seconds <= _SECONDS_MOST else None


def span_of(value: Any) -> float | None:
    """`1m0s` in seconds."""
    match = _SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
    return _sum(match) if match is not None else None


def _sum(match: re.Match[str]) -> float | None:
    """Hours, minutes, seconds or milliseconds of a match; None when it has none of them."""
    if not any(match.groups()):
        return None
    hours, minutes, seconds, milli = (group or 0 for group in match.groups())
    rest = float(seconds) / 1000 if milli else float(seconds)
    return _seconds(int(hours) * 3600 + int(minutes) * 60 + rest)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(value: Any) -> float | None:
    """A believable number of seconds."""
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= LONGEST_DAY else None


def _scaled(value: Any) -> float | None:
    try:
        return _seconds(float(value) / 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _retry_after(value: Any, now: float) -> float | None:
    """RFC 9110 10.2.3: seconds, or an HTTP date."""
    if (seconds := _seconds(value)) is not None:
        return seconds
    if (span := span_of(value)) is not None:
        return span
    if isinstance(value, str):
        try:
            return _seconds(max(0.0, http_date(value) - now))
        except ValueError:
            return None
    return None


def _retry_info(body: Mapping[str, Any]) -> float | None:
    """Google: `google.rpc.RetryInfo` with `retryDelay: "57s"`, or the words in the message."""
    details = body.get("details")
    for detail in details if isinstance(details, list) else []:
        delay = _mapping(detail).get("retryDelay")
        if isinstance(delay, str) and (match := _DELAY.match(delay)):
            return _seconds(match[1])
    message = str(body.get("message") or "")
    if (span := _REPLENISHED.search(message)) is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in span.groups())
        return _seconds(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    match = _RETRY_IN.search(message)
    return None if match is None else _sum(match)


def _instant(value: Any, now: float) -> float | None:
    """A reset instant: epoch milliseconds (or seconds), or ISO 8601; long past and absurd are None."""
    instant: float | None = None
    if isinstance(value, str) and "-" in value[1:]:
        from datetime import UTC, datetime

        try:
            parsed = datetime.fromisoformat(value)
            instant = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    else:
        try:
            instant = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        if instant > 1e11:
            instant /= 1000
    return (
        instant
        if math.isfinite(instant) and now - JUST_PASSED < instant < now + FARTHEST_RESET
        else None
    )


def limits_told(headers: Mapping[str, str], windows: Mapping[str, float]) -> tuple[LimitTold, ...]:
    """Every limit that these headers (`x-ratelimit-{limit,remaining,reset}-NAME`, in lower case) tell of
    whole. Which window a NAME is about is a fact of the profile: Groq's `requests` is its day,
    OpenAI's its minute."""
    limits = []
    for name, window in windows.items():
        limit = _count(headers.get(f"x-ratelimit-limit-{name}"))
        left = _count(headers.get(f"x-ratelimit-remaining-{name}"))
        if limit is None or left is None or not limit > 0 or left > limit:
            continue
        unit: Literal["tokens", "requests"] = "tokens" if name.startswith("tokens") else "requests"
        reset = span_of(headers.get(f"x-ratelimit-reset-{name}"))
        limits.append(LimitTold(unit, window, limit, left, reset))
    return tuple(limits)


def _count(value: str | None) -> int | None:
    if value is None or not value.strip().isdecimal() or len(value) > 15:
        return None
    return int(value)
