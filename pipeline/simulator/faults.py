"""How an answer travels: whole, padded, as a stream, or with one fault in it.

Everything here happens after the request was counted, so a padded reply has sent its status 200
already and any error stands inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from pipeline.simulator.dialects.base import Dialect, Generation
from pipeline.simulator.dialects.openrouter import OpenRouter
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.rng import Draw, one_of
from pipeline.simulator.wire import JSON_TYPE, Refused, SimResponse

_PAGES = {
    "html_502": (502, "502: Bad gateway"),
    "html_524": (524, "524: A timeout occurred"),
    "html_429": (429, "Error 1015: You are being rate limited"),
}
#: Faults that show before the first byte of an answer, also of a stream.
_EARLY = ("http_", "html_", "upstream_429", "in_flight_402", "reset", "hang", "drip")
_DRIPS = 3600
#: Seconds until the upstream provider recovers, for faults that tell.
_RECOVERS = 5.0
#: Faults of the provider: a fallback model would answer instead.
_PROVIDER = ("http_5", "upstream_429", "error_in_200")
#: Faults that cost nothing: no word came, or the answer ended in an error.
_FREE = (
    "http_",
    "html_",
    "upstream_429",
    "in_flight_402",
    "error_in_200",
    "null_fields",
    "string_code",
    "choice_error",
    "empty",
    "null_content",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What one answer meets on its way."""

    dialect: Dialect
    knobs: Knobs
    draw: Draw
    delay: float


def moves_on(fault: str | None) -> bool:
    """Would OpenRouter try the next of several models?"""
    return fault is not None and fault.startswith(_PROVIDER)


def is_free(fault: str | None) -> bool:
    """Is an answer with this fault not billed?"""
    return fault is not None and fault.startswith(_FREE)


def deliver(got: Generation, journey: Journey, fault: str | None) -> SimResponse:
    """The response to a request that was answered, with a fault if there is one."""
    early = fault is not None and fault.startswith(_EARLY)
    if got.streamed and not early:
        return stream(got, journey.dialect, journey.knobs, journey.delay, fault)
    whole = journey.dialect.completion(got, journey.knobs)
    headers = journey.dialect.headers(got)
    if fault is None:
        return _sent(200, orjson.dumps(whole), headers, journey)
    return spoiled(fault, got, whole, journey)


