"""The body of a chat completion, read and checked by the documented types and ranges.

Everything a hostile or broken client may send ends in `Bad` with a 4xx status; nothing here may
raise anything else. What the service would ignore is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_NUMBERED = re.compile(r"\s*Image\s+(\d{1,6})\s*:\s*", re.IGNORECASE)
#: Body fields that are parameters of sampling, as `supported_parameters` names them.
_PARAMETERS = {
    *("temperature", "top_p", "frequency_penalty", "presence_penalty", "repetition_penalty"),
    *("min_p", "top_a", "top_k", "seed", "stop", "max_tokens", "response_format", "reasoning"),
}
_Share = Annotated[float | None, Field(ge=0, le=1)]
_UpToTwo = Annotated[float | None, Field(ge=0, le=2)]
_Penalty = Annotated[float | None, Field(ge=-2, le=2)]
_Tokens = Annotated[int | None, Field(ge=1)]
_Object = dict[str, Any] | None


class Bad(Exception):
    """The request is refused (400) before anything is looked at."""


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, hide_input_in_errors=True)


class _Text(_Model):
    type: Literal["text"]
    text: str


class _Url(_Model):
    url: str


class _Image(_Model):
    type: Literal["image_url"]
    image_url: _Url


class _Message(_Model):
    role: Literal["assistant", "developer", "system", "tool", "user"]
    content: str | list[Annotated[_Text | _Image, Field(discriminator="type")]] | None = None


class _Schema(_Model):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    json_: _Object = Field(default=None, alias="schema")


class _Form(_Model):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Body(_Model):
    model: str = Field(min_length=1)
    models: list[str] = []
    messages: list[_Message] = Field(min_length=1)
    temperature: _UpToTwo = None
    top_p: _Share = None
    frequency_penalty: _Penalty = None
    presence_penalty: _Penalty = None
    repetition_penalty: _UpToTwo = None
    min_p: _Share = None
    top_a: _Share = None
    top_k: Annotated[int | None, Field(ge=0)] = None
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    max_tokens: _Tokens = None
    max_completion_tokens: _Tokens = None
    stream: bool | None = None
    stream_options: _Object = None
    usage: _Object = None
    reasoning: _Object = None
    provider: _Object = None
    response_format: _Form = _Form(type="text")


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
    try:
        raw = orjson.loads(body)
    except (ValueError, RecursionError):
        raise Bad("Invalid JSON in request body") from None
    if not isinstance(raw, dict):
        raise Bad("The request body must be an object")
    try:
        given = _Body.model_validate({name: v for name, v in raw.items() if v is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Bad(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if len(given.models) > 3:
        raise Bad("'models' array must have 3 items or fewer.")
    form, reasoning = given.response_format, given.reasoning or {}
    by_schema = form.json_schema if form.type == "json_schema" else None
    if form.type == "json_schema" and by_schema is None:
        raise Bad("response_format.json_schema: a name is required")
    texts, images = _parts(given.messages)
    off = raw.get("reasoning_effort") == "none" or reasoning.get("effort") == "none"
    options, usage = given.stream_options or {}, given.usage or {}
    return Asked(
        model=given.model,
        fallbacks=tuple(given.models),
        texts=texts,
        images=images,
        stream=bool(given.stream),
        usage=bool(options.get("include_usage") or usage.get("include")),
        max_tokens=given.max_completion_tokens or given.max_tokens,
        form=form.type,
        schema=None if by_schema is None else by_schema.json_,
        parameters=frozenset(_PARAMETERS & given.model_fields_set),
        provider=given.provider or {},
        unthinking=off or reasoning.get("enabled") is False,
        tier=raw.get("service_tier"),
        fields=tuple(raw),
    )


def _parts(messages: list[_Message]) -> tuple[tuple[str, ...], tuple[Part, ...]]:
    """(texts, images) of all messages, in order."""
    texts: list[str] = []
    images: list[Part] = []
    for at, message in enumerate(messages):
        number: int | None = None
        if isinstance(message.content, str):
            texts.append(message.content)
            continue
        if message.content is None and message.role != "assistant":
            raise Bad(f"messages.{at}.content: expected a string or an array")
        for place, part in enumerate(message.content or ()):
            if isinstance(part, _Text):
                texts.append(part.text)
                match = _NUMBERED.fullmatch(part.text)
                number = int(match[1]) if match else None
            else:
                number = len(images) + 1 if number is None else number
                images.append(Part(url=part.image_url.url, number=number, place=(at, place)))
                number = None
    return tuple(texts), tuple(images)
