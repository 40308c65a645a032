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


def decode(
    data: bytes, mode: str, whole: tuple[int, int], size: tuple[int, int]
) -> Pil.Image | None:
    """A JPEG of `whole` pixels at the smallest scale that is not below `size`; None: use Pillow.

    mode: RGB or L.
    """
    if simplejpeg is None:
        return None
    # Only halves: in between (7/8…) the library is slower, and lines come out visibly coarser.
    by = next(
        factor
        for factor in (8, 4, 2, 1)
        if all(w // factor >= s for w, s in zip(whole, size, strict=True)) or factor == 1
    )
    try:
        pixels = simplejpeg.decode_jpeg(
            data,
            "GRAY" if mode == "L" else "RGB",
            fastdct=True,
            min_width=-(-whole[0] // by),
            min_height=-(-whole[1] // by),
        )
    except (ValueError, MemoryError):
        return None
    return Pil.fromarray(pixels.squeeze(2) if mode == "L" else pixels)


def encode(picture: Pil.Image, quality: int, colours: str) -> bytes | None:
    """RGB pixels as JPEG; None: use Pillow."""
    if simplejpeg is None:
        return None
    pixels = np.asarray(picture)
    made: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", colours)
    return made
