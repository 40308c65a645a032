"""What an answer's headers tell of limits: `x-ratelimit-{limit,remaining,reset}-NAME`.

Which window a NAME is about is a fact of the profile (`windows`): Groq's `requests` is its day,
OpenAI's its minute. Absurd and half-told values are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pipeline.model import LimitTold
from pipeline.service.retry_after import span_of


def limits_told(headers: Mapping[str, str], windows: Mapping[str, float]) -> tuple[LimitTold, ...]:
    """Every limit that these headers (lower-case names) tell of whole."""
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
