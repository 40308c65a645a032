"""A response -> its one class. Pure, and never raises: a body is evidence, not a contract.

The order of the questions matters and is the page below (`classify`): a success is looked for
first, also inside a 200 that carries an error; then what the service says (`error.code`,
`error_type`, the message, the upstream's own body inside `metadata.raw`); the HTTP status is
the last resort. Bodies and wordings: OpenRouter's "Errors and debugging" and captures of
2024-2026; Google's `google.rpc` error details; LiteLLM, vLLM and Ollama as they answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.api import waits
from pipeline.api.evidence import Evidence, error_in, evidence_of
from pipeline.api.reading import completion_of
from pipeline.records import Completion, Reply
from pipeline.retry import Kind, Scope, Verdict

_Words = tuple[tuple[str, ...], Kind, Scope, str | None]

#: Substrings of the lower-case text (message and upstream body) -> class. First match wins.
#: (any of these, kind, scope, error code of the record)
_TEXT: tuple[_Words, ...] = (
    (("free-models-per-min", "openrouter_free_tier_per_minute"), Kind.ACCOUNT_MINUTE, Scope.ACCOUNT, None),
    (("free-models-per-day", "openrouter_free_tier_daily"), Kind.ACCOUNT_DAY, Scope.ACCOUNT, None),
    (("limit_rpd/", "per day (rpd)", "per day (tpd)"), Kind.MODEL_DAY, Scope.MODEL, None),
    (("limit_rpm/", "per min (rpm)", "per min (tpm)", "model rate limit exceeded"), Kind.MODEL_MINUTE, Scope.MODEL, None),
    # Keys and budgets that are told as a plain 400: Google, LiteLLM without and with its database.
    (("api key not valid", "api key expired", "api_key_invalid", "no_db_connection", "expired_key", "budget_exceeded"), Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    (("openrouter_in_flight_budget",), Kind.TRANSIENT, Scope.ITEM, "server_error"),
    (("is not a valid model id", "no endpoints found", "unavailable for free", "must have 3 items or fewer", "model_not_found", "invalid model name passed"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    (("is not a multimodal model", "only supported by certain models", "missing data required for image input"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    # A field that the service does not know is wrong in every request.
    (("unknown name \"", "unrecognized request argument", "unknown parameter", "unsupported_parameter", "unsupported_value", "unsupportedparamserror", "extra inputs are not permitted"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    (("failed to extract", "image_download_failed", "imagefetcherror", "invalid or unsupported file uri", "invalid_image_url", "while downloading"), Kind.IMAGE_UNREACHABLE, Scope.ITEM, "image_rejected"),
    (("unable to process input image", "provided image is not valid", "failed to process inputs", "base64 decoding failed", "unsupported mime type", "invalid image input", "invalid_image", "image_too_large", "image_too_small", "unsupported_image_format", "image_not_found"), Kind.IMAGE_REJECTED, Scope.ITEM, "image_rejected"),
    (("user location is not supported",), Kind.TRANSIENT, Scope.ITEM, "server_error"),
    (("content_policy_violation", "was flagged for", "requires moderation", "prohibited_content", "blockreason", "by the safety system", "content management policy", "content_filter"), Kind.SAFETY, Scope.ITEM, "safety"),
    (("context_length_exceeded", "contextwindowexceedederror", "context length", "token_limit_exceeded", "string_too_long", "exceeds the maximum number of tokens"), Kind.TOO_LONG, Scope.ITEM, "too_long"),
)  # fmt: skip

#: `error_type` (OpenRouter, since 2026) -> class, for those that the text does not settle.
_TYPES: dict[str, tuple[Kind, Scope, str | None]] = {
    "authentication": (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    "permission_denied": (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    "payment_required": (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    "insufficient_quota": (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),  # OpenAI: out of credit
    "rate_limit_exceeded": (Kind.UPSTREAM, Scope.MODEL, None),
    "provider_overloaded": (Kind.TRANSIENT, Scope.ITEM, "server_error"),
    "provider_unavailable": (Kind.TRANSIENT, Scope.ITEM, "server_error"),
    "payload_too_large": (Kind.TOO_LARGE, Scope.ITEM, "too_large"),
    "refusal": (Kind.REFUSED, Scope.ITEM, "refused"),
    "not_found": (Kind.CONFIG_FATAL, Scope.MODEL, None),
    "server": (Kind.TRANSIENT, Scope.ITEM, "server_error"),
    "timeout": (Kind.TRANSIENT, Scope.ITEM, "timeout_service"),
}

#: HTTP status (or `error.code`) -> class, when nothing better is known.
_STATUS: dict[int, tuple[Kind, Scope, str | None]] = {
    400: (Kind.BAD_REQUEST, Scope.ITEM, "refused"),
    401: (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    402: (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    403: (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    404: (Kind.CONFIG_FATAL, Scope.MODEL, None),
    405: (Kind.CONFIG_FATAL, Scope.MODEL, None),
    408: (Kind.TRANSIENT, Scope.ITEM, "timeout_service"),
    412: (Kind.BAD_REQUEST, Scope.ITEM, "refused"),
    413: (Kind.TOO_LARGE, Scope.ITEM, "too_large"),
    422: (Kind.BAD_REQUEST, Scope.ITEM, "refused"),
    429: (Kind.UPSTREAM, Scope.MODEL, None),
    504: (Kind.TRANSIENT, Scope.ITEM, "timeout_service"),
    524: (Kind.TRANSIENT, Scope.ITEM, "timeout_service"),
}

#: Finish words that mean a filter stopped the answer (Gemini's own words included).
_FILTERED = frozenset(
    [
        "content_filter",
        "safety",
        "recitation",
        "prohibited_content",
        "blocklist",
        "spii",
        "image_safety",
    ]
)
_CUT = frozenset({"length", "max_tokens"})

MESSAGE_CHARS = 400


def classify(reply: Reply, *, now: float) -> tuple[Verdict, Completion | None]:
    """What this response is, and the completion in it, if there is one.

    now: epoch seconds at which the reply came, for instants that it names.
    """
    value = _json(reply.body)
    completion = completion_of(value)
    if completion is not None and reply.status == 200 and error_in(value) is None:
        return _of_completion(completion), completion
    found = evidence_of(value, reply)
    if 300 <= reply.status < 400:
        words = f"HTTP {reply.status}: the service redirects; set endpoint.base_url to its address"
        return Verdict(kind=Kind.CONFIG_FATAL, scope=Scope.MODEL, message=words), None
    if reply.status >= 400 or found.is_error:
        partial = completion is not None and completion.native_finish_reason
        if partial and str(partial).lower() in _FILTERED:
            return _verdict(Kind.SAFETY, Scope.ITEM, "safety", found, reply, now), completion
        return _of_error(found, reply, now), completion
    if completion is None:
        return _unreadable(value, reply, found), None
    return _of_completion(completion), completion


def _json(body: bytes) -> Any:
    """The body as JSON, None when it is none. Padding around it is blank and harmless."""
    text = body.strip()
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    from pipeline.api.sse import read_stream

    return read_stream(text)


def _unreadable(value: Any, reply: Reply, found: Evidence) -> Verdict:
    """A 200 without a completion and without an error: padding, a cut body, HTML, no choices."""
    if isinstance(value, dict):
        return Verdict(
            kind=Kind.EMPTY, scope=Scope.ITEM, code="empty", message="the answer has no choices"
        )
    text = reply.body.strip()
    if not text:
        words = "the answer is blank"
    elif text[:1] == b"<":
        words = "the answer is a web page"
    else:
        words = "the answer is not whole JSON"
    return Verdict(kind=Kind.MALFORMED, scope=Scope.ITEM, code="malformed", message=words)


def _of_completion(completion: Completion) -> Verdict:
    """A success, or what only looks like one."""
    finish = (completion.finish_reason or "").lower()
    native = (completion.native_finish_reason or "").lower()
    text = completion.content.strip()
    if finish in _FILTERED or native in _FILTERED:
        words = f"stopped by the service's filter ({native or finish})"
        return Verdict(kind=Kind.SAFETY, scope=Scope.ITEM, code="safety", message=words)
    if completion.refusal and not text:
        return Verdict(
            kind=Kind.REFUSED,
            scope=Scope.ITEM,
            code="refused",
            message=completion.refusal[:MESSAGE_CHARS],
        )
    if finish == "error":
        words = "the provider broke off"
        return Verdict(kind=Kind.TRANSIENT, scope=Scope.ITEM, code="server_error", message=words)
    if finish in _CUT or native in _CUT:
        return Verdict(kind=Kind.TRUNCATED, code="truncated", message="cut at max_tokens")
    if not text:
        return Verdict(
            kind=Kind.EMPTY, scope=Scope.ITEM, code="empty", message="the caption is empty"
        )
    return Verdict(kind=Kind.OK)


def _of_error(found: Evidence, reply: Reply, now: float) -> Verdict:
    """The class of an error, from the most telling evidence to the least."""
    if found.zero_limit:
        return _verdict(Kind.CONFIG_FATAL, Scope.MODEL, None, found, reply, now)
    if found.per_day:
        return _verdict(Kind.MODEL_DAY, Scope.MODEL, None, found, reply, now)
    if found.per_minute:
        return _verdict(Kind.MODEL_MINUTE, Scope.MODEL, None, found, reply, now)
    if found.resets_at is not None and found.status in (402, 403, 429):
        return _verdict(Kind.BUDGET, Scope.ACCOUNT, None, found, reply, now)
    text = found.text
    for words, kind, scope, code in _TEXT:
        if any(word in text for word in words):
            return _verdict(kind, scope, code, found, reply, now)
    if found.moderated:
        return _verdict(Kind.SAFETY, Scope.ITEM, "safety", found, reply, now)
    if found.status == 429 and found.gateway_limit:
        return _verdict(Kind.ACCOUNT_MINUTE, Scope.ACCOUNT, None, found, reply, now)
    if found.is_page and reply.status in (403, 429):
        # The edge in front of the service blocks a burst; it is not the service's own word.
        return _verdict(Kind.TRANSIENT, Scope.ITEM, "server_error", found, reply, now)
    typed = _TYPES.get(found.error_type)
    if typed is not None and (
        found.status != 429 or typed[0] in (Kind.UPSTREAM, Kind.ACCOUNT_FATAL)
    ):
        kind, scope, code = typed
    else:
        kind, scope, code = _STATUS.get(found.status, (Kind.TRANSIENT, Scope.ITEM, "server_error"))
        if found.status not in _STATUS and 400 <= found.status < 500 and found.status != 499:
            kind, scope, code = Kind.BAD_REQUEST, Scope.ITEM, "refused"
    if found.retryable and kind in (Kind.CONFIG_FATAL, Kind.BAD_REQUEST):
        kind, scope, code = Kind.TRANSIENT, Scope.ITEM, "server_error"
    return _verdict(kind, scope, code, found, reply, now)


def _verdict(
    kind: Kind, scope: Scope, code: str | None, found: Evidence, reply: Reply, now: float
) -> Verdict:
    wait, until = waits.told(found, reply.headers, now)
    message = found.message or f"HTTP {reply.status}"
    return Verdict(
        kind=kind,
        scope=scope,
        code=code,
        message=" ".join(message.split())[:MESSAGE_CHARS],
        wait=wait,
        until=until,
        limit=found.limit,
    )


def headers_kept(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that carry meaning, lower-case: limits, waits, ids, dates, type."""
    kept = {}
    for name, value in headers.items():
        low = name.lower()
        if low in _KEPT or low.startswith("x-ratelimit-"):
            # Bytes that are no UTF-8 come as lone surrogates, which no file can hold.
            short = value[:500]
            kept[low] = short if short.isascii() else short.encode("utf-8", "replace").decode()
    return kept


_KEPT = frozenset(
    [
        *("retry-after", "retry-after-ms", "llm_provider-retry-after"),
        *("date", "x-generation-id", "content-type", "cf-ray"),
    ]
)
