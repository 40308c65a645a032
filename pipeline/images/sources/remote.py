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

#: Errors of the drivers, by name as they are extras: no login was found or none given out, or
#: nobody answers at the endpoint. No object does that by itself.
_UNREACHABLE = frozenset(
    {
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
        *("TokenRetrievalError", "SSOError", "ProfileNotFound", "LocalTokenNotFoundError"),
        *("GoogleAuthError", "EndpointConnectionError", "ConnectTimeoutError", "SSLError"),
        *("ProxyConnectionError", "ClientConnectorError", "ConnectionRefusedError"),
    }
)
#: S3's words for a login that is not valid, or no longer, and for a bucket that is not there.
_REFUSED = frozenset(
    {
        *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"),
        *("SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidSecurity", "AccountProblem"),
        *("AllAccessDisabled", "NotSignedUp", "NoSuchBucket"),
    }
)


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
    files, name = _driver(text)
    return files.open(name, "rb")


def _driver(text: str) -> tuple[Any, str]:
    """The driver of a URL, and what it calls the object."""
    import fsspec

    scheme = scheme_of(text)
    extra = EXTRAS.get(scheme)
    try:
        files = fsspec.filesystem(scheme)
    except ImportError:
        raise ImageError(
            "bad_uri", f"{scheme}:// needs an extra; pip install 'caption-pipeline[{extra}]'"
        ) from None
    return files, files._strip_protocol(text)  # noqa: SLF001 - fsspec's own way to do it


def shown(text: str) -> str:
    """The URL without its query, which may hold a signature."""
    return brief(text.partition("?")[0])


def bucket_of(text: str) -> str:
    """`s3://BUCKET` of an object's URL."""
    return "/".join(text.split("/")[:3])


def remote_trouble(text: str, error: Exception) -> ImageError:
    """What a failed read of an object means: its own fault, its bucket's or this machine's."""
    bucket, name = bucket_of(text), shown(text)
    if (reason := _of_all(text, error)) is not None:
        _forget_login(text)
        return SourceUnavailable("connect", f"{name}: {reason}", place=bucket, certain=True)
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return ImageError("missing_file", f"{name}: no such object")
    if isinstance(error, PermissionError):  # this object, or all of them
        return SourceUnavailable(
            "missing_file", f"{name}: access denied", place=bucket, certain=False
        )
    place = place_of_errno(getattr(error, "errno", None), bucket) or bucket
    code, reason = "connect", getattr(error, "strerror", None) or type(error).__name__
    if isinstance(error, TimeoutError):
        code, reason = "timeout", "the store did not answer in time"
    return SourceUnavailable(code, f"{name}: {reason}", place=place, certain=place == MACHINE)


def _of_all(text: str, error: Exception) -> str | None:
    """What is the matter with a login, an endpoint or a bucket; None: it may be this object."""
    if any(kind.__name__ in _UNREACHABLE for kind in type(error).__mro__):
        return type(error).__name__
    code = _code_of(error)
    if code in ("400", "403"):  # of a HEAD, whose answer has no body to say why
        try:
            files, name = _driver(text)
            files.cat_file(name, start=0, end=1)
        except Exception as said:  # noqa: BLE001 - every driver has errors of its own
            code = _code_of(said)
    return code if code in _REFUSED else None


def _code_of(error: Exception) -> str | None:
    """The store's own word for an error, where botocore tells it."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code")) if isinstance(response, dict) else None


def _forget_login(text: str) -> None:
    """The next try reads credentials and endpoint anew, which the driver would keep."""
    type(_driver(text)[0]).clear_instance_cache()
