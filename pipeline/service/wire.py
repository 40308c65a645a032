"""Requests as the service reads them: deterministic JSON bytes.

One image: the prompt, then the image. Several: the instruction, then for each image a text part
`Image N:` and its image, N from 1. Everything that is the same for the whole job is encoded
once; only the message's content is new for each request.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import orjson

from pipeline.model import Image, Item, Request
from pipeline.service.endpoint import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the model's listing says it can do."""

    json_schema: bool = False
    reasoning: bool = False
    max_output: int | None = None


#: Added to a pack's `max_tokens`: the JSON around the captions.
PACK_OVERHEAD_TOKENS = 64


class Wire:
    """Builds request bodies for one job. Pure: the same request gives the same bytes."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        system: str | None,
        capabilities: Capabilities,
        fields_tokens: int = 0,
    ) -> None:
        """fields_tokens: room for one image's typed fields, beside the caption's `max_tokens`."""
        settings = endpoint.settings
        self._endpoint, self.model = endpoint, settings.model
        self._capabilities, self._fields_tokens = capabilities, fields_tokens
        self._system = system
        body: dict[str, object] = {"model": settings.model}
        if endpoint.profile.openrouter_fields:
            if settings.fallback_models:
                body["models"] = [settings.model, *settings.fallback_models]
            if settings.provider:
                body["provider"] = settings.provider
            asked = settings.params.keys() | settings.extra_body.keys()
            if capabilities.reasoning and not asked & {"reasoning", "reasoning_effort"}:
                # Thoughts would eat max_tokens and leave no caption.
                body["reasoning"] = {"effort": "none"}
        if settings.service_tier is not None:
            body["service_tier"] = settings.service_tier
        body.update(settings.params)
        refused = endpoint.profile.refuses
        self._params = {name: value for name, value in body.items() if name not in refused}
        self._extra = {n: value for n, value in settings.extra_body.items() if n not in refused}
        body = {**self._params, **self._extra}
        self._head = orjson.dumps(body)[:-1] + b',"messages":['
        if system is not None:
            self._head += orjson.dumps({"role": "system", "content": system}) + b","
        self._head += b'{"role":"user","content":['

    def asking(self, model: str, params: Mapping[str, object]) -> Wire:
        """The same for another model, asked with other parameters."""
        settings = self._endpoint.settings.model_copy(update={"model": model, "params": params})
        return Wire(
            replace(self._endpoint, settings=settings),
            system=self._system,
            capabilities=self._capabilities,
            fields_tokens=self._fields_tokens,
        )

    def body(
        self,
        request: Request,
        *,
        instruction: str,
        schema: dict[str, object] | None,
        labels: Sequence[str] = (),
    ) -> bytes:
        """The body of one request.

        instruction: the prompt, or for a pack what to answer with. schema: JSON Schema of the
        reply, used where the model is known to take one. labels: the text before each image of
        a pack; none: `Image N:`.
        """
        parts = [_text_part(instruction)]
        packed = request.form in ("pack", "again")
        for number, item in enumerate(request.items, 1):
            if packed:
                parts.append(_text_part(labels[number - 1]) if labels else _number_part(number))
            parts.append(_image_part(item.image))
        head = self._head
        if packed or request.form == "fields":
            head = self._json_head(len(request.items), schema)
        return b"".join((head, b",".join(parts), b"]}]}"))

    def _json_head(self, count: int, schema: dict[str, object] | None) -> bytes:
        """The start of a body that asks for JSON: room for all captions and fields, and the
        reply's schema."""
        body = dict(self._params)
        for name in ("max_tokens", "max_completion_tokens"):
            value = body.get(name)
            if isinstance(value, int):
                room = (value + self._fields_tokens) * count + PACK_OVERHEAD_TOKENS
                top = self._capabilities.max_output
                body[name] = min(room, top) if top else room
        if schema is not None and self._capabilities.json_schema and "response_format" not in body:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "captions", "strict": True, "schema": schema},
            }
        body.update(self._extra)
        head = orjson.dumps(body)[:-1] + b',"messages":['
        if self._system is not None:
            head += orjson.dumps({"role": "system", "content": self._system}) + b","
        return head + b'{"role":"user","content":['


def _text_part(text: str) -> bytes:
    return b'{"type":"text","text":' + orjson.dumps(text) + b"}"


@lru_cache(maxsize=256)  # the same ones in every pack
def _number_part(number: int) -> bytes:
    return _text_part(f"Image {number}:")


def _image_part(image: Image) -> bytes:
    if image.data is None:
        return b'{"type":"image_url","image_url":{"url":' + orjson.dumps(image.url) + b"}}"
    mime = (image.mime or "image/jpeg").encode()
    return b"".join(
        (
            b'{"type":"image_url","image_url":{"url":"data:',
            mime,
            b";base64,",
            b64encode(image.data),
            b'"}}',
        )
    )


__all__ = ["Capabilities", "Item", "Wire"]
