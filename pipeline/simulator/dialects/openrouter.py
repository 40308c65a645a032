"""OpenRouter: errors with metadata, four kinds of 429, cost in usage, comments in streams.

The embedded service speaks like this too. The literal messages are the service's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from pipeline.simulator.dialects.base import Dialect, Generation, later, rate_headers
from pipeline.simulator.dialects.google import exhausted, invalid
from pipeline.simulator.dialects.openrouter_words import (
    image_words,
    of_account,
    of_endpoint,
    too_dear,
)
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import Full
from pipeline.simulator.models import Model, Page, listed
from pipeline.simulator.parse_request import Asked
from pipeline.simulator.pictures import Trouble
from pipeline.simulator.wire import Refused

_USER = "user_2simulated"
_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    429: "rate_limit_exceeded",
    500: "server",
    502: "provider_unavailable",
    503: "provider_overloaded",
    529: "provider_overloaded",
}
_SERVER = {
    408: "Request timed out",
    500: "Internal Server Error",
    502: "Upstream error from {provider}: Service temporarily overloaded",
    503: "No instances available. Please try again later.",
    529: "Provider returned error",
}
_REMEDY = "Slow down, or add credits to raise the limit."


class OpenRouter(Dialect):
    base: ClassVar[str] = "/api/v1"
    comments: ClassVar[bool] = True
    accounts: ClassVar[bool] = True

    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        metadata = dict(more)
        if knobs.era != "2024" and status != 401:
            metadata.setdefault("error_type", kind or _TYPES.get(status, "unmapped"))
        if knobs.era == "2024":
            for name in ("limit_source", "remedy_hint"):
                metadata.pop(name, None)
        error: dict[str, Any] = {"code": status, "message": message}
        if metadata:
            error["metadata"] = metadata
        return {"error": error, "user_id": _USER}

    # --- replies

    def completion(self, got: Generation, knobs: Knobs) -> dict[str, Any]:
        said = got.said
        message = {
            "role": "assistant",
            "content": said.content,
            "refusal": said.refusal,
            "reasoning": None,
        }
        choice = {
            "index": 0,
            "logprobs": None,
            "finish_reason": said.finish,
            "native_finish_reason": said.native,
            "message": message,
        }
        return {
            "id": got.id,
            "provider": got.model.provider,
            "model": got.slug,
            "object": "chat.completion",
            "created": got.created,
            "system_fingerprint": None,
            "choices": [choice],
            "usage": self.usage(got, knobs),
            **({"service_tier": got.tier} if got.tier else {}),
        }

    def usage(self, got: Generation, knobs: Knobs) -> dict[str, Any]:
        usage = super().usage(got, knobs)
        if knobs.era == "2024" and not got.usage:
            return usage
        said = got.said
        return {
            **usage,
            "cost": got.cost,
            "is_byok": False,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "cache_write_tokens": 0,
                "audio_tokens": 0,
                "video_tokens": 0,
            },
            "cost_details": {
                "upstream_inference_cost": None,
                "upstream_inference_prompt_cost": said.prompt_tokens * got.model.prompt,
                "upstream_inference_completions_cost": said.completion_tokens
                * got.model.completion,
            },
            "completion_tokens_details": {
                "reasoning_tokens": said.thinking_tokens,
                "image_tokens": 0,
                "audio_tokens": 0,
            },
        }

    def chunk(
        self, got: Generation, delta: dict[str, Any] | None, finish: str | None
    ) -> dict[str, Any]:
        chunk = super().chunk(got, delta, finish)
        if delta is not None and finish is not None:
            chunk["choices"][0]["native_finish_reason"] = got.said.native
        return {**chunk, "id": got.id, "provider": got.model.provider}

    def broken_chunk(self, got: Generation, knobs: Knobs) -> dict[str, Any]:
        chunk = self.chunk(got, {"content": ""}, "error")
        error = {
            "code": 502,
            "message": "Provider disconnected mid-stream",
            "metadata": {"error_type": "provider_unavailable"},
        }
        return {**chunk, "error": error}

    def headers(self, got: Generation) -> dict[str, str]:
        return {"X-Generation-Id": got.id} if got.id else {}

    def models(self, page: Page, knobs: Knobs) -> object:
        facts: dict[str, Any] = {"data": [listed(model, knobs.era) for model in page.models]}
        if knobs.era != "2024":
            more = page.next and f"{self.base}/models?{page.next}"
            facts |= {"total_count": page.total, "links": {"next": more}}
        return facts

    # --- what is not taken

    def check(self, asked: Asked, model: Model, knobs: Knobs) -> None:
        """Routing: no endpoint is left for what the request demands."""
        wish = asked.provider
        for name in ("order", "only", "ignore", "quantizations"):
            given = wish.get(name)
            if given is not None and not (
                isinstance(given, list) and all(isinstance(entry, str) for entry in given)
            ):
                raise self.bad(knobs, f"provider.{name}: expected an array of strings")
        ours = model.provider_slug
        only, ignored = wish.get("only"), wish.get("ignore") or []
        fallbacks = wish.get("allow_fallbacks", True) is not False
        order = wish.get("order")
        if (
            (only is not None and ours not in only)
            or ours in ignored
            or (order and not fallbacks and ours not in order)
        ):
            raise self._nowhere(knobs, "No allowed providers are available for the selected model.")
        if wish.get("data_collection") == "deny" and not model.paid:
            raise self._nowhere(
                knobs,
                "No endpoints found matching your data policy (Free model publication). "
                "Configure: https://openrouter.ai/settings/privacy",
            )
        if wish.get("require_parameters") is True and not asked.parameters <= set(model.supported):
            raise self._nowhere(
                knobs,
                "No endpoints found that can handle the requested parameters. To learn more about "
                "provider routing, visit: https://openrouter.ai/docs/provider-routing",
            )
        if too_dear(wish.get("max_price"), model):
            raise self._nowhere(knobs, f"No endpoints found for {model.id} within max_price.")
        if asked.images and "image" not in model.inputs:
            raise self._nowhere(knobs, "No endpoints found that support image input")

    def _nowhere(self, knobs: Knobs, message: str) -> Refused:
        return self.refused(knobs, 404, message, moves_on=True)

    def no_key(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 401, "No auth credentials found")

    def wrong_key(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 401, "User not found.")

    def unknown_model(self, knobs: Knobs, slug: str) -> Refused:
        return self.refused(knobs, 400, f"{slug} is not a valid model ID")

    def gone(self, knobs: Knobs, slug: str) -> Refused:
        if knobs.gone_as == "404":
            return self.refused(knobs, 404, f"No endpoints found for {slug}.")
        if knobs.gone_as == "paid":
            message = (
                "This model is unavailable for free. The paid version is available now - use this "
                f"slug instead: {slug.removesuffix(':free')}"
            )
            return self.refused(knobs, 404, message)
        return self.unknown_model(knobs, slug)

    def no_credit(self, knobs: Knobs) -> Refused:
        message = "Insufficient credits. Add more using https://openrouter.ai/settings/credits"
        return self.refused(knobs, 402, message)

    def dear(self, knobs: Knobs, wanted: int, afford: int) -> Refused:
        """The answer may cost more than is left."""
        message = (
            "This request requires more credits, or fewer max_tokens. You requested up to "
            f"{wanted} tokens, but can only afford {afford}. To increase, visit "
            "https://openrouter.ai/settings/credits and upgrade to a paid account"
        )
        return self.refused(knobs, 402, message, provider_name=None)

    def in_flight(self, knobs: Knobs) -> Refused:
        """A budget that the requests under way hold; passes by itself."""
        return self.refused(
            knobs,
            402,
            "Too much credit is held by requests in flight. Please retry shortly.",
            limit_source="openrouter_in_flight_budget",
            http={"Retry-After": "2"},
        )

    def key_spent(
        self, knobs: Knobs, limit: float, spent: float, resets_at: float | None
    ) -> Refused:
        """The spending limit of the key."""
        of = "total" if resets_at is None else "daily"
        more: dict[str, Any] = {
            "limit_source": "openrouter_key_limit",
            "scope": "key",
            "limit_usd": limit,
            "spend_usd": spent,
        }
        if resets_at is not None:
            more["resets_at"] = datetime.fromtimestamp(resets_at, UTC).isoformat()
        message = (
            f"Key limit exceeded ({of} limit). Manage it using https://openrouter.ai/settings/keys"
        )
        return self.refused(knobs, 403, message, **more)

    # --- limits

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        metadata: dict[str, Any] = {}
        if headers := rate_headers(knobs, full, now, body=True):
            metadata["headers"] = headers
        if full.of == "account":
            message, source = of_account(knobs, full)
            metadata |= {"limit_source": source, "remedy_hint": _REMEDY, "provider_name": None}
        else:
            message = of_endpoint(full, model)
            metadata["provider_name"] = model.provider
        return self.refused(
            knobs,
            429,
            message,
            http=rate_headers(knobs, full, now, body=False),
            moves_on=full.of == "endpoint",
            **metadata,
        )

    def upstream(self, knobs: Knobs, form: str, model: Model, wait: float) -> Refused:
        more: dict[str, Any] = {
            "raw": f"{model.id} is temporarily rate-limited upstream. Please retry shortly, or add "
            "your own key to accumulate your rate limits: "
            "https://openrouter.ai/settings/integrations",
            "provider_name": model.provider,
            "is_byok": False,
            "provider_error_code": "429",
            "limit_source": "upstream_provider_shared_pool",
        }
        if form == "seconds":
            whole = max(1, int(-(-wait // 1)))
            more |= {
                "retry_after_seconds": whole,
                "retry_after_seconds_raw": wait,
                "headers": {"Retry-After": str(whole)},
            }
        elif form == "google":
            more["raw"] = json.dumps(exhausted("minute", 15, model.id, wait), indent=2)
        elif form == "overloaded":
            more["provider_error_code"] = "engine_overloaded"
        return self.refused(knobs, 429, "Provider returned error", moves_on=True, **more)

    # --- images and safety

    def pictures(self, knobs: Knobs, troubles: Sequence[Trouble]) -> Refused:
        first = troubles[0]
        if first.why == "extract":
            message = f"Failed to extract {len(troubles)} image(s)."
            return self.refused(knobs, 400, message, "image_download_failed")
        kind, raw = image_words(first)
        return self.refused(
            knobs, 400, "Provider returned error", kind, raw=raw, provider_name="Google AI Studio"
        )

    def many_images(self, knobs: Knobs, count: int) -> Refused:
        raw = json.dumps(invalid(f"Too many images: {count} of at most {knobs.max_images}."))
        return self.refused(knobs, 400, "Provider returned error", raw=raw)

    def too_long(self, knobs: Knobs, model: Model, tokens: int) -> Refused:
        message = (
            f"This endpoint's maximum context length is {model.context} tokens. However, you "
            f"requested about {tokens} tokens. Please reduce the length of either one."
        )
        return self.refused(knobs, 400, message, "context_length_exceeded", moves_on=True)

    def blocked(self, knobs: Knobs, block: str, asked: Asked, model: Model) -> Refused:
        if block == "blocked":
            raw = json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
            return self.refused(
                knobs,
                400,
                "Provider returned error",
                "content_policy_violation",
                raw=raw,
                provider_name=model.provider,
            )
        return self.refused(
            knobs,
            403,
            f"{model.id} requires moderation on {model.provider}. Your input was flagged for "
            '"violence". No credits were charged.',
            "content_policy_violation",
            reasons=["violence"],
            flagged_input=asked.prompt[:50],
            provider_name=model.provider,
            model_slug=model.id,
        )

    def server(self, knobs: Knobs, status: int, model: Model) -> Refused:
        message = _SERVER.get(status, "Internal Server Error").format(provider=model.provider)
        more: dict[str, Any] = {"provider_name": model.provider} if status in (502, 529) else {}
        headers = later(knobs) if status == 503 else {}
        return self.refused(knobs, status, message, http=headers, moves_on=True, **more)

    def busy(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 503, _SERVER[503], http=later(knobs), moves_on=True)
