"""A response -> its one class. Pure, and never raises: a body is evidence, not a contract.

The order of the questions matters and is the page below (`classify`): a success is looked for
first, also inside a 200 that carries an error; then what the service says (`error.code`,
`error_type`, the message, the upstream's own body inside `metadata.raw`); the HTTP status is
the last resort. Bodies and wordings: OpenRouter's "Errors and debugging" and captures of
2024-2026; Google's `google.rpc` error details; LiteLLM, vLLM and Ollama as they answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.model import Completion, Reply
from pipeline.service import retry_after as waits
from pipeline.service import wording
from pipeline.service.body import json_of
from pipeline.service.completion import completion_of, money
from pipeline.service.error_body import Evidence, error_in, evidence_of
from pipeline.service.wording import PASSING, finish_kind, status_class
from pipeline.verdict import Kind, Scope, Verdict

MESSAGE_CHARS = 400
_DAYS = frozenset({Kind.ACCOUNT_DAY, Kind.MODEL_DAY})


def classify(reply: Reply, *, now: float) -> tuple[Verdict, Completion | None]:
    """What this response is, and the completion in it, if there is one.

    now: epoch seconds at which the reply came, for instants that it names.
    """
    value = json_of(reply.body)
    completion = completion_of(value)
    if completion is not None and completion.service_tier is None:
        tier = reply.headers.get(TIER_HEADER)
        completion = completion if tier is None else replace(completion, service_tier=tier.lower())
    if completion is not None and completion.cost_usd is None:
        cost = money(reply.headers.get(COST_HEADER))
        completion = completion if cost is None else replace(completion, cost_usd=cost)
    if completion is not None and reply.status == 200 and error_in(value) is None:
        return _of_completion(completion), completion
    evidence = evidence_of(value, reply)
    if 300 <= reply.status < 400:
        message = (
            f"HTTP {reply.status}: the service redirects; set endpoint.base_url to its address"
        )
        return Verdict(kind=Kind.CONFIG_FATAL, scope=Scope.MODEL, message=message), None
    if reply.status >= 400 or evidence.is_error:
        if completion is not None and finish_kind(completion.native_finish_reason) is Kind.SAFETY:
            return replace(
                _of_error(evidence, reply, now), kind=Kind.SAFETY, scope=Scope.ITEM, code="safety"
            ), completion
        return _of_error(evidence, reply, now), completion
    if completion is None:
        return _unreadable(value, reply, evidence), None
    return _of_completion(completion), completion


def _unreadable(value: Any, reply: Reply, evidence: Evidence) -> Verdict:
    """A 200 without a completion and without an error: padding, a cut body, HTML, no choices."""
    if wording.BLOCKED.search(reply.body):
        message = "stopped by the service's filter before the answer"
        return Verdict(kind=Kind.SAFETY, scope=Scope.ITEM, code="safety", message=message)
    if isinstance(value, dict):
        return Verdict(
            kind=Kind.EMPTY, scope=Scope.ITEM, code="empty", message="the answer has no choices"
        )
    text = reply.body.strip()
    if not text:
        message = "the answer is blank"
    elif text[:1] == b"<":
        message = "the answer is a web page"
    else:
        message = "the answer is not whole JSON"
    return Verdict(kind=Kind.MALFORMED, scope=Scope.ITEM, code="malformed", message=message)


def _of_completion(completion: Completion) -> Verdict:
    """A success, or what only looks like one."""
    word, native = completion.finish_reason, completion.native_finish_reason
    kinds = {finish_kind(word), finish_kind(native)}
    text = completion.content.strip()
    if Kind.SAFETY in kinds:
        message = f"stopped by the service's filter ({native or word})"[:MESSAGE_CHARS]
        return Verdict(kind=Kind.SAFETY, scope=Scope.ITEM, code="safety", message=message)
    if completion.refusal and not text:
        refusal = completion.refusal[:MESSAGE_CHARS]
        return Verdict(kind=Kind.REFUSED, scope=Scope.ITEM, code="refused", message=refusal)
    if Kind.TRANSIENT in kinds:
        message = f"the provider broke off ({native or word})"[:MESSAGE_CHARS]
        return Verdict(kind=Kind.TRANSIENT, scope=Scope.ITEM, code="server_error", message=message)
    if Kind.TRUNCATED in kinds:
        if text:
            return Verdict(kind=Kind.TRUNCATED, code="truncated", message="cut at max_tokens")
        return Verdict(
            kind=Kind.NO_ROOM, scope=Scope.ITEM, code="truncated", message=_no_room(completion)
        )
    if not text:
        message = _only_reasoning(completion) if completion.reasoning else "the caption is empty"
        return Verdict(
            kind=Kind.EMPTY,
            scope=Scope.ITEM,
            code="empty",
            message=message,
            systemic=completion.reasoning > 0,
        )
    # What the service means by an unknown word is not known: the caption is kept and marked.
    flags = () if finish_kind(word) else (f"finish:{_plain(word or '')}",)
    return Verdict(kind=Kind.OK, flags=flags)


def _no_room(completion: Completion) -> str:
    thought = f" ({completion.reasoning} characters of reasoning)" if completion.reasoning else ""
    return (
        f"max_tokens was used up before the first word{thought}: raise endpoint.params.max_tokens, "
        "or switch thinking off (endpoint.params: reasoning_effort: none)"
    )


def _only_reasoning(completion: Completion) -> str:
    return (
        f"only reasoning came ({completion.reasoning} characters): switch thinking off "
        "(endpoint.params: reasoning_effort: none) or take the server's reasoning parser away"
    )


def _plain(word: str) -> str:
    """A word of the service's that is safe in a list of flags."""
    return "".join(c if c.isalnum() or c in "_-.:" else "_" for c in word.strip().lower())[:40]


