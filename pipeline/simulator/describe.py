"""A picture in words, from its pixels: proof that this very image arrived.

Cheap on purpose: a JPEG is decoded at reduced scale, and everything is measured by Pillow's own
C code on small copies. Never trusts a declared type: what counts are the first bytes.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from PIL import Image, ImageChops

#: Names for the corners and middles of RGB, far enough apart to be told from one another.
_COLOURS = {
    "black": (20, 20, 20),
    "dark grey": (75, 75, 75),
    "grey": (128, 128, 128),
    "light grey": (190, 190, 190),
    "white": (242, 242, 242),
    "red": (195, 40, 40),
    "orange": (228, 130, 40),
    "brown": (110, 70, 40),
    "yellow": (230, 210, 60),
    "olive": (120, 120, 50),
    "green": (60, 145, 60),
    "dark green": (35, 70, 35),
    "teal": (40, 130, 130),
    "blue": (50, 80, 185),
    "navy": (25, 35, 90),
    "sky blue": (135, 185, 230),
    "purple": (120, 60, 150),
    "pink": (230, 150, 180),
    "beige": (215, 195, 165),
}
_NAMES = tuple(_COLOURS)
_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}


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
    colours: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """For the log."""
        return asdict(self)


class BadImage(Exception):
    """Not a picture that can be decoded."""


class HugeImage(BadImage):
    """More pixels than the service looks at."""


def magic(data: bytes) -> str | None:
    """The media type that the first bytes tell."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp":
        return "image/avif" if data[8:12] in (b"avif", b"avis") else "image/heic"
    for start, mime in (
        (b"GIF8", "image/gif"),
        (b"BM", "image/bmp"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"%PDF", "application/pdf"),
    ):
        if data.startswith(start):
            return mime
    return None


def see(data: bytes, mime: str, *, max_pixels: int = 100_000_000) -> Seen:
    """Look at an image; BadImage when it cannot be decoded, HugeImage when it is too large."""
    if mime not in _FORMATS:
        raise BadImage(mime)
    try:
        with Image.open(io.BytesIO(data), formats=[_FORMATS[mime]]) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise HugeImage(f"{width} x {height}")
            picture.draft("RGB", (256, 256))
            picture.load()
            rgb = picture.convert("RGB")
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on broken files
        raise BadImage(type(error).__name__) from None
    small = rgb.resize((64, 64), Image.Resampling.BOX)
    shares = _shares(small)
    return Seen(
        sha256=hashlib.sha256(data).hexdigest(),
        dhash=_dhash(rgb),
        mime=mime,
        width=width,
        height=height,
        caption=_words(small, shares, width, height),
        colours=tuple(shares),
    )


def _dhash(rgb: Image.Image) -> str:
    """64 bits: is each of 8 x 8 cells darker than its right neighbour?"""
    pixels = rgb.convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = 0
    for row in range(0, 72, 9):
        for at in range(row, row + 8):
            bits = bits << 1 | (pixels[at] < pixels[at + 1])
    return f"{bits:016x}"


@cache
def _palette() -> Image.Image:
    palette = Image.new("P", (1, 1))
    palette.putpalette([level for colour in _COLOURS.values() for level in colour])
    return palette


def _shares(small: Image.Image) -> dict[str, int]:
    """The three most frequent named colours, with their percentages."""
    named = small.quantize(palette=_palette(), dither=Image.Dither.NONE).histogram()
    area = small.width * small.height
    ranked = sorted(range(len(_NAMES)), key=lambda i: (-named[i], i))[:3]
    return {_NAMES[i]: round(100 * named[i] / area) for i in ranked if named[i]}


def _words(small: Image.Image, shares: dict[str, int], width: int, height: int) -> str:
    red, green, blue = _mean(small)
    mean = (red + green + blue) / 3
    light = "A dark" if mean < 80 else "A bright" if mean > 170 else "An evenly lit"
    grey = small.convert("L")
    (steps,) = _mean(ImageChops.difference(grey, ImageChops.offset(grey, 1, 0)))
    detail = "little" if steps < 4 else "much" if steps > 14 else "some"
    shape = "square" if width == height else "landscape" if width > height else "portrait"
    colours = ", ".join(f"{name} ({share} %)" for name, share in shares.items())
    return (
        f"{light} {shape} of {width} x {height} pixels, mostly {colours}, with {detail} "
        f"detail; its mean colour is #{red:02x}{green:02x}{blue:02x}."
    )


def _mean(picture: Image.Image) -> bytes:
    """The mean of each channel, rounded."""
    return picture.resize((1, 1), Image.Resampling.BOX).tobytes()
