"""The job file's `images` section."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from pipeline.images.guard import allowed
from pipeline.images.limits import MAX_PIXELS
from pipeline.settings import Duration, Settings


def _allow(entries: list[str]) -> list[str]:
    allowed(entries)
    return entries


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name.lower() not in ("user-agent", "referer"):
            raise ValueError(
                f"{name!a} is not sent to image hosts; only User-Agent and Referer are"
            )
        if not (value.isascii() and value.isprintable() and value.strip()) or len(value) > 1000:
            raise ValueError(f"{name}: write one line of at most 1,000 ASCII letters")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header stands there twice")
    return headers


class ImageSettings(Settings):
    send: Literal["auto", "url", "inline"] = "auto"
    """As URL, as bytes inside the request, or whichever fits."""
    identity: str = Field(
        default="auto",
        pattern=r"^(auto|content|column:.+)$",
        examples=["auto", "content", "column:NAME"],
    )
    """What makes an image the same image: auto (its URL or path), content (its bytes), or column:NAME."""
    max_side: int = Field(default=768, ge=16, le=8192)
    """Longest side in pixels; larger images are shrunk before they are sent."""
    max_pixels: int = Field(default=MAX_PIXELS, ge=1_000_000, le=400_000_000)
    """Pixels of a picture that is decoded; a JPEG, shrunk meanwhile, may have up to 120 million."""
    quality: int = Field(default=85, ge=1, le=95)
    """JPEG quality."""
    root: str | None = None
    """Where relative image paths start, and outside of which no file is read; default: the manifest's folder."""
    allow: Annotated[list[str], AfterValidator(_allow)] = []
    """Private or loopback places that may be fetched all the same: host, host:port, CIDR."""
    packages: list[str] = []
    """Python packages that package:// may read."""
    proxy: str | None = None
    """Proxy for image downloads: a URL, or env."""
    cache: str | None = None
    """Folder for downloaded images."""
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}
    """Sent to image hosts: User-Agent (some want a contact in it), Referer."""
    timeout: Duration = Field(default=30.0, gt=0, le=3600)
    """Seconds, in total, for one image download."""

    @field_validator("identity")
    @classmethod
    def _read(cls, identity: str, info: ValidationInfo) -> str:
        if identity == "content" and info.data.get("send") == "url":
            raise ValueError(
                "it cannot go with images.send: url, as each picture is read and its bytes are sent"
            )
        return identity

    def digest(self, folder: Path | None) -> str:
        """8 hex digits of what decides whether an image can be read. folder: the manifest's."""
        deciding = self.model_dump_json(
            include={"root", "allow", "packages", "headers", "proxy", "max_pixels", "timeout"}
        )
        return hashlib.sha256(os.fsencode(f"{deciding}{folder}")).hexdigest()[:8]

    @property
    def folder(self) -> Path | None:
        """`root` as a path."""
        return Path(self.root).expanduser().absolute() if self.root else None