def _of_error(evidence: Evidence, reply: Reply, now: float) -> Verdict:
    """The class of an error, from the most telling evidence to the least."""
    kind, scope, code = _told_class(evidence, reply) or _worded(evidence.text) or _typed(evidence)
    busy = _busy(evidence)
    if busy:
        kind, scope, code = PASSING
    final = forbidden = systemic = False
    if kind in (Kind.CONFIG_FATAL, Kind.BAD_REQUEST) and evidence.retryable:
        kind, scope, code = PASSING
    elif kind is Kind.ACCOUNT_FATAL:
        final = evidence.status == 402 or wording.NO_CREDIT.search(evidence.text) is not None
        forbidden = evidence.status == 403 and wording.KEY_WORDS.search(evidence.text) is None
    elif (kind, scope, code) == PASSING and evidence.status in (*range(200, 300), 500):
        # No class of errors says this, and no status: it may be said to every image.
        systemic = bool(evidence.message) and wording.PASSES.search(evidence.text) is None
    longest = waits.LONGEST_DAY if kind in _DAYS else waits.LONGEST_WAIT
    wait, until = waits.told_wait(evidence, reply.headers, now, longest=longest)
    if kind in _DAYS and until is None and (end := _aligned(evidence.text, now)) is not None:
        # Words that name an hour or a session: a told wait, however short, is until its end.
        until = end if not wait else now + wait
    message = evidence.message or f"HTTP {reply.status}"
    no_path = reply.status in (404, 405) and wording.NO_PATH.search(message.lower())
    if no_path and kind is Kind.CONFIG_FATAL:
        message += f" (HTTP {reply.status}): does endpoint.base_url end in /v1?"
    return Verdict(
        kind=kind,
        scope=scope,
        code=code,
        message=" ".join(message.split())[:MESSAGE_CHARS],
        wait=wait,
        until=until,
        limit=evidence.limit,
        final=final,
        forbidden=forbidden,
        systemic=systemic,
        busy=busy,
    )


def _busy(evidence: Evidence) -> bool:
    """Is it a crowd, whoever asks? With a 429, which may as well be about us, few words say so."""
    if evidence.status == 429:
        return wording.BUSY.search(evidence.text) is not None
    patterns = wording.BUSY, wording.OVERLOADED
    return evidence.status in (498, 503, 529) and any(p.search(evidence.text) for p in patterns)


