"""An answer as server-sent events: comments, deltas, usage, `[DONE]`, and ways to break off."""

from __future__ import annotations

from typing import Any

import orjson

from pipeline.simulator.dialects.base import Dialect, Generation
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.wire import SimResponse

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
