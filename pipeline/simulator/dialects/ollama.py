"""Ollama: data URIs only, no key, and a queue that says when it is full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.simulator.dialects.base import Dialect
from pipeline.simulator.knobs import Knobs
from pipeline.simulator.models import Model
from pipeline.simulator.pictures import Trouble
from pipeline.simulator.wire import Refused


class Ollama(Dialect):
    def error(self, knobs: Knobs, status: int, message: str, kind: str = "", **more: Any) -> object:
        known = {400: "invalid_request_error", 404: "not_found_error"}
        kind = kind or known.get(status, "api_error")
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}

    def slug(self, asked: str) -> str:
        return asked if ":" in asked else f"{asked}:latest"

    def unknown_model(self, knobs: Knobs, slug: str) -> Refused:
        return self.refused(knobs, 404, f"model '{slug.removesuffix(':latest')}' not found")

    def pictures(self, knobs: Knobs, troubles: Sequence[Trouble]) -> Refused:
        first = troubles[0]
        if first.why in ("extract", "uri", "mime", "base64"):
            return self.refused(knobs, 400, "invalid image input")
        return self.refused(knobs, 500, "Failed to create new sequence: failed to process inputs")

    def busy(self, knobs: Knobs) -> Refused:
        return self.refused(
            knobs, 503, "server busy, please try again.  maximum pending requests exceeded"
        )

    def server(self, knobs: Knobs, status: int, model: Model) -> Refused:
        known = status if status in (500, 503) else 500
        return self.refused(knobs, known, "model runner has unexpectedly stopped")