def _aligned(text: str, now: float) -> float | None:
    """The end of a window that the words name and that the epoch begins."""
    for pattern, seconds, offset in wording.ALIGNED:
        if pattern.search(text):
            return ((now - offset) // seconds + 1) * seconds + offset
    return None


def _told_class(evidence: Evidence, reply: Reply) -> wording.Class | None:
    """The class that a field of the error tells by itself; money before quotas."""
    if evidence.status == 402:
        return None
    if evidence.zero_limit:
        return Kind.CONFIG_FATAL, Scope.MODEL, None
    if evidence.per_day:
        return Kind.MODEL_DAY, Scope.MODEL, None
    if evidence.per_minute:
        return Kind.MODEL_MINUTE, Scope.MODEL, None
    if evidence.resets_at is not None and evidence.status in (402, 403, 429):
        return Kind.BUDGET, Scope.ACCOUNT, None
    return None


def _worded(text: str) -> wording.Class | None:
    """The class of words that mean the same with every status."""
    for patterns, kind, scope, code in wording.TEXT:
        if any(word in text for word in patterns):
            return kind, scope, code
    if wording.BLIND.search(text):
        return Kind.CONFIG_FATAL, Scope.MODEL, None
    if wording.UNREACHABLE.search(text):
        return Kind.IMAGE_UNREACHABLE, Scope.ITEM, "image_rejected"
    return None


def _typed(evidence: Evidence) -> wording.Class:
    """The class by type, status and whatever the words add to them."""
    status, text = evidence.status, evidence.text
    if evidence.moderated:
        return Kind.SAFETY, Scope.ITEM, "safety"
    if evidence.is_page and status in (403, 429):
        # The edge in front of the service blocks a burst; it is not the service's own word.
        return PASSING
    if status == 429 and evidence.gateway_limit:
        return Kind.ACCOUNT_MINUTE, Scope.ACCOUNT, None
    typed = wording.TYPES.get(evidence.error_type)
    # Behind OpenRouter it is the provider's account, not ours.
    own = not evidence.metadata.get("raw")
    if own and status in (200, *range(400, 404), 412, 429) and wording.NO_CREDIT.search(text):
        return Kind.ACCOUNT_FATAL, Scope.ACCOUNT, None
    if status == 429:
        if typed is not None and typed[0] is Kind.ACCOUNT_FATAL:
            return typed
        day, minute = wording.DAY_LIMIT.search(text), wording.MINUTE_LIMIT.search(text)
        if bool(day) is not bool(minute):
            return Kind.MODEL_DAY if day else Kind.MODEL_MINUTE, Scope.MODEL, None
        return typed or status_class(status)
    class_ = typed or status_class(status)
    vague = class_ not in (PASSING, wording.LATE) or status in (*range(200, 300), 500)
    if vague and (said := _says(evidence, class_)) is not None:
        return said
    if class_[0] in (Kind.BAD_REQUEST, Kind.TRANSIENT) and wording.IMAGE.search(text):
        return Kind.IMAGE_REJECTED, Scope.ITEM, "image_rejected"
    if class_[0] in (Kind.BAD_REQUEST, Kind.CONFIG_FATAL) and wording.PASSES.search(text):
        return PASSING
    return class_


def _says(evidence: Evidence, class_: wording.Class) -> wording.Class | None:
    """The class of words where the status tells little; None where they tell nothing."""
    if wording.PASSES.search(evidence.text) and class_[0] is not Kind.SAFETY:
        return None
    for pattern, said in wording.SAYS:
        if pattern.search(evidence.text):
            return said
    if any(wording.SETTING.search(str(body.get("param") or "")) for body in evidence.bodies):
        return Kind.CONFIG_FATAL, Scope.MODEL, None
    return None


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


#: LiteLLM tells there what a request has cost.
COST_HEADER = "x-litellm-response-cost"
#: Gemini tells there at which tier it answered.
TIER_HEADER = "x-gemini-service-tier"
_KEPT = frozenset(
    [
        *(COST_HEADER, TIER_HEADER),
        *("retry-after", "retry-after-ms", "llm_provider-retry-after", "ratelimit-reset"),
        *("date", "x-generation-id", "content-type", "cf-ray"),
    ]
)
