"""The body of a chat completion, read and checked by the documented types and ranges.

Everything a hostile or broken client may send ends in `Bad` with a 4xx status; nothing here may
raise anything else. What the service would ignore is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

_NUMBERED = re.compile(r"\s*Image\s+(\d{1,6})\s*:\s*", re.IGNORECASE)
_ROLES = ("assistant", "developer", "system", "tool", "user")
_SCHEMA_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: Field -> (lowest, highest).
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 2),
    "min_p": (0, 1),
    "top_a": (0, 1),
}
#: Body fields that are parameters of sampling, as `supported_parameters` names them.
_PARAMETERS = {*_RANGES, "top_k", "seed", "stop", "max_tokens", "response_format", "reasoning"}


class Bad(Exception):
    """The request is refused before anything is looked at."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One image part."""

    url: str
    #: The N of the `Image N:` before it, else its place among the images, from 1.
    number: int
    #: (message, part), from 0.
    place: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat completion as it was asked for."""

    model: str
    fallbacks: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    images: tuple[Part, ...] = ()
    stream: bool = False
    #: Is usage wanted: `usage.include`, or `stream_options.include_usage`?
    usage: bool = False
    max_tokens: int | None = None
    #: `json_schema`, `json_object` or `text`; and the schema itself.
    form: str = "text"
    schema: Mapping[str, Any] | None = None
    #: Sampling parameters that were sent.
    parameters: frozenset[str] = frozenset()
    provider: Mapping[str, Any] = field(default_factory=dict)
    #: Thinking was turned off.
    unthinking: bool = False
    #: The tier that is wished for.
    tier: object = None
    #: Names of all fields of the body.
    fields: tuple[str, ...] = ()

    @property
    def prompt(self) -> str:
        return "\n".join(self.texts)


def read(body: bytes) -> Asked:
    """What is asked for; Bad for anything that is not a chat completion."""
    raw = _loaded(body)
    model = raw.get("model")
    if not isinstance(model, str) or not model:
        raise Bad("model: a string is required")
    _ranges(raw)
    form, schema = _form(raw.get("response_format"))
    texts, images = _messages(raw.get("messages"))
    limit = _whole(raw, "max_completion_tokens", 1)
    options = _object(raw, "stream_options"), _object(raw, "usage")
    reasoning = _object(raw, "reasoning")
    off = raw.get("reasoning_effort") == "none" or reasoning.get("effort") == "none"
    return Asked(
        model=model,
        fallbacks=_fallbacks(raw),
        texts=texts,
        images=images,
        stream=_flag(raw, "stream"),
        usage=bool(options[0].get("include_usage") or options[1].get("include")),
        max_tokens=_whole(raw, "max_tokens", 1) if limit is None else limit,
        form=form,
        schema=schema,
        parameters=frozenset(_PARAMETERS & {name for name, v in raw.items() if v is not None}),
        provider=_object(raw, "provider"),
        unthinking=off or reasoning.get("enabled") is False,
        tier=raw.get("service_tier"),
        fields=tuple(raw),
    )


def _loaded(body: bytes) -> dict[str, Any]:
    try:
        raw = orjson.loads(body)
    except (ValueError, RecursionError):
        raise Bad("Invalid JSON in request body") from None
    if not isinstance(raw, dict):
        raise Bad("The request body must be an object")
    return raw


def _object(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Bad(f"{name}: expected object")
    return value


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise Bad(f"{name}: expected boolean")


def _whole(raw: Mapping[str, Any], name: str, least: int | None) -> int | None:
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Bad(f"{name}: expected integer")
    if least is not None and value < least:
        raise Bad(f"{name}: must be at least {least}")
    return value


def _ranges(raw: Mapping[str, Any]) -> None:
    for name, (low, high) in _RANGES.items():
        value = raw.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Bad(f"{name}: expected number")
        if not low <= value <= high:
            raise Bad(f"{name}: must be between {low} and {high}")
    _whole(raw, "top_k", 0)
    _whole(raw, "seed", None)
    stop = raw.get("stop")
    stops = stop if isinstance(stop, list) else [] if stop is None else [stop]
    if len(stops) > 4 or not all(isinstance(entry, str) for entry in stops):
        raise Bad("stop: expected a string or at most 4 strings")


def _fallbacks(raw: Mapping[str, Any]) -> tuple[str, ...]:
    models = raw.get("models")
    if models is None:
        return ()
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise Bad("models: expected an array of strings")
    if len(models) > 3:
        raise Bad("'models' array must have 3 items or fewer.")
    return tuple(models)


def _form(value: object) -> tuple[str, Mapping[str, Any] | None]:
    if value is None:
        return "text", None
    if not isinstance(value, dict) or value.get("type") not in (
        "text",
        "json_object",
        "json_schema",
    ):
        raise Bad("response_format: type must be text, json_object or json_schema")
    form: str = value["type"]
    if form != "json_schema":
        return form, None
    named = value.get("json_schema")
    if not isinstance(named, dict) or not isinstance(named.get("name"), str):
        raise Bad("response_format.json_schema: a name is required")
    if not _SCHEMA_NAME.fullmatch(named["name"]):
        raise Bad("response_format.json_schema.name: a-z, A-Z, 0-9, _ and -, at most 64")
    schema = named.get("schema")
    if schema is not None and not isinstance(schema, dict):
        raise Bad("response_format.json_schema.schema: expected object")
    return form, schema


def _messages(messages: object) -> tuple[tuple[str, ...], tuple[Part, ...]]:
    """(texts, images) of all messages, in order."""
    if not isinstance(messages, list) or not messages:
        raise Bad("messages: a non-empty array is required")
    texts: list[str] = []
    images: list[Part] = []
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise Bad(f"messages.{at}.role: one of {', '.join(_ROLES)}")
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            _parts(at, content, texts, images)
        elif content is not None or message["role"] != "assistant":
            raise Bad(f"messages.{at}.content: expected a string or an array")
    return tuple(texts), tuple(images)


def _parts(at: int, content: list[Any], texts: list[str], images: list[Part]) -> None:
    number: int | None = None
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            text = part.get("text")
            if not isinstance(text, str):
                raise Bad(f"messages.{at}.content.{place}.text: expected string")
            texts.append(text)
            match = _NUMBERED.fullmatch(text)
            number = int(match[1]) if match else None
        elif kind == "image_url":
            holder = part.get("image_url")
            url = holder.get("url") if isinstance(holder, dict) else None
            if not isinstance(url, str):
                raise Bad(f"messages.{at}.content.{place}.image_url: expected object with a url")
            images.append(
                Part(
                    url=url,
                    number=len(images) + 1 if number is None else number,
                    place=(at, place),
                )
            )
            number = None
        else:
            raise Bad(f"messages.{at}.content.{place}.type: one of text, image_url")
