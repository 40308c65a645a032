"""What services write, as classes: substrings and patterns of error texts, types, statuses and
finish words. `classify.py` asks them in order.

A service writes what it likes, at any length: no pattern takes longer than its text is long. The
endings of words are bounded, and neighbours that match the same are possessive (`*+`)."""

from __future__ import annotations

import re
from functools import lru_cache

from pipeline.patterns import lazy
from pipeline.verdict import Kind, Scope

Class = tuple[Kind, Scope, str | None]
PASSING: Class = (Kind.TRANSIENT, Scope.ITEM, "server_error")
LATE: Class = (Kind.TRANSIENT, Scope.ITEM, "timeout_service")
_KEY: Class = (Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None)
_MODEL: Class = (Kind.CONFIG_FATAL, Scope.MODEL, None)
_REFUSED: Class = (Kind.BAD_REQUEST, Scope.ITEM, "refused")
_LARGE: Class = (Kind.TOO_LARGE, Scope.ITEM, "too_large")

#: Substrings of the lower-case text (message and upstream body) -> class. First match wins.
#: (any of these, kind, scope, error code of the record)
TEXT: tuple[tuple[tuple[str, ...], Kind, Scope, str | None], ...] = (
    # More tokens than a minute has: no wait makes it smaller.
    (("request too large for",), Kind.TOO_LARGE, Scope.ITEM, "too_large"),
    (("free-models-per-min", "openrouter_free_tier_per_minute"), Kind.ACCOUNT_MINUTE, Scope.ACCOUNT, None),
    (("free-models-per-day", "openrouter_free_tier_daily"), Kind.ACCOUNT_DAY, Scope.ACCOUNT, None),
    (("limit_rpd/", "per day (rpd)", "per day (tpd)"), Kind.MODEL_DAY, Scope.MODEL, None),
    (("limit_rpm/", "per min (rpm)", "per min (tpm)", "model rate limit exceeded"), Kind.MODEL_MINUTE, Scope.MODEL, None),
    # Mistral, Alibaba, Together: limits of a second or a minute.
    (("requests rate limit exceeded", "allocated quota exceeded", "rate increased too quickly", "dynamic_request_limited", "dynamic_token_limited", "rate_limited"), Kind.MODEL_MINUTE, Scope.MODEL, None),
    # Keys and budgets that are told as a plain 400: Google, LiteLLM without and with its database.
    (("api key not valid", "api key expired", "api_key_invalid", "no_db_connection", "expired_key", "budget_exceeded"), Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None),
    (("openrouter_in_flight_budget",), Kind.TRANSIENT, Scope.ITEM, "server_error"),
    # Bedrock and Azure: a model that this account or this door does not have.
    (("have access to the model", "with on-demand throughput isn", "does not work with the specified model", "plain http request was sent to https", "no required ssl certificate"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    (("out of call volume quota", "out of bandwidth quota"), Kind.ACCOUNT_DAY, Scope.ACCOUNT, None),
    (("is not a valid model id", "no endpoints found", "unavailable for free", "must have 3 items or fewer", "model_not_found", "invalid model name passed"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    # A field that the service does not know is wrong in every request.
    (("unknown name \"", "unrecognized request argument", "unknown parameter", "unsupported_parameter", "unsupported_value", "unsupportedparamserror", "extra inputs are not permitted", "extraneous key", "extra fields not permitted"), Kind.CONFIG_FATAL, Scope.MODEL, None),
    (("failed to extract", "image_download_failed", "imagefetcherror", "invalid or unsupported file uri", "invalid_image_url", "while downloading"), Kind.IMAGE_UNREACHABLE, Scope.ITEM, "image_rejected"),
    (("unable to process input image", "provided image is not valid", "failed to process inputs", "base64 decoding failed", "unsupported mime type", "invalid image input", "invalid_image", "image_too_large", "image_too_small", "unsupported_image_format", "image_not_found"), Kind.IMAGE_REJECTED, Scope.ITEM, "image_rejected"),
    (("user location is not supported",), Kind.TRANSIENT, Scope.ITEM, "server_error"),
    (("content_policy_violation", "was flagged for", "requires moderation", "prohibited_content", "blockreason", "by the safety system", "content management policy", "content_filter"), Kind.SAFETY, Scope.ITEM, "safety"),
    (("context_length_exceeded", "contextwindowexceedederror", "context length", "token_limit_exceeded", "string_too_long", "exceeds the maximum number of tokens"), Kind.TOO_LONG, Scope.ITEM, "too_long"),
)  # fmt: skip

#: The model has no eyes, or they are not loaded: wrong for every image. Not: this type, size or
#: form of an image is not supported.
BLIND = lazy(
    r"(?:not|n't) (?:(?:support|accept|take) (?:the |any )?(?:image|vision|visual|multi-?modal)|(?:process|handle) (?:any )?(?:images|vision|visual|multi-?modal))"
    r"(?!s? (?:urls?|formats?|types?|sizes?|files?|mime|media|extensions?|dimensions?|resolutions?|of|with|larger|smaller))"
    r"|(?:image|multi-?modal|vision)(?: (?:inputs?|data|content))?s? (?:is|are) not (?:supported|enabled|loaded|available)"
    r"|(?:image|multi-?modal|vision) inputs? (?:not supported|unsupported)"
    r"|multi-?modal (?:model|support) is not|not a (?:multi-?modal|vision)|only supported by certain models|missing data required for image input"
    r"|vision add-?on|mmproj|text-only model|(?:lacks|without|has no|no) (?:vision|image|visual) (?:support|capabilit|encoder|input)"
    r"|unknown variant .?image_url|only (?:supports|accepts) text|\btext[ -]only\b|at most 0 image"
    r"|(?:vision|image|visual) (?:capabilit|modalit)\w+ (?:is|are) not|not (?:have )?(?:a )?(?:vision|visual) (?:capabilit|support|model)|no vision model"
    r"|(?:unknown|unsupported|invalid|unexpected|unrecognized) (?:content|item)(?: part)? type"
    r"|image_url\W{0,2}(?: content)?(?: parts?| type)? (?:is|are) not (?:supported|allowed|valid)|supported values are:? .?text.?\."
    r"|content\W*(?:must be a|input should be a valid) string"
)
#: The service could not fetch what a URL names, or takes no URLs.
UNREACHABLE = lazy(
    r"(?:fail\w{0,4}|unable|could not|couldn't|can ?not|can't|error)[^.;]{0,20} (?:to )?(?:fetch|download|retriev)\w*"
    r"|cannot make get request|(?:image )?urls? (?:is|are) not (?:supported|allowed)"
    r"|only (?:supports? |accepts? )?(?:base64|data ur[il])|must be (?:an? )?(?:base64|data ur[il]|https)"
)
#: A filter stopped the request, in whatever words.
UNSAFE = lazy(
    r"(?:content|usage|acceptable use|safety)[ _]?polic|content filter|(?:response|prompt|output|input) was filtered|safety (?:system|check|filter|setting|reason)|safetycheck"
    r"|content (?:moderation|management|risk|exists risk|blocked)|exists risk|(?:by|the) (?:content |our )?moderation"
    r"|(?:inappropriate|unsafe|harmful|explicit|nsfw|prohibited|sensitive|disallowed|offensive)(?: or \w+)? (?:content|material|image|information)"
    r"|data_?inspection|responsible ?ai|guardrail|high risk|risk_control|potentially (?:unsafe|harmful|sensitive)"
    r"|new_sensitive|flagged (?:as|by)|pattern is blocked|敏感|违规|不安全|violat\w{1,5} [^.;]{0,40}polic"
)
#: The whole request has too many bytes.
LARGE = lazy(
    r"(?:request|payload|body|entity)(?: body| payload| entity)?(?: is)? too (?:large|big)|entity\.too\.large"
    r"|(?:request|payload|body) (?:payload )?size[^.;]{0,30}exceed|body exceeded|exceed\w{0,3}[^.;]{0,30}(?:request|payload|body) size"
    r"|maximum (?:request|payload) (?:body|size)"
)
#: The prompt does not fit into the context.
LONG = lazy(
    r"(?:prompt|inputs?)\b[^.;]{0,40}(?:too long|exceed|longer than)|context (?:size|length|window)|maximum context"
    r"|exceed\w{0,3}[^.;]{0,30}(?:context|max(?:imum)? (?:prompt|input|length))|must have less than \d+ tokens"
    r"|range of input length|reduce the length|max_prompt_tokens|`?max_new_tokens`? must be"
)
#: The key is wrong, whatever the status.
BAD_KEY = lazy(
    r"(?:invalid|incorrect|wrong|missing|expired|revoked|malformed|no) (?:x-)?(?:api[ _-]?(?:key|token)|access token|auth\w* (?:credential|token|key|header))"
    r"|(?:check|verify) (?:your |the )?api[ _-]?key|api[ _-]?key (?:is |was )?(?:invalid|incorrect|missing|required|expired|revoked|not found)"
)
#: A setting of the job is wrong: its model, or a field of the request, never an image.
_SETTING = (
    r"(?:temperature|top_[pk]|max_(?:completion_|new_|output_)?tokens|presence_penalty|frequency_penalty"
    r"|reasoning_effort|min_p|logprobs)"
)
_QUOTED = r"[\"'`]?[\w./:@-]+[\"'`]?"
WRONG_SETTING = lazy(
    rf"model {_QUOTED} (?:is |was |has been |does )?(?:not (?:exist|found|available|supported)|decommission|deprecat|retired|no longer)"
    r"|(?:no such|unknown|invalid) model\b|model (?:is required|not (?:found|exist|supported))|server is pinned to"
    r"|model[ _]not[ _]available|unable to access (?:\S+ )?model|model (?:identifier|name|id) is (?:invalid|not)|(?:provider not|not support chat)"
    r"|unsupported (?:parameter|value)|unknown (?:field|argument|parameter|property)|unexpected (?:field|keyword|argument|propert)|additional properties"
    rf"|property {_QUOTED} is (?:unsupported|not)|unrecognized (?:field|argument|parameter|key)"
    rf"|^body\.(?:{_SETTING}|n|seed|stop):|\b{_SETTING}\b[\"'`]?[=: ][^.;]{{0,30}}(?:must be|too large|cannot be|should be|greater than|out of range|not support|> \d)"
    rf"|invalid [\"'`]?{_SETTING}\b"
)
#: Words beside a setting of which the service says itself that it is wrong (`error.param`).
SETTING = lazy(rf"^(?:{_SETTING}|n|seed|stop|reasoning)$")
#: About the picture that was sent, in whatever words.
IMAGE = lazy(
    r"(?:decode|read|open|load|parse|identify|process|handle)\w{0,3} (?:the |this |your |input |an? )*image"
    r"|image (?:file |data )?(?:is |was )?(?:corrupt|truncated|broken|damaged|invalid|not valid|too |exceeds |(?:could not|couldn't|cannot|can't) be )"
    r"|(?:invalid|corrupt|unsupported|damaged|broken|bad) (?:input )?image|invalid base64"
    r"|image (?:format|type|size|dimension|resolution|aspect)"
)
#: What time cures, whatever the status: a crash, a model that is loading, a crowd.
PASSES = lazy(
    r"crash|no models? (?:is |are )?(?:currently )?loaded|unloaded|load (?:your|a|the) model|channel error|failed to load (?:the )?model"
    r"|model (?:is )?(?:still |currently )?(?:loading|starting|warming|being loaded)|loading model"
    r"|(?:try|retry|come back) (?:again|later|shortly)|please retry|temporar|overload|at capacity|capacity[ _]exceeded|queue[ _]exceeded|no capacity"
    r"|out of memory|cuda error|unavailable|too busy|(?:server|model|service|engine) (?:is )?(?:too |currently )?busy"
    r"|not ready|timed? ?out|timeout|deadline|high (?:demand|traffic|load)|internal[ _](?:server[ _])?error"
    r"|bad gateway|upstream (?:error|connect)|connection (?:error|refused|reset|closed|aborted)|terminated|shutting down|restart"
    r"|something went wrong|unexpected error|unknown error|kv cache|\bslots? |aborted|cancell?ed|pending requests"
)
#: A 404 or 405 for the path, not for the model.
NO_PATH = lazy(
    r"^\W*+(?:http )?(?:40[45])?\W*+(?:page|path|url|route|resource|endpoint|file)?\W*+(?:not found|method not allowed)?\W*+$"
    r"|unexpected endpoint|invalid url|cannot (?:post|get) /|no route|route not found|unknown (?:path|endpoint|url|route)"
    r"|chat/completions|requested (?:url|path|resource|route)|web page|no static resource|no such (?:path|route|endpoint)"
)
#: What words say with a 4xx of which the status tells little, the most telling first.
SAYS: tuple[tuple[re.Pattern[str], Class], ...] = (
    (UNSAFE, (Kind.SAFETY, Scope.ITEM, "safety")),
    (BAD_KEY, _KEY),
    (LARGE, _LARGE),
    (LONG, (Kind.TOO_LONG, Scope.ITEM, "too_long")),
    (WRONG_SETTING, _MODEL),
)
#: The account has no money: no second answer will be another.
NO_CREDIT = lazy(
    r"insufficient_quota|payment_required|budget_exceeded|credit balance|insufficient (?:account )?(?:balance|credit|fund)"
    r"|balance is (?:too low|insufficient)|not enough (?:credit|balance)|arrear|overdue|recharge|billing_not_active|exceeded_current_quota_error|余额不足|欠费"
    r"|\b(?:account|organi[sz]ation|project|team|consumer|user)\b[^.;]{0,60} (?:suspended|restricted|deactivated|terminated)"
    r"|account is not active|good standing|freetieronly"
)
#: A 403 that is about the key or the account, not about one request.
KEY_WORDS = lazy(
    r"\bkeys?\b|api[_-]key|token|credential|credit|billing|budget|suspend|account|subscri|has not been used"
)
#: The service is full, whoever asks: it says nothing about our pace, and costs no attempt. Cerebras,
#: Mistral, Groq's and OpenAI's flex tier.
BUSY = lazy(
    r"queue[ _]exceeded|capacity[ _]exceeded|service tier capacity|high traffic|resource_unavailable|nocapacity|maximum capacity"
    r"|not ready for inference|experiencing high demand"
)
#: The same, where the status is not one of limits.
OVERLOADED = lazy(r"overload|(?:at|over|no) capacity|high (?:demand|load)")
#: A limit of a day (or what the service has for one) or of a minute, where a 429 says which.
DAY_LIMIT = lazy(
    r"\b(?:per|a|each) (?:day|hour|week|month)\b|\b(?:daily|weekly|monthly)\b|\((?:rpd|tpd)\)"
    r"|session usage limit"
)
#: Seconds of windows that begin at a multiple of themselves since the epoch, less an offset, by the
#: words of a refusal: an hour; a session and a week (from Monday) at Ollama Cloud.
ALIGNED: tuple[tuple[re.Pattern[str], float, float], ...] = (
    (lazy(r"\b(?:per|a|each) hour\b"), 3600.0, 0.0),
    (lazy(r"session usage limit"), 18_000.0, 0.0),
    (lazy(r"weekly usage limit"), 604_800.0, 345_600.0),
)
#: The number of requests in the words of a refusal: `(RPD): Limit 90, Used 88`.
REQUESTS_LIMIT = lazy(r"\(rp[md]\): limit (\d+)\b")
MINUTE_LIMIT = lazy(r"\b(?:per|a|each) min(?:ute)?\b|\((?:rpm|tpm)\)")

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
    "timeout": LATE,
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
    451: (Kind.SAFETY, Scope.ITEM, "safety"),
    429: (Kind.UPSTREAM, Scope.MODEL, None),
    **dict.fromkeys((408, 460, 504, 522, 524), LATE),
    # Conflict, locked, failed dependency, too early, retry with, a full flex tier (Groq), and
    # closed by a balancer: none of them is about the request.
    **dict.fromkeys((409, 420, 423, 424, 425, 440, 444, 449, 498, 499), PASSING),
}


def status_class(status: int) -> Class:
    """The class of an error of which only the status is known."""
    return STATUS.get(status) or (_REFUSED if 400 <= status < 500 else PASSING)


#: In an answer without choices: Gemini's reason, Azure's filter.
BLOCKED = lazy(
    rb'"block_?reason"\s*:\s*"(?!BLOCK_REASON_UNSPECIFIED)|"filtered"\s*:\s*true', re.IGNORECASE
)
#: Finish words, lower-case with `_`. A filter stopped the answer (Gemini's own words included,
#: also after `content_filter: `); the model hit a length; the service broke off; nothing special.
_FILTERED = lazy(
    r"content_?filter|safety|prohibited|recitation|sensitive|blocklist|spii|guardrail|moderation"
    r"|toxic|^refusal$|model_armor"
)
_CUT = lazy(
    r"^(?:max_)?length$|^(?:error_)?limit$|_length$|max_(?:\w+_)?tokens|context_window|context_length|token_limit"
)
_BROKEN = lazy(
    r"^error$|_error$|rate_limit|abort|cancel|insufficient_system_resource|time_?out|overload|unavailable"
    r"|interrupt|preempt|disconnect|fail"
)
_PREFIX = lazy(r"^finish_?reason[._]")
_WHOLE = frozenset(
    {
        *("", "stop", "stop_sequence", "eos", "eos_token", "end", "end_turn", "complete"),
        *("completed", "finished", "tool_calls", "function_call", "eos_found", "stop_str"),
        *("done", "normal", "null", "none", "unspecified"),
    }
)


@lru_cache(maxsize=64)  # the same ones in nearly every answer
def finish_kind(word: str | None) -> Kind | None:
    """SAFETY, TRUNCATED, TRANSIENT or OK for a finish word; None for one that is not known."""
    plain = (word or "").strip().lower().replace("-", "_").replace(" ", "_")
    plain = _PREFIX.sub("", plain)
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
