"""What every OpenAI-compatible service says, in OpenAI's own shapes.

A service is a subclass that rewords what it does differently. The occasions are methods; each
returns a `Refused` (or a body) and decides nothing: who is refused is the core's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, ClassVar

from pipeline.simulator.answers import Said
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.limits import Full
from pipeline.simulator.models import Model, Page
from pipeline.simulator.parse_request import Asked
from pipeline.simulator.pictures import Trouble
from pipeline.simulator.wire import Refused

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
_WORDS = {
    "extract": "Failed to extract 1 image(s).",
    "base64": "Invalid base64 image_url.",
    "mime": "Unsupported image type.",
    "process": "Cannot identify image file.",
    "mislabelled": "The image is not of the declared type.",
    "uri": "Image URLs are not supported.",
    "large": "The image is too large.",
    "pixels": "The image has too many pixels.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One answer of a model, to be worded by a service."""

    id: str
    created: int
    model: Model
    #: The slug that the reply names.
    slug: str
    said: Said
    cost: float = 0.0
    #: Was cost asked for?
    usage: bool = False
    streamed: bool = False
    latency: float = 0.0
    #: At which it is billed; "" where the service has no tiers.
    tier: str = ""


class Dialect:
    """OpenAI's shapes. Subclasses change what their service words otherwise."""

    #: Where the API lives at this service.
    base: ClassVar[str] = "/v1"
    #: Comment lines in streams?
    comments: ClassVar[bool] = False
    #: Keys, credits, generations, endpoints: routes that only OpenRouter has.
    accounts: ClassVar[bool] = False

    # --- shapes

    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        """The body of an error."""
        kind = kind or _KINDS.get(status, "server_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def refused(
        self,
        knobs: Knobs,
        status: int,
        message: str,
        kind: str = "",
        *,
        http: Mapping[str, str] | None = None,
        moves_on: bool = False,
        **more: Any,
    ) -> Refused:
        """An error; `http` are headers of the response, `more` goes into the body."""
        body = self.error(knobs, status, message, kind, **more)
        refusal = Refused(status, body, headers=http, moves_on=moves_on)
        refusal.note = message
        return refusal

    def completion(self, got: Generation, knobs: Knobs) -> dict[str, Any]:
        """A whole answer."""
        message = {"role": "assistant", "content": got.said.content}
        if got.said.refusal is not None:
            message["refusal"] = got.said.refusal
        choice = {"index": 0, "finish_reason": got.said.finish, "message": message}
        no_words = knobs.drops_empty_choices and not got.said.content
        return {
            "id": got.id.replace("gen-", "chatcmpl-"),
            "object": "chat.completion",
            "created": got.created,
            "model": got.slug,
            "choices": [] if no_words else [choice],
            "usage": self.usage(got, knobs),
            **({"service_tier": got.tier} if got.tier else {}),
        }

    def usage(self, got: Generation, knobs: Knobs) -> dict[str, Any]:
        said = got.said
        return {
            "prompt_tokens": said.prompt_tokens,
            "completion_tokens": said.completion_tokens,
            "total_tokens": said.prompt_tokens + said.completion_tokens,
        }

    def chunk(
        self, got: Generation, delta: dict[str, Any] | None, finish: str | None
    ) -> dict[str, Any]:
        """One event of a stream; without a delta its choices are empty."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {
            "id": got.id.replace("gen-", "chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": got.created,
            "model": got.slug,
            "choices": [] if delta is None else [choice],
        }

    def broken_chunk(self, got: Generation, knobs: Knobs) -> dict[str, Any]:
        """The event that ends a stream in an error."""
        error = self.error(knobs, 502, "The stream broke off.")
        return error if isinstance(error, dict) else {"error": error}

    def headers(self, got: Generation) -> dict[str, str]:
        """Of a response for which a generation was opened."""
        return {}

    def quota(self, knobs: Knobs, limits: Sequence[Full], now: float) -> dict[str, str]:
        """Headers of every answer that tell how limits stand; most services have none."""
        return {}

    def models(self, page: Page, knobs: Knobs) -> object:
        """`GET /models`."""
        listed = [self.listed(model) for model in page.models]
        return {"object": "list", "data": listed}

    def listed(self, model: Model) -> dict[str, Any]:
        owner = model.provider_slug
        return {"id": model.id, "object": "model", "created": model.created, "owned_by": owner}

    # --- occasions

    def check(self, asked: Asked, model: Model, knobs: Knobs) -> None:
        """Refuse what this service does not take; after the model is known to exist."""

    def slug(self, asked: str) -> str:
        """The model id that a request means."""
        return asked

    def bad(self, knobs: Knobs, message: str, status: int = 400) -> Refused:
        return self.refused(knobs, status, message)

    def no_key(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 401, "You didn't provide an API key.")

    def wrong_key(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 401, "Incorrect API key provided.")

    def unknown_model(self, knobs: Knobs, slug: str) -> Refused:
        return self.refused(knobs, 404, f"The model `{slug}` does not exist.")

    def gone(self, knobs: Knobs, slug: str) -> Refused:
        return self.unknown_model(knobs, slug)

    def no_credit(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 402, "You exceeded your current quota.")

    def too_many(self, knobs: Knobs, full: Full, model: Model, now: float) -> Refused:
        """A limit of the service's own is reached."""
        return self.refused(
            knobs, 429, "Rate limit reached.", http=rate_headers(knobs, full, now, body=False)
        )

    def upstream(self, knobs: Knobs, form: str, model: Model, wait: float) -> Refused:
        """The provider behind the service refuses."""
        return self.refused(knobs, 429, "The provider is overloaded.")

    def pictures(self, knobs: Knobs, troubles: Sequence[Trouble]) -> Refused:
        """Images that the service cannot use."""
        first = troubles[0]
        return self.refused(knobs, 400, _WORDS[first.why])

    def many_images(self, knobs: Knobs, count: int) -> Refused:
        return self.refused(knobs, 400, f"Too many images: at most {knobs.max_images}.")

    def too_long(self, knobs: Knobs, model: Model, tokens: int) -> Refused:
        return self.refused(
            knobs,
            400,
            f"This model's maximum context length is {model.context} tokens. However, you "
            f"requested about {tokens} tokens.",
        )

    def too_large(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 413, "Request Entity Too Large")

    def blocked(self, knobs: Knobs, block: str, asked: Asked, model: Model) -> Refused:
        """An image that is refused before the model says a word."""
        return self.refused(knobs, 400, "The request was rejected by the safety system.")

    def busy(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 503, "The server is busy.")

    def flex_full(self, knobs: Knobs) -> Refused:
        """The tier at half the price has no room; nothing is billed."""
        message = "Flex processing is not available right now."
        error = {"message": message, "type": "resource_unavailable", "code": "resource_unavailable"}
        return Refused(429, {"error": {**error, "param": None}})

    def server(self, knobs: Knobs, status: int, model: Model) -> Refused:
        """Trouble of the service or of what is behind it."""
        return self.refused(knobs, status, "The server had an error.", http=later(knobs))

    def not_found(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 404, "Not Found")

    def not_allowed(self, knobs: Knobs) -> Refused:
        return self.refused(knobs, 405, "Method Not Allowed")


def later(knobs: Knobs) -> dict[str, str]:
    """A `Retry-After` for a service that is overloaded."""
    return {"Retry-After": "5"} if knobs.retry_after else {}


def rate_headers(knobs: Knobs, full: Full, now: float, *, body: bool) -> dict[str, str]:
    """What a 429 tells about its limit, in the body or in the HTTP headers."""
    headers: dict[str, str] = {}
    if knobs.rate_headers in (("body", "both") if body else ("http", "both")):
        headers = {
            "X-RateLimit-Limit": str(full.count),
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(full.resets_at * 1000)),
        }
    if knobs.retry_after and not body:
        headers["Retry-After"] = retry_after(knobs, full.resets_at - now, now)
    return headers


def retry_after(knobs: Knobs, wait: float, now: float) -> str:
    """Whole seconds, rounded up, or the instant as an HTTP date."""
    if knobs.retry_after_date:
        return formatdate(math.ceil(now + wait), usegmt=True)
    return str(max(1, math.ceil(wait)))
