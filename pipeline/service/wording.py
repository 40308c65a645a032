"""What services write, as classes: substrings and patterns of error texts, types, statuses and
finish words. `classify.py` asks them in order."""

from __future__ import annotations

import re

from pipeline.verdict import Kind, Scope

Class = tuple[Kind, Scope, str | None]
PASSING: Class = (Kind.TRANSIENT, Scope.ITEM, "server_error")
_LATE: Class = (Kind.TRANSIENT, Scope.ITEM, "timeout_service")
_KEY: Class = (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None)
_MODEL: Class = (Kind.CONFIG_FATAL, Scope.MODEL, None)
_REFUSED: Class = (Kind.BAD_REQUEST, Scope.ITEM, "refused")
_LARGE: Class = (Kind.TOO_LARGE, Scope.ITEM, "too_large")

#: Substrings of the lower-case text (message and upstream body) -> class. First match wins.
#: (any of these, kind, scope, error code of the record)
TEXT: tuple[tuple[tuple[str, ...], Kind, Scope, str | None], ...] = (
    (("free-models-per-min", "openrouter_free_tier_per_minute"), Kind.ACCOUNT_MINUTE, Scope.ACCOUNT, None),
    (("free-models-per-day", "openrouter_free_tier_daily"), Kind.ACCOUNT_DAY, Scope.ACCOUNT, None),
    (("limit_rpd/", "per day (rpd)", "per day (tpd)"), Kind.MODEL_DAY, Scope.MODEL, None),
    (("limit_rpm/", "per min (rpm)", "per min (tpm)", "model rate limit exceeded"), Kind.MODEL_MINUTE, Scope.MODEL, None),
    # Keys and budgets that are told as a plain 400: Google, LiteLLM without and with its database.
    (("api key not valid", "api key expired", "api_key_invalid", "no_db_connection", "expired_key", "budget_exceeded"), Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    (("openrouter_in_flight_budget",), Kind.TRANSIENT, Scope.ITEM, "server_error"),
    (("is not a valid model id", "no endpoints found", "unavailable for free", "must have 3 items or fewer", "model_not_found", "invalid model name passed"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    # A field that the service does not know is wrong in every request.
    (("unknown name \"", "unrecognized request argument", "unknown parameter", "unsupported_parameter", "unsupported_value", "unsupportedparamserror", "extra inputs are not permitted", "extra fields not permitted"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    (("failed to extract", "image_download_failed", "imagefetcherror", "invalid or unsupported file uri", "invalid_image_url", "while downloading"), Kind.IMAGE_UNREACHABLE, Scope.ITEM, "image_rejected"),
    (("unable to process input image", "provided image is not valid", "failed to process inputs", "base64 decoding failed", "unsupported mime type", "invalid image input", "invalid_image", "image_too_large", "image_too_small", "unsupported_image_format", "image_not_found"), Kind.IMAGE_REJECTED, Scope.ITEM, "image_rejected"),
    (("user location is not supported",), Kind.TRANSIENT, Scope.ITEM, "server_error"),
    (("content_policy_violation", "was flagged for", "requires moderation", "prohibited_content", "blockreason", "by the safety system", "content management policy", "content_filter"), Kind.SAFETY, Scope.ITEM, "safety"),
    (("context_length_exceeded", "contextwindowexceedederror", "context length", "token_limit_exceeded", "string_too_long", "exceeds the maximum number of tokens"), Kind.TOO_LONG, Scope.ITEM, "too_long"),
)  # fmt: skip

#: The model has no eyes, or they are not loaded: wrong for every image. Not: this type, size or
#: form of an image is not supported.
BLIND = re.compile(
    r"(?:not|n't) (?:support|accept|process|handle|take) (?:the |any )?(?:image|vision|visual|multi-?modal)"
    r"(?!s? (?:urls?|formats?|types?|sizes?|files?|mime|media|extensions?|dimensions?|resolutions?|of|with|larger|smaller))"
    r"|(?:image|multi-?modal|vision)(?: (?:inputs?|data|content))?s? (?:is|are) not (?:supported|enabled|loaded|available)"
    r"|(?:image|multi-?modal|vision) inputs? (?:not supported|unsupported)"
    r"|not a (?:multi-?modal|vision)|only supported by certain models|missing data required for image input"
    r"|vision add-?on|mmproj|text-only model|(?:lacks|without|has no|no) (?:vision|image|visual) (?:support|capabilit|encoder|input)"
    r"|unknown variant .?image_url|only (?:supports|accepts) text"
)
#: About the picture that was sent, in whatever words.
IMAGE = re.compile(
    r"(?:decode|read|open|load|parse|identify|process|handle)\w* (?:the |this |your |input |an? )*image"
    r"|image (?:file |data )?(?:is |was )?(?:corrupt|truncated|broken|damaged|invalid|not valid|too )"
    r"|(?:invalid|corrupt|unsupported|damaged|broken|bad) (?:input )?image|invalid base64"
    r"|image (?:format|type|size|dimension|resolution|aspect)"
)
#: What time cures, whatever the status: a crash, a model that is loading, a crowd.
PASSES = re.compile(
    r"crash|no models? (?:is |are )?(?:currently )?loaded|unloaded|channel error|failed to load (?:the )?model"
    r"|model (?:is )?(?:still |currently )?(?:loading|starting|warming|being loaded)|loading model"
    r"|(?:try|retry|come back) (?:again|later|shortly)|please retry|temporar|overload|at capacity|capacity[ _]exceeded|queue[ _]exceeded|no capacity"
    r"|out of memory|cuda error|unavailable|too busy|(?:server|model|service|engine) (?:is )?(?:too |currently )?busy"
    r"|not ready|timed? ?out|timeout|deadline|high (?:demand|traffic|load)|internal[ _](?:server[ _])?error"
    r"|bad gateway|upstream (?:error|connect)|connection (?:error|refused|reset|closed|aborted)|terminated|shutting down|restart"
    r"|something went wrong|unexpected error|unknown error"
)
#: A 404 or 405 for the path, not for the model.
NO_PATH = re.compile(
    r"^\W*(?:http )?(?:40[45])?\W*(?:page|path|url|route|resource|endpoint|file)?\W*(?:not found|method not allowed)?\W*$"
    r"|unexpected endpoint|invalid url|cannot (?:post|get) /|no route|route not found|unknown (?:path|endpoint|url|route)"
    r"|chat/completions|requested (?:url|path|resource|route)|web page|no static resource|no such (?:path|route|endpoint)"
)
#: The account has no money: no second answer will be another.
NO_CREDIT = ("insufficient_quota", "payment_required", "budget_exceeded")
#: A 403 that is about the key or the account, not about one request.
KEY_WORDS = re.compile(
    r"\bkeys?\b|api[_-]key|token|credential|credit|billing|budget|suspend|account|subscri|has not been used"
)
#: A limit of a day or of a minute, where a 429 says which.
DAY_LIMIT = re.compile(r"\b(?:per|a|each) day\b|\bdaily\b|\((?:rpd|tpd)\)")
MINUTE_LIMIT = re.compile(r"\b(?:per|a|each) min(?:ute)?\b|\((?:rpm|tpm)\)")

#: `error_type` (OpenRouter, since 2026) -> class, for those that the text does not settle.
TYPES: dict[str, Class] = {
    "authentication": _KEY,
    "permission_denied": _KEY,
    "payment_required": _KEY,
    "insufficient_quota": _KEY,  # OpenAI: out of credit
    "rate_limit_exceeded": (Kind.UPSTREAM, Scope.MODEL, None),
    "provider_overloaded": PASSING,
    "provider_unavailable": PASSING,
    "payload_too_large": _LARGE,
    "refusal": (Kind.REFUSED, Scope.ITEM, "refused"),
    "not_found": _MODEL,
    "server": PASSING,
    "timeout": _LATE,
}
#: HTTP status (or `error.code`) -> class, when nothing better is known. Other 4xx are refusals,
#: everything else passes.
STATUS: dict[int, Class] = {
    401: _KEY,
    402: _KEY,
    403: _KEY,
    404: _MODEL,
    405: _MODEL,
    407: _MODEL,  # a proxy wants a login
    410: _MODEL,
    413: _LARGE,
    429: (Kind.UPSTREAM, Scope.MODEL, None),
    **dict.fromkeys((408, 460, 504, 522, 524), _LATE),
    # Conflict, locked, failed dependency, too early, retry with, a full flex tier (Groq), and
    # closed by a balancer: none of them is about the request.
    **dict.fromkeys((409, 420, 423, 424, 425, 440, 444, 449, 498, 499), PASSING),
}


def status_class(status: int) -> Class:
    """The class of an error of which only the status is known."""
    return STATUS.get(status) or (_REFUSED if 400 <= status < 500 else PASSING)


#: Finish words, lower-case with `_`. A filter stopped the answer (Gemini's own words included,
#: also after `content_filter: `); the model hit a length; the service broke off; nothing special.
_FILTERED = re.compile(
    r"content_?filter|safety|prohibited|recitation|sensitive|blocklist|spii|guardrail|moderation"
)
_CUT = re.compile(
    r"^(?:max_)?length$|_length$|max_(?:\w+_)?tokens|context_window|context_length|token_limit"
)
_BROKEN = re.compile(
    r"^error$|_error$|abort|cancel|insufficient_system_resource|time_?out|overload|unavailable"
    r"|interrupt|preempt|disconnect|fail"
)
_WHOLE = frozenset(
    {
        *("", "stop", "stop_sequence", "eos", "eos_token", "end", "end_turn", "complete"),
        *("completed", "finished", "tool_calls", "function_call"),
    }
)


def finish_kind(word: str | None) -> Kind | None:
    """SAFETY, TRUNCATED, TRANSIENT or OK for a finish word; None for one that is not known."""
    plain = (word or "").strip().lower().replace("-", "_").replace(" ", "_")
    if plain in _WHOLE:
        return Kind.OK
    for pattern, kind in (
        (_FILTERED, Kind.SAFETY),
        (_CUT, Kind.TRUNCATED),
        (_BROKEN, Kind.TRANSIENT),
    ):
        if pattern.search(plain):
            return kind
    return None
