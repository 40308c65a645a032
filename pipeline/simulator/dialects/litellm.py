"""LiteLLM's proxy: string codes, the exception's name in the message, headers of its own."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from pipeline.simulator.dialects.base import Dialect, Generation, later, rate_headers
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import Full
from pipeline.simulator.models import Model
from pipeline.simulator.pictures import Trouble
from pipeline.simulator.wire import Refused

_NAMES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    408: "Timeout",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
_TYPES = {401: "auth_error", 429: "throttling_error", 402: "budget_exceeded"}


class LiteLLM(Dialect):
    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        kind = kind or _TYPES.get(status, "")
        error = {
            "message": message,
            "type": kind or None,
            "param": more.get("param"),
            "code": str(status),
        }
        return {"error": error}

    def headers(self, got: Generation) -> dict[str, str]:
        return {
            "x-litellm-call-id": str(uuid.uuid5(uuid.NAMESPACE_OID, got.id)),
            "x-litellm-model-group": got.slug,
            "x-litellm-version": "1.80.0",
            "x-litellm-response-cost": str(got.cost),
        }

    def bad(self, knobs: Knobs, message: str, status: int = 400) -> Refused:
        return self.refused(knobs, status, f"litellm.BadRequestError: {message}")

    def no_key(self, knobs: Knobs) -> Refused:
        message = "Authentication Error, No api key passed in."
        return self.refused(knobs, 401, message, param="None")

    def wrong_key(self, knobs: Knobs) -> Refused:
        message = "Authentication Error, Invalid proxy server token passed."
        return self.refused(knobs, 401, message, "token_not_found_in_db", param="key")

    def unknown_model(self, knobs: Knobs, slug: str) -> Refused:
        message = (
            f"/chat/completions: Invalid model name passed in model={slug}. Call `/v1/models` to "
            "view available models for your key."
        )
        return self.refused(knobs, 400, message, param="None")

    def no_credit(self, knobs: Knobs) -> Refused:
        message = "Budget has been exceeded! Current cost: 1.0, Max budget: 1.0"
        return self.refused(knobs, 400, message, "budget_exceeded")

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        what = "tokens" if full.span == "tokens" else "requests"
        message = (
            f"litellm.RateLimitError: Rate limit exceeded for api_key. Limit type: {what}. Current "
            f"limit: {full.count}, Remaining: 0. Limit resets at: {int(full.resets_at)}"
        )
        headers = rate_headers(knobs, full, now, body=False)
        return self.refused(knobs, 429, message, http=headers)

    def upstream(self, knobs: Knobs, form: str, model: Model, wait: float) -> Refused:
        message = (
            "litellm.RateLimitError: RateLimitError: GeminiException - Resource has been exhausted "
            f"(e.g. check quota). Received Model Group={model.id}"
        )
        return self.refused(knobs, 429, message)

    def pictures(self, knobs: Knobs, troubles: Sequence[Trouble]) -> Refused:
        first = troubles[0]
        if first.why in ("extract", "uri"):
            message = (
                "litellm.ImageFetchError: Error: Unable to fetch image from URL. "
                f"url={first.part.url[:100]}"
            )
        else:
            message = f"litellm.BadRequestError: GeminiException BadRequestError - {_why(first)}"
        return self.refused(knobs, 400, message)

    def server(self, knobs: Knobs, status: int, model: Model) -> Refused:
        name = _NAMES.get(status, "APIError")
        message = f"litellm.{name}: {name}: GeminiException - the service is overloaded."
        headers = later(knobs) if status == 503 else {}
        return self.refused(knobs, status, message, http=headers)


def _why(trouble: Trouble) -> str:
    if trouble.why == "mime":
        return f"Unsupported MIME type: {trouble.mime}"
    return "Provided image is not valid."
