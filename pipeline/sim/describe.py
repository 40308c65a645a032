"""A picture in words, from its pixels: proof that this very image arrived."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image

#: Names for the corners and middles of RGB, far enough apart to be told from one another.
_COLOURS = {
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "white": (240, 240, 240),
    "red": (190, 40, 40),
    "orange": (225, 130, 40),
    "brown": (110, 70, 40),
    "yellow": (230, 210, 60),
    "green": (60, 140, 60),
    "teal": (40, 130, 130),
    "blue": (50, 80, 180),
    "sky blue": (135, 185, 230),
    "purple": (120, 60, 150),
    "pink": (230, 150, 180),
    "beige": (215, 195, 165),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One image as the service received it."""

    sha256: str
    #: 64-bit difference hash, hex: equal for the same picture after re-encoding, nearly.
    dhash: str
    mime: str
    width: int
    height: int
    caption: str


class BadImage(Exception):
    """Not a picture that the service takes."""


def see(data: bytes, mime: str) -> Seen:
    """Look at an image; BadImage when it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "GIF"]) as picture:
            picture.load()
            rgb = picture.convert("RGB")
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on broken files
        raise BadImage(type(error).__name__) from None
    grey = rgb.convert("L").resize((9, 8), Image.Resampling.BOX)
    pixels = list(grey.tobytes())
    bits = 0
    for row in range(8):
        for column in range(8):
            at = row * 9 + column
            bits = bits << 1 | (pixels[at] < pixels[at + 1])
    return Seen(
        sha256=hashlib.sha256(data).hexdigest(),
        dhash=f"{bits:016x}",
        mime=mime,
        width=rgb.width,
        height=rgb.height,
        caption=_words(rgb),
    )


def _words(rgb: Image.Image) -> str:
    small = rgb.resize((24, 24), Image.Resampling.BOX)
    raw = small.tobytes()
    points = [tuple(raw[i : i + 3]) for i in range(0, len(raw), 3)]
    counts: dict[str, int] = {}
    for point in points:
        name = min(
            _COLOURS,
            key=lambda c: sum((a - b) ** 2 for a, b in zip(point, _COLOURS[c], strict=True)),
        )
        counts[name] = counts.get(name, 0) + 1
    ranked = sorted(counts, key=lambda c: (-counts[c], c))[:3]
    shares = [f"{name} ({counts[name] * 100 // len(points)} %)" for name in ranked]
    mean = sum(sum(point) for point in points) / (3 * len(points))
    light = "dark" if mean < 80 else "bright" if mean > 170 else "evenly lit"
    levels = [sum(point) / 3 for point in points]
    steps = sum(abs(a - b) for a, b in pairwise(levels)) / len(levels)
    detail = "little" if steps < 6 else "much" if steps > 20 else "some"
    width, height = rgb.size
    shape = "square" if width == height else "landscape" if width > height else "portrait"
    red, green, blue = (sum(p[i] for p in points) // len(points) for i in range(3))
    return (
        f"{'An' if light[0] in 'aeiou' else 'A'} {light} {shape} picture of {width} x {height} pixels, mostly {', '.join(shares)}, "
        f"with {detail} detail; its mean colour is #{red:02x}{green:02x}{blue:02x}."
    )
