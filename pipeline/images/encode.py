"""Bytes of a stranger -> a small clean JPEG. Runs in worker processes; never on the event loop.

The pixel count is read from the header before anything is decoded. A JPEG is decoded at the
smallest of its own scales that is not below the final size. The result carries no metadata:
rotation is applied, colours become sRGB, transparency becomes white, and what follows the picture
in the file (another file, a script) is gone.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import replace

from PIL import AvifImagePlugin, ImageFile, UnidentifiedImageError, features
from PIL import Image as Pil

from pipeline.errors import ImageError
from pipeline.images import fast
from pipeline.images.colours import IGNORED, to_srgb
from pipeline.images.ends import animation_cut, completed, cut_short, without_end
from pipeline.images.limits import MAX_JPEG_PIXELS, MAX_PIXELS
from pipeline.images.sniff import kind_of
from pipeline.model import Image

# A picture cut short must fail, not be padded with grey.
ImageFile.LOAD_TRUNCATED_IMAGES = False
Pil.MAX_IMAGE_PIXELS = None  # the cap is ours, checked before any decoding
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is a worker for each core

#: Up to this longer side, colours are sent in full resolution.
TINY = 128
_ORIENTATION = 0x0112
#: EXIF orientation -> how it is undone.
_TURNS = {
    2: Pil.Transpose.FLIP_LEFT_RIGHT,
    3: Pil.Transpose.ROTATE_180,
    4: Pil.Transpose.FLIP_TOP_BOTTOM,
    5: Pil.Transpose.TRANSPOSE,
    6: Pil.Transpose.ROTATE_270,
    7: Pil.Transpose.TRANSVERSE,
    8: Pil.Transpose.ROTATE_90,
}
#: Those after which the width is the height.
_SIDEWAYS = frozenset(_TURNS[number] for number in (5, 6, 7, 8))
_CLEAR = ("RGBA", "LA", "PA", "RGBa", "La")


def encode(data: bytes, max_side: int, quality: int, max_pixels: int = MAX_PIXELS) -> Image:
    """The picture in `data`, at most `max_side` pixels on its longer side, as JPEG.

    ImageError: unsupported_format, corrupt, too_many_pixels.
    """
    kind = kind_of(data)
    _driver(kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is not our matter: it is dropped
            if kind == "JPEG" and without_end(data):
                return _without_end(data, max_side, quality, max_pixels)
            return _encode(data, kind, max_side, quality, max_pixels)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("too_many_pixels", "too large to decode") from None
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on broken files
        if cut_short(data, kind, error):
            raise _cut_short(kind) from None
        if isinstance(error, UnidentifiedImageError):
            # TIFF is a family: its header may well be whole and describe what Pillow does not read.
            code = "unsupported_format" if kind == "TIFF" else "corrupt"
            raise ImageError(code, f"not a {kind} that can be read") from None
        raise ImageError("corrupt", f"this {kind} is damaged") from None


def _without_end(data: bytes, max_side: int, quality: int, max_pixels: int) -> Image:
    """A JPEG that lacks nothing but its end marker."""
    ways = completed(data)
    if ways is None:
        raise _cut_short("JPEG")
    limits = "JPEG", max_side, quality, max_pixels
    # `fast` refuses noise between a scan and the end marker.
    first, second = (_encode(way, *limits, quick=False) for way in ways)
    if first.data != second.data:
        raise _cut_short("JPEG")
    image = _encode(ways[0], *limits)
    sha256 = hashlib.sha256(data).hexdigest()
    return replace(image, sha256=sha256, flags=(*image.flags, "end_added"))


def _cut_short(kind: str) -> ImageError:
    return ImageError("corrupt", f"this {kind} is cut short")


def _driver(kind: str) -> None:
    """HEIC is read by a plugin, AVIF by Pillows that were built with it."""
    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            raise ImageError(
                "unsupported_format", "HEIC needs an extra; pip install 'caption-pipeline[heif]'"
            ) from None
        pillow_heif.register_heif_opener()
        pillow_heif.options.DECODE_THREADS = 1  # there is a worker for each core
    elif kind == "AVIF" and not features.check("avif"):
        raise ImageError(
            "unsupported_format", "AVIF needs an extra; pip install 'caption-pipeline[heif]'"
        )


def _encode(
    data: bytes, kind: str, max_side: int, quality: int, max_pixels: int, *, quick: bool = True
) -> Image:
    with Pil.open(io.BytesIO(data), formats=[kind]) as picture:
        width, height = picture.size
        if width * height > (max(MAX_JPEG_PIXELS, max_pixels) if kind == "JPEG" else max_pixels):
            raise _too_many(picture)
        flags = []
        if kind != "JPEG" and getattr(picture, "is_animated", False):
            if animation_cut(data, kind):
                raise _cut_short(kind)
            flags.append("first_frame")
        if max(width, height) > max_side:
            flags.append("resized")
        size = _fit(picture.size, max_side)
        plain_jpeg = quick and kind == "JPEG" and picture.mode in ("RGB", "L")
        final = fast.decode(data, picture.mode, picture.size, size) if plain_jpeg else None
        if final is None:
            if kind == "JPEG":
                picture.draft(None, size)
                if picture.width * picture.height > max_pixels:
                    raise _too_many(picture)
            picture.load()
            final = _resizable(picture)
        if final.size != size:
            # Pillow weighs colours by their opacity here; so white comes after.
            final = final.resize(size, Pil.Resampling.LANCZOS, reducing_gap=2.0)
        if "icc_profile" in picture.info:
            converted = to_srgb(final, picture.info["icc_profile"])
            if converted is None:
                flags.append(IGNORED)
            final = converted or final
        final = _rgb(final)
        # After the pixels: looking for a PNG's turn loads it, and hides that it is damaged.
        # Pillow itself turns a TIFF as it loads.
        turn = None if kind == "TIFF" else _turn(picture)
        if turn is not None:
            final = final.transpose(turn)
        if turn in _SIDEWAYS:
            width, height = height, width
        return Image(
            data=_jpeg(final, quality),
            mime="image/jpeg",
            sha256=hashlib.sha256(data).hexdigest(),
            width=final.width,
            height=final.height,
            original=(width, height),
            flags=tuple(flags),
        )


def _too_many(picture: Pil.Image) -> ImageError:
    return ImageError(
        "too_many_pixels",
        f"{picture.width} x {picture.height} pixels (images.max_pixels lets more through)",
    )


def _fit(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """The final size, before rotation."""
    longest = max(size)
    if longest <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height


def _turn(picture: Pil.Image) -> Pil.Transpose | None:
    try:
        return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken metadata does not make a broken picture
        return None


def _resizable(picture: Pil.Image) -> Pil.Image:
    """The pixels in a mode that can be resized and that profiles are made for: L, LA, RGB, RGBA,
    CMYK. Grey stays grey until it is small: a fourth of the memory."""
    mode = picture.mode
    if mode.startswith(("I", "F")):
        return _eight_bits(picture)
    if "transparency" in picture.info or mode in _CLEAR:
        return picture if mode in ("LA", "RGBA") else picture.convert("RGBA")
    if mode == "1":
        return picture.convert("L")
    if mode in ("L", "RGB", "CMYK"):
        return picture
    try:
        return picture.convert("RGB")
    except ValueError:
        raise ImageError("unsupported_format", f"colours of the kind {mode}") from None


def _rgb(picture: Pil.Image) -> Pil.Image:
    """RGB on white."""
    if picture.mode not in ("LA", "RGBA"):
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    clear = picture.convert("RGBA")
    white = Pil.new("RGB", clear.size, "white")
    white.paste(clear, mask=clear.getchannel("A"))
    return white


def _eight_bits(picture: Pil.Image) -> Pil.Image:
    """Grey of 16 or 32 bits, or of fractions, as 8 bits."""
    if picture.mode.startswith("I;16"):
        top = 65535.0
    else:
        _, high = picture.getextrema()
        assert isinstance(high, int | float)
        # The format does not say what white is: 1, 255, 65535, or else the brightest that is there.
        tops = (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0)
        top = next((value for value in tops if high <= value), float(high))
    return picture.convert("F").point(lambda v: v * (255.0 / top) + 0.5).convert("L")


def _jpeg(picture: Pil.Image, quality: int) -> bytes:
    # In a tiny picture a pixel's colour matters; four times the colours cost little there.
    colours = "444" if max(picture.size) <= TINY else "420"
    quick = fast.encode(picture, quality, colours)
    if quick is not None:
        return quick
    out = io.BytesIO()
    picture.info.clear()  # Pillow would write the old file's comment into the new one
    picture.save(out, "JPEG", quality=quality, subsampling=":".join(colours))
    return out.getvalue()
