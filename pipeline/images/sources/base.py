"""What every source offers: `read(value, places) -> bytes`, blocking, ImageError on trouble."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.errors import ImageError
from pipeline.images.limits import MAX_BYTES
from pipeline.local_files import ANY, Boundary, is_file_url

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class OpenShards(Protocol):
    """Tar files that stay open over a run."""

    def read(self, name: str, member: str, places: Places, /) -> bytes:
        """A member's bytes; ImageError."""

    def close(self) -> None:
        """Close them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What sources may read."""

    #: Base of relative paths; None: there is none (a remote manifest).
    root: Path | None
    #: Which local files may be read at all.
    boundary: Boundary = ANY
    #: Packages that `package://` may read.
    packages: tuple[str, ...] = ()
    #: Tar files kept open over a run.
    shards: OpenShards | None = field(default=None)
    #: Folders that have delivered a file in this run, and which they were (device, inode).
    delivered: dict[str, tuple[int, int]] = field(default_factory=dict)


class Source(Protocol):
    """One kind of place. Called on a thread; several calls at once."""

    def __call__(self, text: str, places: Places, /) -> bytes: ...


def scheme_of(text: str) -> str:
    """The kind of a text value: a key of `SOURCES`, or an unknown scheme."""
    if text[:5].lower() == "data:":
        return "data"
    if is_file_url(text):
        return "file"
    match = _SCHEME.match(text)
    return match[1].lower() if match else "path"


def check_size(name: str, size: int) -> None:
    """ImageError `too_large`, before anything is read."""
    if size > MAX_BYTES:
        raise ImageError("too_large", f"{name}: {size} bytes, {MAX_BYTES} at most")


def brief(text: str) -> str:
    """A value as a message shows it: short, and nothing that acts on a terminal."""
    return ascii(text[:200])[1:-1] + ("…" if len(text) > 200 else "")
