"""What the simulator received, for tests and as JSON lines. Keys appear as hashes only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, BinaryIO

import orjson


@dataclass(slots=True, kw_only=True)
class Logged:
    """One request as it was received and answered."""

    #: Arrival, epoch seconds by the server's clock.
    at: float
    method: str
    #: The path behind the base, without its query.
    path: str
    #: Answered status; 0 while the request is under way.
    status: int = 0
    #: SHA-256 of the key; None without one.
    key_sha256: str | None = None
    #: The calling program as it introduced itself (HTTP-Referer, X-Title).
    referer: str | None = None
    title: str | None = None
    #: Bytes of the body.
    size: int = 0
    #: The model asked for, and the one that answered.
    model: str | None = None
    served: str | None = None
    stream: bool = False
    #: All text of the request.
    prompt: str = ""
    #: Images in the request, and each as it was seen: sha256, dhash, mime, width, height,
    #: caption, colours; or url; or what was wrong with it.
    count: int = 0
    images: list[dict[str, Any]] = field(default_factory=list)
    #: Tokens of the answer.
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    generation: str | None = None
    #: The fault or lie (`lie_…`) that was dealt, or the message of a refusal.
    fault: str | None = None
    error: str | None = None

    def facts(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES = tuple(field.name for field in fields(Logged))


def lines_to(file: BinaryIO) -> Callable[[Logged], None]:
    """Appends one JSON line a request, written at once."""

    def append(entry: Logged) -> None:
        file.write(orjson.dumps(entry.facts(), default=str) + b"\n")
        file.flush()

    return append