def spoiled(fault: str, got: Generation, whole: dict[str, Any], journey: Journey) -> SimResponse:
    """The response that a fault makes of an answer; ValueError for an unknown fault."""
    headers = journey.dialect.headers(got)
    text = orjson.dumps(whole)
    if fault in _PAGES:
        return _page(fault, journey)
    if fault.startswith("http_"):
        refusal = journey.dialect.server(journey.knobs, int(fault[5:]), got.model)
        return _error(refusal, headers, journey)
    match fault:
        case "upstream_429":
            form = one_of(journey.knobs.upstream_forms, journey.draw.upstream)
            refusal = journey.dialect.upstream(journey.knobs, form, got.model, _RECOVERS)
            return _error(refusal, headers, journey)
        case "in_flight_402":
            if isinstance(journey.dialect, OpenRouter):
                return _error(journey.dialect.in_flight(journey.knobs), headers, journey)
            return _error(journey.dialect.no_credit(journey.knobs), headers, journey)
        case "cut_json":
            return _sent(200, text[: len(text) // 2], headers, journey)
        case "cut_body":
            return replace(_sent(200, text[: len(text) // 2], headers, journey), ending="cut")
        case "blank":
            return _sent(200, b"\n" * 50, headers, journey)
        case "reset" | "hang" as ending:
            return SimResponse(status=200, delay=journey.delay, ending=ending)
        case "drip":
            head = {"Content-Type": JSON_TYPE, **headers}
            return SimResponse(status=200, headers=head, chunks=((1.0, b"\n"),) * _DRIPS)
    return _sent(200, orjson.dumps(_bent(fault, got, whole, journey)), headers, journey)


def _bent(fault: str, got: Generation, whole: dict[str, Any], journey: Journey) -> object:
    """A body with status 200 that is not what it should be."""
    error = journey.dialect.server(journey.knobs, 502, got.model).body
    inner = error.get("error") if isinstance(error, dict) else error
    match fault:
        case "error_in_200":
            return error
        case "null_fields":
            return {**dict.fromkeys(whole), "error": inner}
        case "string_code":
            return {"error": {"code": "server_error", "message": "Internal error"}}
        case "choice_error":
            return _choice(
                whole,
                finish_reason="error",
                message={"role": "assistant", "content": (got.said.content or "")[:8]},
                error={
                    "code": 502,
                    "message": "Provider disconnected mid-stream",
                    "metadata": {"error_type": "provider_unavailable"},
                },
            )
        case "null_choices":
            return {**whole, "choices": None}
        case "no_choices":
            return {**whole, "choices": []}
        case "nested_choices":
            return {**dict.fromkeys(whole), "provider": whole}
        case "empty" | "null_content":
            said = "" if fault == "empty" else None
            finish = "stop" if fault == "empty" else None
            bent = _choice(whole, finish_reason=finish, message=_message(whole, said))
            return {**bent, "usage": {**whole["usage"], "completion_tokens": 0, "cost": 0}}
        case "content_parts":
            parts = [{"type": "text", "text": got.said.content or ""}]
            return _choice(whole, message=_message(whole, parts))
        case "no_usage":
            return {name: value for name, value in whole.items() if name != "usage"}
        case "null_finish":
            return _choice(whole, finish_reason=None)
    raise ValueError(fault)


def _choice(whole: dict[str, Any], **changes: object) -> dict[str, Any]:
    """The answer with its first choice changed."""
    first = whole["choices"][0] if whole["choices"] else {"index": 0}
    return {**whole, "choices": [{**first, **changes}]}


def _message(whole: dict[str, Any], content: object) -> dict[str, Any]:
    first = whole["choices"][0] if whole["choices"] else {}
    return {"role": "assistant", **first.get("message", {}), "content": content}


def _error(refusal: Refused, headers: Mapping[str, str], journey: Journey) -> SimResponse:
    both = {**headers, **refusal.headers}
    return _sent(refusal.status, orjson.dumps(refusal.body), both, journey)


def _page(fault: str, journey: Journey) -> SimResponse:
    """The edge answers, in HTML."""
    status, title = _PAGES[fault]
    text = (
        f"<!DOCTYPE html>\n<html><head><title>openrouter.ai | {title}</title></head>\n"
        f"<body><h1>{title}</h1><p>Cloudflare Ray ID: 8a1b2c3d4e5f</p></body></html>\n"
    )
    head = {"Content-Type": "text/html; charset=UTF-8", "Server": "cloudflare"}
    return SimResponse(
        status=status, headers=head, delay=journey.delay, chunks=((0.0, text.encode()),)
    )


def _sent(status: int, body: bytes, headers: Mapping[str, str], journey: Journey) -> SimResponse:
    """A JSON body, padded if the knobs say so: status 200 at once, then blanks, then the body."""
    head = {"Content-Type": JSON_TYPE, **headers}
    padding = journey.knobs.padding
    if not padding:
        return SimResponse(status=status, headers=head, delay=journey.delay, chunks=((0.0, body),))
    pieces = min(padding, 20)
    pause = (journey.delay + journey.knobs.padding_seconds) / pieces
    sizes = [padding // pieces + (at < padding % pieces) for at in range(pieces)]
    blanks = tuple((pause, b"\n" * size) for size in sizes)
    return SimResponse(status=200, headers=head, chunks=(*blanks, (0.0, body)))


#: Deltas an answer is cut into, at most.
_PIECES = 8
_COMMENT = b": OPENROUTER PROCESSING\n\n"
_DONE = b"data: [DONE]\n\n"
_SILENT = ("empty", "null_content")
_CUT = ("cut_json", "cut_body")
#: Faults of whole bodies that a stream cannot have.
_HARMLESS = ("content_parts", "no_usage", "null_finish")


def stream(
    got: Generation, dialect: Dialect, knobs: Knobs, delay: float, fault: str | None
) -> SimResponse:
    """The response as a stream; the delay is spread over its events."""
    events = _events(got, dialect, knobs, "" if fault in _SILENT else got.said.content or "")
    ending = "whole"
    if fault in _CUT:
        events = events[: max(1, len(events) // 2)]
        ending = "cut" if fault == "cut_body" else "whole"
    elif fault == "blank":
        events = []
    elif fault == "no_usage":
        events = [event for event in events if b'"usage"' not in event]
    elif fault is not None and fault not in _SILENT and fault not in _HARMLESS:
        half = events[: max(1, len(events) // 2)]
        events = [*half, _event(dialect.broken_chunk(got, knobs)), _DONE]
    comments = [_COMMENT] * (knobs.comments if dialect.comments else 0)
    sent = [*comments, *events]
    pause = delay / max(1, len(sent))
    head = {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        **dialect.headers(got),
    }
    chunks = tuple((pause, event) for event in sent)
    if ending == "cut":
        return SimResponse(status=200, headers=head, chunks=chunks, ending="cut")
    return SimResponse(status=200, headers=head, chunks=chunks or ((delay, b""),))


def _events(got: Generation, dialect: Dialect, knobs: Knobs, content: str) -> list[bytes]:
    """All events of a good answer."""
    size = max(1, -(-len(content) // _PIECES))
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    chunks: list[dict[str, Any]] = [dialect.chunk(got, {"role": "assistant", "content": ""}, None)]
    chunks += [dialect.chunk(got, {"content": piece}, None) for piece in pieces]
    if got.said.refusal is not None:
        chunks.append(dialect.chunk(got, {"refusal": got.said.refusal}, None))
    chunks.append(dialect.chunk(got, {"content": ""}, got.said.finish))
    if knobs.stream_usage != "none":
        last = dialect.chunk(got, None if knobs.stream_usage == "empty" else {"content": ""}, None)
        chunks.append({**last, "usage": dialect.usage(got, knobs)})
    return [*map(_event, chunks), _DONE]


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
