"""Object stores through fsspec: s3, gs, hf; memory for tests.

Only these schemes, and never fsspec's chains (`a::b`) or its http: those would pass the address
guard by. Whose credentials are used is the driver's own matter.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import ImageError, SourceUnavailable
from pipeline.images.limits import MAX_BYTES, MAX_URL
from pipeline.images.outage import MACHINE, place_of_errno
from pipeline.images.sources.base import Places, brief, check_size, scheme_of

#: Scheme -> extra of this package that reads it; None: fsspec itself does.
EXTRAS: dict[str, str | None] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "hf": "hf",
    "memory": None,
}


def from_remote(text: str, _places: Places) -> bytes:
    """An object's bytes."""
    try:
        with open_remote(text) as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - every driver has errors of its own
        raise remote_trouble(text, error) from None
    check_size(shown(text), len(data))
    return data


def open_remote(text: str) -> Any:
    """A seekable file; the driver's errors, or ImageError `bad_uri` without the driver."""
    if len(text) > MAX_URL or "\0" in text:
        raise ImageError("bad_uri", f"the URL is longer than {MAX_URL} characters or odd")
    import fsspec

    scheme = scheme_of(text)
    extra = EXTRAS.get(scheme)
    try:
        files = fsspec.filesystem(scheme)
    except ImportError:
        raise ImageError(
            "bad_uri", f"{scheme}:// needs an extra; pip install 'caption-pipeline[{extra}]'"
        ) from None
    return files.open(files._strip_protocol(text), "rb")  # noqa: SLF001 - fsspec's own way to do it


def shown(text: str) -> str:
    """The URL without its query, which may hold a signature."""
    return brief(text.partition("?")[0])


def remote_trouble(text: str, error: Exception) -> ImageError:
    """What a failed read of an object means: its own fault, its bucket's or this machine's."""
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return ImageError("missing_file", f"{shown(text)}: no such object")
    if isinstance(error, PermissionError):
        return ImageError("missing_file", f"{shown(text)}: access denied")
    bucket = "/".join(text.split("/")[:3])
    place = place_of_errno(getattr(error, "errno", None), bucket) or bucket
    code, reason = "connect", getattr(error, "strerror", None) or type(error).__name__
    if isinstance(error, TimeoutError):
        code, reason = "timeout", "the store did not answer in time"
    return SourceUnavailable(
        code, f"{shown(text)}: {reason}", place=place, certain=place == MACHINE
    )
