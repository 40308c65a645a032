"""What services tell of their limits, row by row: headers and bodies by their documents and by reports of
users, beside what those say that each of them means. Nothing here is read by the program's own parser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.model import LimitTold, Reply
from pipeline.ratelimit.rules.base import DAY, MINUTE
from pipeline.service.classify import classify
from pipeline.service.profiles import PROFILES
from pipeline.service.retry_after import limits_told
from pipeline.verdict import Kind, Verdict

#: A Tuesday, 2026-11-24 10:00:00 UTC.
NOW = 1_795_514_400.0
#: What a refusal may be about.
BUSY = frozenset({Kind.TRANSIENT, Kind.UPSTREAM})
UNKNOWN = frozenset({Kind.UPSTREAM}) | MINUTE
MONEY = frozenset({Kind.ACCOUNT_FATAL, Kind.BUDGET})
GONE = frozenset({Kind.CONFIG_FATAL})


def google(quota: str, value: str, **more: Any) -> dict[str, Any]:
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": quota, "quotaValue": value}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "31s"},
    ]
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details, **more}}


def groq(unit: str, words: str) -> dict[str, Any]:
    message = (
        "Rate limit reached for model `m` in organization `o` service tier `on_demand` on "
        f"{unit}: Limit 90, Used 88, Requested 5. Please try again in {words}."
    )
    return {"error": {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}}


def cerebras(words: str, code: str, type_: str = "too_many_requests_error") -> dict[str, Any]:
    return {"message": words, "type": type_, "param": "quota", "code": code}


def said(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


PER_MINUTE = google("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "7")
PER_DAY = google("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "20")
MISTRAL = {
    "object": "error",
    "message": "Rate limit exceeded",
    "type": "rate_limited",
    "code": "1300",
    "raw_status_code": 429,
}
#: Name -> status, body, what it may be, is it a crowd, wait in seconds, requests of the limit.
REFUSALS: dict[str, tuple[int, Any, frozenset[Kind], bool, float | None, int | None]] = {
    "Google, minute": (429, PER_MINUTE, MINUTE, False, 31.0, 7),
    "Google, day": (429, PER_DAY, DAY, False, 31.0, 20),
    "Google, not on this tier": (429, said("Quota exceeded, limit: 0, model: m", code=429, status="RESOURCE_EXHAUSTED"), GONE, False, None, None),
    "Google, minute in a list": (429, [PER_MINUTE], MINUTE, False, 31.0, 7),
    "Google, day in a list": (429, [PER_DAY], DAY, False, 31.0, 20),
    "Google, day as JSON in the message": (429, said(json.dumps(PER_DAY), code=429), DAY, False, 31.0, 20),
    "Google, minute as a JSON list in the message": (429, said(json.dumps([PER_MINUTE])), MINUTE, False, 31.0, 7),
    "Google, spend in ten minutes": (429, said("Resource has been exhausted (e.g. check quota).", code=429, status="RESOURCE_EXHAUSTED"), UNKNOWN, False, None, None),
    "Google, high demand": (503, said("The model is experiencing high demand. Please try again later.", code=503, status="UNAVAILABLE"), BUSY, True, None, None),
    "Google, overloaded": (503, said("The model is overloaded. Please try again later.", code=503, status="UNAVAILABLE"), BUSY, True, None, None),
    "Groq, tokens a day": (429, groq("tokens per day (TPD)", "48m0s"), DAY, False, 2_880.0, None),
    "Groq, requests a day": (429, groq("requests per day (RPD)", "1m26.4s"), DAY, False, 86.4, 90),
    "Groq, tokens a minute": (429, groq("tokens per minute (TPM)", "11.455s"), MINUTE, False, 11.455, None),
    "Groq, requests a minute": (429, groq("requests per minute (RPM)", "2s"), MINUTE, False, 2.0, 90),
    "Groq, full flex tier": (498, said("Flex tier capacity exceeded", code="capacity_exceeded"), BUSY, True, None, None),
    "Groq, too large": (413, said("Request Entity Too Large"), frozenset({Kind.TOO_LARGE}), False, None, None),
    "Mistral": (429, MISTRAL, MINUTE, False, None, None),
    "Mistral, older": (429, {"message": "Requests rate limit exceeded"}, MINUTE, False, None, None),
    "Mistral, capacity": (429, {"message": "Service tier capacity exceeded for this model."}, BUSY, True, None, None),
    "Mistral, capacity, 503": (503, {"message": "Service tier capacity exceeded for this model."}, BUSY, True, None, None),
    "Cerebras, requests a minute": (429, cerebras("Requests per minute limit exceeded - too many requests sent.", "request_quota_exceeded"), MINUTE, False, None, None),
    "Cerebras, tokens a minute": (429, cerebras("Tokens per minute limit exceeded - too many tokens processed.", "token_quota_exceeded"), MINUTE, False, None, None),
    "Cerebras, requests an hour": (429, cerebras("Requests per hour limit exceeded - too many requests sent.", "request_quota_exceeded"), DAY, False, None, None),
    "Cerebras, tokens a day": (429, cerebras("Tokens per day limit exceeded - too many tokens processed.", "token_quota_exceeded"), DAY, False, None, None),
    "Cerebras, queue": (429, cerebras("We're experiencing high traffic right now! Please try again soon.", "queue_exceeded"), BUSY, True, None, None),
    "NVIDIA": (429, {"status": 429, "title": "Too Many Requests"}, UNKNOWN, False, None, None),
    "Together, requests": (429, said("Request rate limit", error_type="dynamic_request_limited"), MINUTE, False, None, None),
    "Together, tokens": (429, said("Token rate limit", type="dynamic_token_limited"), MINUTE, False, None, None),
    "Together, platform": (503, said("The server is overloaded"), BUSY, True, None, None),
    "Hugging Face": (402, {"error": "You have exceeded your monthly included credits for Inference Providers."}, MONEY, False, None, None),
    "Cloudflare": (429, {"success": False, "errors": [{"code": 4006, "message": "you have used up your daily free allocation of 10,000 neurons"}]}, DAY, False, None, None),
    "Ollama Cloud, session": (429, {"error": "you have reached your session usage limit"}, DAY, False, None, None),
    "Ollama Cloud, week": (429, {"error": "you have reached your weekly usage limit"}, DAY, False, None, None),
    "Z.AI, concurrency": (429, said("High concurrency usage of this API", code="1302"), UNKNOWN, False, None, None),
    "Alibaba, requests": (429, said("Requests rate limit exceeded, please try again later."), MINUTE, False, None, None),
    "Alibaba, tokens": (429, said("Allocated quota exceeded, please increase your quota limit."), MINUTE, False, None, None),
    "Alibaba, ramp": (429, said("Request rate increased too quickly."), MINUTE, False, None, None),
    "OpenAI, flex": (429, said("Resource unavailable", code="resource_unavailable"), BUSY, True, None, None),
}  # fmt: skip


def read(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Verdict:
    data = json.dumps(body).encode()
    reply = Reply(status=status, headers=headers or {}, body=data, latency_ms=1, at=0)
    return classify(reply, now=NOW)[0]


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_means_what_its_service_says(name: str) -> None:
    status, body, kinds, busy, wait, limit = REFUSALS[name]
    verdict = read(status, body)

    assert verdict.kind in kinds
    assert verdict.busy is busy
    assert verdict.wait == (wait if wait is None else pytest.approx(wait))
    assert verdict.limit == limit


@pytest.mark.parametrize(
    ("window", "reset"),
    [
        # Sessions begin at multiples of five hours since the epoch (99,751 of them have passed then),
        # weeks on Monday 00:00 UTC.
        ("session", "2026-11-24T11:00:00"),
        ("weekly", "2026-11-30T00:00:00"),
    ],
)
def test_windows_of_ollama_cloud_end_where_they_are_aligned(window: str, reset: str) -> None:
    verdict = read(429, {"error": f"you have reached your {window} usage limit"})

    assert verdict.until == datetime.fromisoformat(reset).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("headers", "seconds"), [({}, 3600.0), ({"retry-after": "300"}, 300.0)])
def test_an_hours_limit_ends_within_the_hour(headers: dict[str, str], seconds: float) -> None:
    """At a told wait, however short, else at the hour's end: never with the day."""
    body = cerebras("Tokens per hour limit exceeded - too many tokens.", "token_quota_exceeded")

    assert read(429, body, headers).until == NOW + seconds


