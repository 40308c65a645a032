"""The job file's `prompt`, `packing` and `reply` sections."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Settings


class PromptSettings(Settings):
    text: str = Field(
        default="Describe this image in one or two sentences.", min_length=1, max_length=100_000
    )
    """What is asked about each image; {column} is the row's value."""
    system: str | None = None
    """System message, if any."""


class PackingSettings(Settings):
    images_per_request: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = 1
    """1 … N images in one request, or auto."""
    audit: float = Field(default=0, ge=0, le=1)
    """Share of packed images that is asked again alone."""


class ReplySettings(Settings):
    fields: dict[str, str] = {}
    """Typed fields beside the caption; empty: just a caption."""
