"""An event stream read as one completion. Some gateways stream although nobody asked."""

from __future__ import annotations

from typing import Any

from pipeline.service.body import loads


def read_stream(text: bytes) -> dict[str, Any] | None:
    """Join the chunks of a `text/event-stream` body; None when it is not one or was cut.

    Lines that start with `:` are comments. A stream that ends without `[DONE]` and without a
    finish reason is cut. An error inside a chunk is kept, so that it classifies the whole.
    """
    if not text.startswith((b"data:", b":", b"event:")):
        return None
    content: list[str] = []
    whole: dict[str, Any] = {}
    finish: dict[str, Any] = {}
    done = False
    for line in text.splitlines():
        if not line.startswith(b"data:"):
            continue
        piece = line[5:].strip()
        if piece == b"[DONE]":
            done = True
            break
        try:
            chunk = loads(piece)
        except ValueError:
            return None
        if not isinstance(chunk, dict):
            return None
        for name in ("id", "model", "provider", "usage", "error"):
            if chunk.get(name) is not None:
                whole[name] = chunk[name]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if isinstance(choice, dict):
            delta = choice.get("delta")
            if isinstance(delta, dict) and isinstance(delta.get("content"), str):
                content.append(delta["content"])
            for name in ("finish_reason", "native_finish_reason"):
                if choice.get(name):
                    finish[name] = choice[name]
    if not done and not finish and "error" not in whole:
        return None
    message = {"role": "assistant", "content": "".join(content)}
    return {**whole, "choices": [{"index": 0, "message": message, **finish}]}
