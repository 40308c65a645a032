"""Bytes of a stranger -> a small clean JPEG. Runs in worker processes; never on the event loop.

The pixel count is read from the header before anything is decoded. A JPEG is decoded at the
smallest of its own scales that is not below the final size. The result carries no metadata:
rotation is applied, colours become RGB, transparency becomes white, and what follows the picture
in the file (another file, a script) is gone.
"""

from __future__ import annotations

import hashlib
import io
import warnings

from PIL import Image as Pil
from PIL import ImageFile, UnidentifiedImageError, features

from pipeline.errors import ImageError
from pipeline.images import fast
from pipeline.images.limits import MAX_JPEG_PIXELS, MAX_PIXELS
from pipeline.images.sniff import kind_of
from pipeline.records import Image

# A picture cut short must fail, not be padded with grey.
ImageFile.LOAD_TRUNCATED_IMAGES = False
Pil.MAX_IMAGE_PIXELS = None  # the cap is ours, checked before any decoding

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
_CLEAR = ("RGBA", "LA", "PA", "RGBa", "La")


def encode(data: bytes, max_side: int, quality: int) -> Image:
    """The picture in `data`, at most `max_side` pixels on its longer side, as JPEG.

    ImageError: unsupported_format, corrupt, too_many_pixels.
    """
    kind = kind_of(data)
    _driver(kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is not our matter: it is dropped
            return _encode(data, kind, max_side, quality)
    except ImageError:
        raise
    except UnidentifiedImageError:
        # TIFF is a family: its header may well be whole and describe what Pillow does not read.
        code = "unsupported_format" if kind == "TIFF" else "corrupt"
        raise ImageError(code, f"not a {kind} that can be read") from None
    except MemoryError:
        raise ImageError("too_many_pixels", "too large to decode") from None
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on broken files
        raise ImageError("corrupt", f"{kind} cannot be decoded ({type(error).__name__})") from None


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
    elif kind == "AVIF" and not features.check("avif"):
        raise ImageError(
            "unsupported_format", "AVIF needs an extra; pip install 'caption-pipeline[heif]'"
        )


def _encode(data: bytes, kind: str, max_side: int, quality: int) -> Image:
    with Pil.open(io.BytesIO(data), formats=[kind]) as picture:
        width, height = picture.size
        if width * height > (MAX_JPEG_PIXELS if kind == "JPEG" else MAX_PIXELS):
            raise ImageError("too_many_pixels", f"{width} x {height} pixels")
        flags = []
        if kind != "JPEG" and getattr(picture, "is_animated", False):
            flags.append("first_frame")
        if max(width, height) > max_side:
            flags.append("resized")
        turn = None if kind == "TIFF" else _turn(picture)  # Pillow itself turns a TIFF as it loads
        final = _shrunk(picture, data, kind, _fit(picture.size, max_side))
        if turn is not None:
            final = final.transpose(turn)
        return Image(
            data=_jpeg(final, quality),
            mime="image/jpeg",
            sha256=hashlib.sha256(data).hexdigest(),
            width=final.width,
            height=final.height,
            flags=tuple(flags),
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


def _shrunk(picture: Pil.Image, data: bytes, kind: str, size: tuple[int, int]) -> Pil.Image:
    """RGB pixels at the final size."""
    plain_jpeg = kind == "JPEG" and picture.mode in ("RGB", "L")
    final = fast.decode(data, picture.size, size) if plain_jpeg else None
    if final is None:
        if kind == "JPEG":
            picture.draft("RGB", size)
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageError("too_many_pixels", f"{picture.width} x {picture.height} pixels")
        picture.load()
        # Grey stays grey until it is small: a fourth of the memory.
        grey = picture.convert("L") if picture.mode == "1" else picture
        plain = grey.mode == "L" and "transparency" not in picture.info
        final = grey if plain or grey.mode in _CLEAR else _rgb(picture)
    if final.size != size:
        # Pillow weighs colours by their opacity here; so white comes after.
        final = final.resize(size, Pil.Resampling.LANCZOS, reducing_gap=2.0)
    return _rgb(final)


def _rgb(picture: Pil.Image) -> Pil.Image:
    """RGB on white, whatever it was."""
    mode = picture.mode
    if mode == "RGB" and "transparency" not in picture.info:
        return picture
    if mode.startswith(("I", "F")):
        return _eight_bits(picture).convert("RGB")
    if mode in _CLEAR or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        white = Pil.new("RGB", clear.size, "white")
        white.paste(clear, mask=clear.getchannel("A"))
        return white
    try:
        return picture.convert("RGB")
    except ValueError:
        raise ImageError("unsupported_format", f"colours of the kind {mode}") from None


def _eight_bits(picture: Pil.Image) -> Pil.Image:
    """Grey of 16 or 32 bits, or of fractions, as 8 bits."""
    if picture.mode.startswith("I;16"):
        top = 65535.0
    else:
        _, high = picture.getextrema()
        assert isinstance(high, int | float)
        # The format does not say what white is: 1, 255, 65535, or else the brightest that is there.
        tops = (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0)
        top = next((one for one in tops if high <= one), float(high))
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
