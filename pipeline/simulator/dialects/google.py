"""Google's OpenAI-compatible endpoint: errors in an array, unknown fields refused, no cost.

A spent day comes with a RetryInfo of seconds like a spent minute does; only the quota id tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pipeline.simulator.dialects.base import Dialect, Generation, rate_headers
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import Full, Span
from pipeline.simulator.models import Model
from pipeline.simulator.parse_request import Asked
from pipeline.simulator.pictures import Trouble
from pipeline.simulator.wire import Refused

_FIELDS = {
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "n",
    "stream",
    "stream_options",
    "response_format",
    "reasoning_effort",
    "tools",
    "tool_choice",
    "extra_body",
    "service_tier",
}
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_QUOTA: dict[Span, tuple[str, str]] = {
    "minute": (
        "generate_content_free_tier_requests",
        "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
    ),
    "day": (
        "generate_content_free_tier_requests",
        "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
    ),
    "tokens": (
        "generate_content_free_tier_input_token_count",
        "GenerateContentInputTokensPerModelPerMinute-FreeTier",
    ),
}
_METRIC = "generativelanguage.googleapis.com/"
_HELP = "https://ai.google.dev/gemini-api/docs/rate-limits"
_SERVER = {
    500: "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
}


def invalid(message: str) -> dict[str, Any]:
    """A refusal of Gemini's own, as it stands in OpenRouter's `raw`."""
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


def exhausted(span: Span, count: int, slug: str, wait: float) -> dict[str, Any]:
    """Gemini's 429 with its details."""
    metric, quota = _QUOTA[span]
    model = slug.rsplit("/", 1)[-1].removesuffix(":free")
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more "
        f"information on this error, head to: {_HELP}.\n* Quota exceeded for metric: "
        f"{_METRIC}{metric}, limit: {count}\nPlease retry in {wait:.9g}s."
    )
    violation = {
        "quotaMetric": _METRIC + metric,
        "quotaId": quota,
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": str(count),
    }
    details = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Learn more about Gemini API quotas", "url": _HELP}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{int(wait)}s"},
    ]
    error = {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}
    return {"error": error}


class Google(Dialect):
    base: ClassVar[str] = "/v1beta/openai"

    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        name = _STATUS.get(status, "UNKNOWN")
        return [{"error": {"code": status, "message": message, "status": name, **more}}]

    def slug(self, asked: str) -> str:
        return asked.removeprefix("models/")

    def listed(self, model: Model) -> dict[str, Any]:
        return {"id": f"models/{model.id}", "object": "model", "owned_by": "google"}

    def completion(self, got: Generation, knobs: Knobs) -> dict[str, Any]:
        answer = super().completion(got, knobs)
        for choice in answer["choices"]:
            if choice["message"]["content"] is None:
                del choice["message"]["content"]
            if choice["finish_reason"] == "error":
                choice["finish_reason"] = "content_filter"
        return answer

    def check(self, asked: Asked, model: Model, knobs: Knobs) -> None:
        for name in asked.fields:
            if name not in _FIELDS:
                raise self.bad(
                    knobs,
                    f'Invalid JSON payload received. Unknown name "{name[:100]}": Cannot find field.',
                )

    def no_key(self, knobs: Knobs) -> Refused:
        return self.refused(
            knobs,
            403,
            "Method doesn't allow unregistered callers (callers without established identity). "
            "Please use API Key or other form of API consumer identity to call this API.",
        )

    def wrong_key(self, knobs: Knobs) -> Refused:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
        }
        message = "API key not valid. Please pass a valid API key."
        return self.refused(knobs, 400, message, details=[info])

    def unknown_model(self, knobs: Knobs, slug: str) -> Refused:
        message = (
            f"models/{slug} is not found for API version v1main, or is not supported for "
            "generateContent. Call ListModels to see the list of available models and their "
            "supported methods."
        )
        return self.refused(knobs, 404, message)

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        wait = full.resets_at - now
        if full.span == "day":
            wait = wait % 60 + 0.5
        refusal = Refused(
            429,
            [exhausted(full.span, full.count, model.id, wait)],
            headers=_retry_only(rate_headers(knobs, full, now, body=False)),
        )
        refusal.note = f"quota of the {full.span}"
        return refusal

    def upstream(self, knobs: Knobs, form: str, model: Model, wait: float) -> Refused:
        return self.refused(knobs, 429, "Resource has been exhausted (e.g. check quota).")

    def pictures(self, knobs: Knobs, troubles: Sequence[Trouble]) -> Refused:
        first = troubles[0]
        place = f"contents[{first.part.place[0]}].parts[{first.part.place[1]}]"
        messages = {
            "uri": f"Invalid or unsupported file uri: {first.part.url[:200]}",
            "extract": f"Invalid or unsupported file uri: {first.part.url[:200]}",
            "base64": f"Invalid value at '{place}.inline_data.data' (TYPE_BYTES), Base64 decoding "
            "failed",
            "mime": f"Unsupported MIME type: {first.mime}",
            "mislabelled": "Provided image is not valid.",
        }.get(first.why, "Unable to process input image. Please retry or report in " + _HELP)
        return self.refused(knobs, 400, messages)

    def server(self, knobs: Knobs, status: int, model: Model) -> Refused:
        known = status if status in (500, 503) else 503
        return self.refused(knobs, known, _SERVER[known])

    def busy(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 503, _SERVER[503])


def _retry_only(headers: dict[str, str]) -> dict[str, str]:
    """Google tells no rate headers; a Retry-After only when it is turned on."""
    return {name: value for name, value in headers.items() if name == "Retry-After"}
