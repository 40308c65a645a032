"""The keys of many plain images at once: the formula of `identity.py`, without a look at each row.

Most manifests hold URLs without a query, or paths, and one prompt for all. Naming their rows this
way takes half the time; what is anything else is left to `identity.py`.
"""

from __future__ import annotations

from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc


def plain_keys(recipe: str, images: pa.Array, prompt: str) -> bytes | None:
    """16 bytes for each image, one after the other; None where an image is none of the plain ones."""
    if images.null_count or not len(images):
        return None if images.null_count else b""
    kind = _kind(images)
    if kind is None:
        return None
    head, tail = f"v1\n{recipe}\n{kind}", f"\n{prompt}"
    asked = pc.binary_join_element_wise(head, images, tail, "").cast(pa.binary())
    return b"".join([sha256(text).digest()[:16] for text in asked.to_pylist()])


def _kind(images: pa.Array) -> str | None:
    """What all of them are: `url:` without a query, or `path:`."""
    web = pc.or_(pc.starts_with(images, "https://"), pc.starts_with(images, "http://"))
    if web.true_count == len(images):
        return None if pc.any(pc.match_substring(images, "?")).as_py() else "url:"
    # A scheme and a data URI have a colon, a URL without its scheme two slashes; so may a path,
    # which then takes the slow way.
    odd = pc.any(pc.match_substring_regex(images, ":|//")).as_py()
    empty = pc.any(pc.equal(pc.binary_length(images), 0)).as_py()
    return None if odd or empty else "path:"
