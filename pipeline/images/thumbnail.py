"""Thumbnails: a picture as it was sent, made small enough for a page of thousands.

WebP takes a third less than JPEG at these sizes. The input is an image that `encode.py` has made,
never a stranger's file. Runs in a worker process, as `encode` does.
"""

from __future__ import annotations

import io

from PIL import Image as Pil

#: Longer side in pixels, and the bytes from which on a thumbnail of that size looks well.
SIDES = ((320, 9_000), (256, 6_000), (192, 3_500), (160, 2_300), (128, 1_500), (96, 800), (64, 0))
QUALITIES = (70, 40)


def thumbnail(data: bytes, limit: int) -> bytes:
    """A WebP of at most `limit` bytes, where that can be: the largest size that looks well."""
    with Pil.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (SIDES[0][0], SIDES[0][0]))
        small = picture.convert("RGB")
    made = b""
    for side in (side for side, enough in SIDES if limit >= enough):
        small.thumbnail((side, side), reducing_gap=2.0)
        for quality in QUALITIES:
            into = io.BytesIO()
            small.save(into, "WEBP", quality=quality, method=2)
            made = into.getvalue()
            if len(made) <= limit:
                return made
    return made
