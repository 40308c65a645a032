"""The job file's `output` and `run` sections."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.settings import Settings

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _bytes(value: object) -> object:
    """`256MB` -> 256_000_000; numbers are bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?B)", value.strip().upper())
        if not match:
            raise ValueError("write a size as 268435456, 256MB or 1GB")
        return int(float(match[1]) * _UNITS[match[2]])
    return value


#: Bytes, written as a number or as `256MB`.
Size = Annotated[
    int,
    BeforeValidator(_bytes, json_schema_input_type=str | int),
    Field(examples=[268435456, "256MB", "1GB"]),
]


class OutputSettings(Settings):
    path: str = ""
    """Folder or s3://, gs:// address that receives everything; default: out/NAME."""
    dataset: Literal["auto"] | None = "auto"
    """dataset.parquet at the end of a run; null: not."""

    @property
    def shown(self) -> str:
        """The output as the user names it."""
        return str(Path(self.path))


class Elsewhere(OutputSettings):
    """An output that holds no journal: `path` is the folder that stands for it on this machine.
    Never read from a job file."""

    address: str

    @property
    def shown(self) -> str:
        return self.address


class RunSettings(Settings):
    max_failed: int = Field(default=0, ge=0)
    """So many images may lack a caption and the run still exits 0."""
    engine: Literal["local", "ray"] = "local"
    """Where the run happens."""
    drain: float = Field(default=60.0, ge=0)
    """Seconds that requests in flight get after a stop signal."""
    min_free: Size = Field(default=256_000_000, ge=0)
    """Free disk space below which nothing more is asked."""
    metrics: str | None = None
    """File that receives Prometheus metrics."""
    log_format: Literal["text", "json"] = "text"
    """How log lines are written, on stderr and in _state/logs."""


class NotifySettings(Settings):
    url: str | None = None
    """Pinged at start, success and failure."""
