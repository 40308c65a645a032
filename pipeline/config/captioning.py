"""The job file's `prompt`, `packing` and `reply` sections."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.settings import Settings

#: Names of a record, of a dataset's row or of the wire form, which no field may have.
TAKEN = frozenset(
    {"image", "caption", "captions", "status", "error_code", "error", "flags", "key", "model"}
    | {"served_model", "provider", "prompt_tokens", "completion_tokens", "cost_usd", "width"}
    | {"height", "sent_width", "sent_height", "image_sha256", "finished_at", "review"}
)


_Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class NamedPromptSettings(Settings):
    text: _Text
    """What is asked; {column} is the row's value."""
    weight: float = Field(default=1, gt=0, le=1_000_000)
    """sample: its share of the images, beside the others' weights."""


def _prompt_names(prompts: dict[str, NamedPromptSettings]) -> dict[str, NamedPromptSettings]:
    """Names become columns; two prompts with one text would be one question."""
    for name in prompts:
        if not name.isidentifier() or len(name) > 64:
            raise ValueError(f"{name!r} is no name for a prompt: letters, digits and _, at most 64")
    if len({name.lower() for name in prompts}) < len(prompts):
        raise ValueError("two prompts differ in capitals only")
    if len({prompt.text for prompt in prompts.values()}) < len(prompts):
        raise ValueError("two prompts have the same text")
    return prompts


class PromptSettings(Settings):
    text: _Text = "Describe this image in one or two sentences."
    """What is asked about each image; {column} is the row's value."""
    prompts: Annotated[
        dict[str, NamedPromptSettings], Field(max_length=16), AfterValidator(_prompt_names)
    ] = {}
    """Instead of text: several prompts by name, each with text and weight."""
    mode: Literal["each", "sample"] = "each"
    """prompts: each image is asked with each of them, or with one, sampled by weight."""
    system: str | None = None
    """System message, if any."""

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        """Refuse a text beside named prompts."""
        if self.prompts and "text" in self.model_fields_set:
            raise ValueError("give text or prompts, not both")
        return self

    @property
    def texts(self) -> dict[str | None, str]:
        """Every prompt's text by its name; a single prompt has none."""
        return {name: prompt.text for name, prompt in self.prompts.items()} or {None: self.text}


class PackingSettings(Settings):
    images_per_request: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = 1
    """1 … N images in one request, or auto."""
    audit: float = Field(default=0, ge=0, le=1)
    """Share of packed images that is asked again alone."""


class FieldSettings(Settings):
    type: Literal["string", "bool", "int", "float", "enum", "list"]
    """What its values are; a list holds texts."""
    description: str = Field(default="", max_length=2_000)
    """What the model is to write there."""
    max_length: int | None = Field(default=None, ge=1, le=100_000)
    """string: longest value, in characters."""
    values: list[str] = Field(default=[], max_length=1_000)
    """enum: the values there are."""
    max_items: int | None = Field(default=None, ge=1, le=1_000)
    """list: most entries."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse what its type has no use for, and an enum without values."""
        for name, kind in (("max_length", "string"), ("values", "enum"), ("max_items", "list")):
            if getattr(self, name) and self.type != kind:
                raise ValueError(f"{name} goes with type {kind}, not with {self.type}")
        if self.type == "enum":
            names = {value.strip().casefold() for value in self.values}
            if not names or len(names) < len(self.values) or "" in names:
                raise ValueError("an enum needs values: texts that differ, also without capitals")
        return self


def _field_names(fields: dict[str, FieldSettings]) -> dict[str, FieldSettings]:
    """They become columns and keys of JSON; names that differ in capitals only are one to SQL."""
    for name in fields:
        if not name.isidentifier() or len(name) > 64:
            raise ValueError(f"{name!r} is no name for a field: letters, digits and _, at most 64")
        if name.lower() in TAKEN:
            raise ValueError(f"{name} is a column of every record; choose another name")
    if len({name.lower() for name in fields}) < len(fields):
        raise ValueError("two fields differ in capitals only")
    return fields


class ReplySettings(Settings):
    fields: Annotated[
        dict[str, FieldSettings], Field(max_length=64), AfterValidator(_field_names)
    ] = {}
    """Typed fields beside the caption; empty: just a caption."""