#: Profile, headers without `x-ratelimit-`, (unit, window, limit, left, reset, does it refill all the time?).
HEADERS: dict[str, tuple[str, dict[str, str], list[tuple[str, float, int, int, float, bool]]]] = {
    "Groq, captured": (
        "groq",
        {"limit-requests": "1000", "remaining-requests": "999", "reset-requests": "1m26.4s", "limit-tokens": "8000", "remaining-tokens": "7890", "reset-tokens": "825ms"},
        [("requests", 86_400.0, 1000, 999, 86.4, True), ("tokens", 60.0, 8000, 7890, 0.825, True)],
    ),
    "Groq, documented": (
        "groq",
        {"limit-requests": "14400", "remaining-requests": "14370", "reset-requests": "2m59.56s", "limit-tokens": "18000", "remaining-tokens": "17997", "reset-tokens": "7.66s"},
        [("requests", 86_400.0, 14_400, 14_370, 179.56, True), ("tokens", 60.0, 18_000, 17_997, 7.66, False)],
    ),
    "Cerebras, all": (
        "cerebras",
        {"limit-requests-day": "1000", "remaining-requests-day": "900", "reset-requests-day": "11726", "limit-tokens-minute": "60000", "remaining-tokens-minute": "60000", "reset-tokens-minute": "26", "limit-requests-minute": "30", "remaining-requests-minute": "29", "reset-requests-minute": "26", "limit-tokens-day": "1000000", "remaining-tokens-day": "500000", "reset-tokens-day": "11726"},
        [("requests", 60.0, 30, 29, 26.0, False), ("requests", 86_400.0, 1000, 900, 11_726.0, False), ("tokens", 60.0, 60_000, 60_000, 26.0, False), ("tokens", 86_400.0, 1_000_000, 500_000, 11_726.0, False)],
    ),
    "Cerebras, older": (
        "cerebras",
        {"limit-requests-day": "14400", "remaining-requests-day": "14399", "reset-requests-day": "33011.382867", "limit-tokens-minute": "60000", "remaining-tokens-minute": "59000", "reset-tokens-minute": "11.382867"},
        [("requests", 86_400.0, 14_400, 14_399, 33_011.382867, False), ("tokens", 60.0, 60_000, 59_000, 11.382867, False)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_tell_windows_as_documented(name: str) -> None:
    profile, headers, expected = HEADERS[name]
    limits = limits_told(
        {f"x-ratelimit-{header}": value for header, value in headers.items()},
        PROFILES[profile].windows,
    )
    read = [(*_plain(limit), limit.is_bucket) for limit in limits]

    assert sorted(read) == sorted((*row[:4], pytest.approx(row[4]), row[5]) for row in expected)


def _plain(limit: LimitTold) -> tuple[Any, ...]:
    return limit.unit, limit.window, limit.limit, limit.remaining, limit.reset


@pytest.mark.parametrize(
    ("window", "limit", "over", "seconds"),
    [
        (86_400.0, 100_000, 669, 578.016),
        (86_400.0, 100_000, 608, 525.312),
        (60.0, 12_000, 2_291, 11.455),
    ],
)
def test_waits_of_groq_are_read_to_the_millisecond(
    window: float, limit: int, over: int, seconds: float
) -> None:
    """The wait of three reports: what is over the limit comes back at limit / window."""
    assert over / limit * window == pytest.approx(seconds)
    minutes, rest = divmod(seconds, 60)
    wait = f"{minutes:.0f}m{rest:.3f}s" if minutes else f"{rest:.3f}s"
    unit = "tokens per day (TPD)" if window > 60 else "tokens per minute (TPM)"

    assert read(429, groq(unit, wait)).wait == pytest.approx(seconds)
