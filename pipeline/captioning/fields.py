"""Typed reply fields (`reply.fields`): their JSON Schema, their words in a prompt, their validation.

Values are validated by pydantic as leniently as keeps the type ("true" is a bool, "3" an int), since
a request saved is worth more than a model's spelling; whatever else is ill-typed is None.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from pipeline.captioning.caption_text import safe_text
from pipeline.model import ILL_TYPED

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.config.captioning import FieldSettings

#: Output tokens of a value, where nothing bounds it.
_STRING_TOKENS, _LIST_ITEMS, _ITEM_TOKENS, _SMALL_TOKENS = 40, 10, 6, 8
_INT64 = 2**63

_JSON_TYPES: dict[str, dict[str, object]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "list": {"type": "array", "items": {"type": "string"}},
}


def _text(value: str) -> str:
    return safe_text(value).strip()


def _no_bool(value: object) -> object:
    """Python's True is an integer; an answer's is not."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")  # noqa: TRY004 - pydantic takes no other
    return value


def _among(values: Iterable[str]) -> Callable[[str], str]:
    """An enum's value as the job file spells it."""
    spelled = {value.strip().casefold(): value for value in values}

    def of(value: str) -> str:
        if (known := spelled.get(value.strip().casefold())) is None:
            raise ValueError("not one of the values")
        return known

    return of


def _adapter(field: FieldSettings) -> TypeAdapter[Any]:
    """The pydantic type of a field."""
    kind: Any
    match field.type:
        case "string":
            kind = Annotated[str, AfterValidator(_text), Field(max_length=field.max_length)]
        case "enum":
            kind = Annotated[str, AfterValidator(_among(field.values))]
        case "bool":
            kind = bool
        case "int":
            kind = Annotated[int, BeforeValidator(_no_bool), Field(ge=-_INT64, lt=_INT64)]
        case "float":
            kind = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
        case "list":
            entry = Annotated[str, AfterValidator(_text)]
            kind = Annotated[list[entry], Field(max_length=field.max_items)]
    return TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True))


class Fields:
    """The compiled `reply.fields` of a job. Immutable; empty: answers are captions alone."""

    def __init__(self, settings: Mapping[str, FieldSettings]) -> None:
        self._settings = dict(settings)
        self._adapters = {name: _adapter(field) for name, field in settings.items()}

    def __len__(self) -> int:
        return len(self._settings)

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the job file."""
        return tuple(self._settings)

    @property
    def recipe(self) -> dict[str, object]:
        """What of them counts for the recipe: what the model is asked."""
        return {
            name: field.model_dump(exclude_defaults=True) for name, field in self._settings.items()
        }

    @property
    def tokens(self) -> int:
        """Estimated output tokens of one image's fields, on the high side."""
        return sum(_tokens(name, field) for name, field in self._settings.items())

    def properties(self, names: Iterable[str]) -> dict[str, dict[str, object]]:
        """JSON Schema of these fields. No bounds: not every service knows them."""
        schemas = {}
        for name in names:
            field = self._settings[name]
            kind = {"type": "string", "enum": field.values} if field.type == "enum" else None
            described = {"description": text} if (text := _wanted(field)) else {}
            schemas[name] = {**(kind or _JSON_TYPES[field.type]), **described}
        return schemas

    def meanings(self, names: Iterable[str]) -> dict[str, str]:
        """What each of these fields is, for a prompt."""
        meanings = {}
        for name in names:
            field = self._settings[name]
            listed = f" ({', '.join(map(json.dumps, field.values))})" if field.values else ""
            wanted = _wanted(field)
            meanings[name] = _KINDS[field.type] + listed + (f", {wanted}" if wanted else "")
        return meanings

    def read(self, values: Mapping[str, object]) -> dict[str, object]:
        """name -> value, None where it is missing or ill-typed. Never raises."""
        typed: dict[str, object] = {}
        for name, adapter in self._adapters.items():
            try:
                typed[name] = adapter.validate_python(values.get(name))
            except ValidationError:
                typed[name] = None
        return typed

    def of_record(self, text: str | None) -> dict[str, object]:
        """The values of a record's `fields`, whatever job wrote them. Never raises."""
        try:
            values = orjson.loads(text or "{}")
        except ValueError:
            values = None
        return self.read(values if isinstance(values, dict) else {})

    @cached_property
    def columns(self) -> list[pa.Field]:
        """Arrow fields of the typed columns."""
        import pyarrow as pa

        text = pa.string()
        kinds = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
        kinds |= {"string": text, "enum": text, "list": pa.list_(text)}
        return [pa.field(name, kinds[field.type]) for name, field in self._settings.items()]

    def arrays(self, texts: Iterable[str | None]) -> list[pa.Array]:
        """The typed columns of records, from their `fields`."""
        import pyarrow as pa

        rows = [self.of_record(text) for text in texts]
        return [
            pa.array([row[column.name] for row in rows], column.type) for column in self.columns
        ]


_KINDS = {
    "string": "a text",
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "enum": "one of the texts",
    "list": "a list of texts",
}


def _wanted(field: FieldSettings) -> str:
    """The bounds of a field and what it means."""
    bound = ""
    if field.max_length:
        bound = f"at most {field.max_length} characters"
    elif field.max_items:
        bound = f"at most {field.max_items} entries"
    return ": ".join(part for part in (bound, field.description.strip()) if part)


def _tokens(name: str, field: FieldSettings) -> int:
    size = _SMALL_TOKENS
    if field.type == "string":
        size = min(_STRING_TOKENS, (field.max_length or 3 * _STRING_TOKENS) // 3 + 1)
    elif field.type == "list":
        size = min(_LIST_ITEMS, field.max_items or _LIST_ITEMS) * _ITEM_TOKENS
    return size + len(name) // 3 + 4


def ill_typed(values: Mapping[str, object]) -> tuple[str, ...]:
    """The flags of a record's fields: which are null."""
    return tuple(ILL_TYPED + name for name, value in values.items() if value is None)


#: An answer without fields.
NO_FIELDS = Fields({})
