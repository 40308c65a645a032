"""Requests and responses of the simulated service, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_BODY = 100_000_000


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back. `cut`: close the connection after so many bytes of the body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    padding: int = 0
    cut: int | None = None


class Refusal(Exception):
    """An answer other than a completion."""

    def __init__(self, status: int, message: str, **metadata: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.metadata = status, message, metadata


def error_body(code: int, message: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "error": {"code": code, "message": message, "metadata": metadata or {}},
        "user_id": "user_simulated",
    }


def json_response(
    status: int,
    value: object,
    headers: Mapping[str, str] | None = None,
    delay: float = 0.0,
    padding: int = 0,
) -> Response:
    head = {"Content-Type": "application/json", **(headers or {})}
    return Response(status, json.dumps(value).encode(), head, delay, padding)


def parsed(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise Refusal(413, "Request Entity Too Large")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "Invalid JSON in request body") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "The request body must be an object")
    return asked


def parts(messages: object) -> tuple[list[str], list[str]]:
    """(texts, image URLs) of all messages, in order."""
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages: a non-empty array is required")
    texts: list[str] = []
    urls: list[str] = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            texts.append(content)
            continue
        if not isinstance(content, list):
            raise Refusal(400, "messages: content must be a string or an array")
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif kind == "image_url" and isinstance(part.get("image_url"), dict):
                urls.append(str(part["image_url"].get("url")))
            else:
                raise Refusal(400, "messages: a part is neither text nor image_url")
    return texts, urls
