"""What makes an image, a prompt and a question the same one: the key formula.

`recipe` names how is asked, `image` what is asked about, the rendered prompt with what words;
`key` is all three. The formula is fixed (`v1`): changing it would ask everything again.

A signed URL names the same image after its signature was renewed, so a *complete* set of
signing parameters is taken out: S3 (query string authentication, versions 2 and 4), Google
Cloud Storage (signed URLs, versions 2 and 4), Azure (SAS) and CloudFront. A set that lacks a
parameter, or whose value is empty, is left alone: it may mean something else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, overload

from pipeline.captioning.parse_reply import safe_text
from pipeline.captioning.prompt import as_text
from pipeline.media import web_url
from pipeline.model import ImageValue


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to sign a URL."""

    #: Without any one of these the URL is not signed this way.
    proof: frozenset[str]
    #: These and the proof go together.
    others: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return self.proof | self.others


def _signature(proof: str, others: str = "") -> Signature:
    return Signature(frozenset(proof.split()), frozenset(others.split()))


#: A SAS may leave its permissions to a stored policy (`si`), and an account SAS has no `sr`.
_AZURE = "se si sp sr ss srt st spr sip skoid sktid skt ske sks skv saoid suoid scid sdd ses"

#: From the services' own documents: Amazon S3 "Authenticating Requests: Using Query Parameters"
#: (version 4) and "query string request authentication alternative" (version 2), Google Cloud
#: Storage "Signed URLs" (V4 and V2), Azure Storage "Create a service / account / user delegation
#: SAS", CloudFront "signed URLs using a canned / custom policy". Names are case-sensitive there.
SIGNATURES: tuple[Signature, ...] = (
    _signature(
        "X-Amz-Algorithm X-Amz-Credential X-Amz-Date X-Amz-Expires X-Amz-SignedHeaders "
        "X-Amz-Signature",
        "X-Amz-Security-Token",
    ),
    _signature("AWSAccessKeyId Signature Expires", "x-amz-security-token"),
    _signature(
        "X-Goog-Algorithm X-Goog-Credential X-Goog-Date X-Goog-Expires X-Goog-SignedHeaders "
        "X-Goog-Signature"
    ),
    _signature("GoogleAccessId Signature Expires"),
    _signature("sv sig se", _AZURE),
    _signature("sv sig si", _AZURE),
    _signature("Key-Pair-Id Signature Expires"),
    _signature("Key-Pair-Id Signature Policy"),
)
#: One of these stands in every signed query: the quick look before the exact one.
PROOFS = ("X-Amz-Signature=", "X-Goog-Signature=", "Signature=", "sig=")


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
#: Most images; what follows for other values comes to the same for these.
_WEB = ("https://", "http://")
_COLUMN = "column:"


def recipe(
    *,
    model: str,
    system: str | None,
    prompt: str,
    params: Mapping[str, object],
    extra_body: Mapping[str, object],
    fields: Mapping[str, object],
) -> str:
    """16 hex of SHA-256 over the canonical JSON of how is asked; `max_tokens` does not count."""
    how = {
        "model": model,
        "system": system,
        "prompt": prompt,
        "params": {name: value for name, value in params.items() if name != "max_tokens"},
        "extra_body": dict(extra_body),
        "fields": dict(fields),
    }
    text = json.dumps(
        _plain(how), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str
    )
    return _sha256(text)[:16]


def _plain(value: object) -> object:
    """Nested values with text as keys: YAML also allows numbers, which do not sort beside text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _sha256(text: str) -> str:
    return _digest(text).hex()


def _digest(text: str) -> bytes:
    # A lone surrogate cannot be encoded; it can come from a manifest only through JSON.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def unsigned(url: str) -> str:
    """The URL without a complete set of signing parameters; anything else comes back as it is."""
    head, mark, query = url.partition("?")
    if not mark or "#" in head or not any(proof in query for proof in PROOFS):
        return url
    query, hash_, fragment = query.partition("#")
    pairs = [part.partition("=") for part in query.split("&")]
    given = {name for name, _, value in pairs if value}
    gone = {name for every in SIGNATURES if given >= every.proof for name in every.names}
    if not gone:
        return url
    query = "&".join("".join(pair) for pair in pairs if pair[0] not in gone)
    return head + ("?" + query if query else "") + hash_ + fragment


def content_identity(sha256: str) -> str:
    """The identity of an image known by its bytes."""
    return f"sha256:{sha256}"


def bad_identity(value: object) -> str:
    """The identity of a cell that holds no image: all empty cells are one."""
    return f"bad:{value if isinstance(value, str) else ''}"


@overload
def image_identity(value: ImageValue) -> str: ...
@overload
def image_identity(
    value: ImageValue, *, settings_identity: Literal["auto"], column_value: object = None
) -> str: ...
@overload
def image_identity(
    value: ImageValue, *, settings_identity: str, column_value: object = None
) -> str | None: ...
def image_identity(
    value: ImageValue, *, settings_identity: str = "auto", column_value: object = None
) -> str | None:
    """`url:…`, `path:…`, `sha256:…` or `id:…`; None where `content` needs bytes not yet read.

    settings_identity: `images.identity` of the job. column_value: the cell of its column.
    """
    if settings_identity == "auto" and isinstance(value, str) and value.startswith(_WEB):
        return "url:" + value if "?" not in value else "url:" + unsigned(value)
    if settings_identity.startswith(_COLUMN):
        return f"id:{as_text(column_value)}"
    if isinstance(value, Mapping):
        content = value.get("bytes")
        value = content if isinstance(content, bytes) and content else str(value.get("path") or "")
    if isinstance(value, bytes):
        return content_identity(hashlib.sha256(value).hexdigest())
    if not value:
        return bad_identity(value)
    if value[:5].lower() == "data:":
        return content_identity(_sha256(value))
    if settings_identity == "content":
        return None
    url = web_url(value) or value
    if _SCHEME.match(url):
        return "url:" + unsigned(url)
    return "path:" + value


def shown_image(value: ImageValue) -> str:
    """The image as records and logs show it: no signature, no bytes, no data URI."""
    if isinstance(value, str) and value.startswith(_WEB) and "?" not in value:
        return safe_text(value)  # most images; what follows comes to the same
    identity = image_identity(value)
    kind, _, rest = identity.partition(":")
    return identity if kind == "sha256" else safe_text(rest)


def item_key(recipe: str, image: str, prompt: str) -> str:
    """32 hex: the key of one question about one image."""
    return raw_key(recipe, image, prompt).hex()


def raw_key(recipe: str, image: str, prompt: str) -> bytes:
    """The 16 bytes that `item_key` spells out."""
    return _digest(f"v1\n{recipe}\n{image}\n{prompt}")[:16]


@lru_cache(maxsize=4)  # most jobs have one prompt
def prompt_id(prompt: str, system: str | None) -> str:
    """16 hex naming the words that were asked."""
    return _sha256(f"{system or ''}\n{prompt}")[:16]


__all__ = [
    "bad_identity",
    "content_identity",
    "image_identity",
    "item_key",
    "prompt_id",
    "raw_key",
    "recipe",
    "shown_image",
    "unsigned",
]
