"""The base of every part of the job file: strict, frozen, unknown keys refused."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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
    """One section of the job file. Each room's `settings.py` holds its own."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )
