"""The base of every part of the job file: strict, frozen, unknown keys refused."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _seconds(value: object) -> object:
    """`15m` -> 900.0; numbers are seconds, also as text (`${TIMEOUT}`)."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd]?)", value.strip())
        if not match:
            raise ValueError("write a duration as 90, 30s, 15m, 2h or 1d")
        return float(match[1]) * _SECONDS[match[2]]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _bytes(value: object) -> object:
    """`256MB` -> 256_000_000, `1MiB` -> 1_048_576; numbers are bytes, also as text."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT]?)(I?)B?)", value.strip().upper())
        if not match or (match[3] and not match[2]):
            raise ValueError("write a size as 268435456, 256MB or 1GB")
        factor = 1024 ** " KMGT".index(match[2]) if match[3] else _BYTES[match[2]]
        return int(float(match[1]) * factor)
    return value


#: Seconds, written as a number or as `30s`, `15m`, `2h`, `1d`.
Duration = Annotated[
    float,
    BeforeValidator(_seconds, json_schema_input_type=str | float),
    Field(examples=[90, "30s", "15m", "2h", "1d"]),
]

#: Bytes, written as a number or as `256MB`.
Size = Annotated[
    int,
    BeforeValidator(_bytes, json_schema_input_type=str | int),
    Field(examples=[268435456, "256MB", "1GB"]),
]


class Settings(BaseModel):
    """One section of the job file. Each room's `settings.py` holds its own.

    What takes long is left until it is needed: validators are built once, for the whole file
    (`defer_build`), and the keys' docstrings are read for the JSON Schema only (pydantic's own
    `use_attribute_docstrings` reads the source of every class at each start).
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        keys = handler.resolve_ref_schema(schema)["properties"]
        for name, text in cls.descriptions().items():
            keys[name].setdefault("description", text)
        return schema

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Key -> what stands in the source below it."""
        texts: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if base is Settings or not issubclass(base, Settings):
                continue
            tree = ast.parse(inspect.getsource(sys.modules[base.__module__]))
            body = next(
                node.body
                for node in tree.body
                if isinstance(node, ast.ClassDef) and node.name == base.__name__
            )
            for key, text in pairwise(body):
                match key, text:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(said))),
                    ):
                        texts[name] = inspect.cleandoc(said)
        return texts


def section() -> Any:
    """A subsection that may be left out. Its defaults are validated with the whole file, so that
    no section needs a validator of its own, which takes milliseconds to build."""
    return Field(default_factory=dict, validate_default=True)
