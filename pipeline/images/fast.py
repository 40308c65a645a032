"""The extra `fast`: libjpeg-turbo through simplejpeg, where it is installed.

Only a shorter way to the same picture: whatever it refuses (a cut file, odd colours) goes through
Pillow, which decides.
"""

from __future__ import annotations

from PIL import Image as Pil

try:
    import numpy as np
    import simplejpeg
except ImportError:
    simplejpeg = None


def decode(data: bytes, size: tuple[int, int]) -> Pil.Image | None:
    """The JPEG at the smallest of its scales that is not below `size`; None: use Pillow."""
    if simplejpeg is None:
        return None
    width, height = size
    try:
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=True, min_width=width, min_height=height
        )
    except (ValueError, MemoryError):
        return None
    return Pil.fromarray(pixels)


def encode(picture: Pil.Image, quality: int) -> bytes | None:
    """RGB pixels as JPEG; None: use Pillow."""
    if simplejpeg is None:
        return None
    pixels = np.asarray(picture)
    made: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
    return made
