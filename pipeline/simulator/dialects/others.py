"""Services in OpenAI's shapes that word limits and refusals in their own way: Groq, Mistral,
Cerebras, NVIDIA, Hugging Face's router. From their documentation and from bodies in public issues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pipeline.simulator.dialects.base import Dialect
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import DAY, MINUTE, Full, Span
from pipeline.simulator.models import Model
from pipeline.simulator.parse_request import Asked
from pipeline.simulator.wire import Refused


def _span(seconds: float) -> str:
    """Groq's and OpenAI's way to write a span: `825ms`, `1m26.4s`."""
    if seconds < 1:
        return f"{seconds * 1000:.6g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}h{minutes}m{rest:.6g}s" if hours else f"{minutes}m{rest:.6g}s"


class Groq(Dialect):
    """Buckets: on every answer the day's requests and the minute's tokens, each with the time until
    the bucket is full again."""

    base: ClassVar[str] = "/openai/v1"
    _WORDS: ClassVar[dict[Span, str]] = {
        "day": "requests per day (RPD)",
        "minute": "requests per minute (RPM)",
        "tokens": "tokens per minute (TPM)",
    }

    def quota(self, knobs: Knobs, limits: Sequence[Full], now: float) -> dict[str, str]:
        headers = {}
        for limit in limits:
            if limit.span == "minute":
                continue
            unit = "requests" if limit.span == "day" else "tokens"
            window = DAY if limit.span == "day" else MINUTE
            headers[f"X-RateLimit-Limit-{unit}"] = str(limit.count)
            headers[f"X-RateLimit-Remaining-{unit}"] = str(int(limit.count - limit.used))
            headers[f"X-RateLimit-Reset-{unit}"] = _span(limit.used / max(1, limit.count) * window)
        return headers

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        wait = full.resets_at - now
        message = (
            f"Rate limit reached for model `{model.id}` in organization `org_sim` service tier "
            f"`on_demand` on {self._WORDS[full.span]}: Limit {full.count}, Used {int(full.used)}, "
            f"Requested 1. Please try again in {_span(wait)}."
        )
        kind = "tokens" if full.span == "tokens" else "requests"
        body = {"error": {"message": message, "type": kind, "code": "rate_limit_exceeded"}}
        headers = {**self.quota(knobs, [full], now), "Retry-After": str(int(wait) + 1)}
        return Refused(429, body, headers=headers)

    def busy(self, knobs: Knobs) -> Refused:
        message = "Flex tier capacity exceeded."
        error = {"message": message, "type": "capacity_exceeded", "code": "capacity_exceeded"}
        return Refused(498, {"error": error})


class Mistral(Dialect):
    """Errors flat; what the limit is stands nowhere."""

    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        return {"object": "error", "message": message, "type": kind or "invalid_request_error",
                "param": None, "code": str(more.get("code", status))}  # fmt: skip

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        return self.refused(knobs, 429, "Rate limit exceeded", "rate_limited", code="1300")

    def busy(self, knobs: Knobs) -> Refused:
        message = "Service tier capacity exceeded for this model."
        return self.refused(knobs, 429, message, "service_tier_capacity_exceeded", code="3505")

    def check(self, asked: Asked, model: Model, knobs: Knobs) -> None:
        if "stream_options" in asked.fields:
            raise self.bad(knobs, "Extra inputs are not permitted: stream_options", 422)


class Cerebras(Dialect):
    """Errors flat; clock windows, told on every answer in seconds."""

    _REFUSES: ClassVar[frozenset[str]] = frozenset(
        ("frequency_penalty", "presence_penalty", "logit_bias", "parallel_tool_calls", "service_tier")
    )  # fmt: skip

    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        return {"message": message, "type": kind or "invalid_request_error",
                "param": more.get("param"), "code": more.get("code", "wrong_api_format")}  # fmt: skip

    def quota(self, knobs: Knobs, limits: Sequence[Full], now: float) -> dict[str, str]:
        headers = {}
        for limit in limits:
            unit = "tokens-minute" if limit.span == "tokens" else f"requests-{limit.span}"
            headers[f"x-ratelimit-limit-{unit}"] = str(limit.count)
            headers[f"x-ratelimit-remaining-{unit}"] = str(int(limit.count - limit.used))
            headers[f"x-ratelimit-reset-{unit}"] = f"{limit.resets_at - now:.3f}"
        return headers

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        what = "Tokens per minute" if full.span == "tokens" else f"Requests per {full.span}"
        code = "token_quota_exceeded" if full.span == "tokens" else "request_quota_exceeded"
        message = f"{what} limit exceeded - too many {what.split(maxsplit=1)[0].lower()} sent."
        refusal = self.refused(
            knobs, 429, message, "too_many_requests_error", param="quota", code=code
        )
        refusal.headers = self.quota(knobs, [full], now)
        return refusal

    def busy(self, knobs: Knobs) -> Refused:
        message = "We're experiencing high traffic right now! Please try again soon."
        return self.refused(
            knobs, 429, message, "too_many_requests_error", param="queue", code="queue_exceeded"
        )

    def check(self, asked: Asked, model: Model, knobs: Knobs) -> None:
        for name in asked.fields:
            if name in self._REFUSES:
                raise self.bad(knobs, f"property '{name}' is unsupported")


class Nvidia(Dialect):
    """A refusal tells nothing but its status."""

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        return Refused(429, {"status": 429, "title": "Too Many Requests"})


class HuggingFace(Dialect):
    def no_credit(self, knobs: Knobs) -> Refused:
        message = (
            "You have exceeded your monthly included credits for Inference Providers. Subscribe to "
            "PRO to get 20x more monthly included credits."
        )
        return Refused(402, {"error": message})
