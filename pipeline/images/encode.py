"""Bytes of a stranger -> a small clean JPEG. Runs in worker processes; never on the event loop.

What the bytes are is told by their first bytes, never by a name or a header. The pixel count is
read from the header before anything is decoded. The result carries no metadata: rotation is
applied, colours become RGB, transparency becomes white.
"""

from __future__ import annotations

import hashlib
import io
import warnings

from PIL import Image as Pil
from PIL import ImageFile, ImageOps

from pipeline.errors import ImageError
from pipeline.records import Image

#: Decoded pixels; a JPEG may have more, as it is shrunk while it is decoded.
MAX_PIXELS, MAX_JPEG_PIXELS = 40_000_000, 120_000_000
_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
_MAGIC: tuple[tuple[bytes, int, str], ...] = (
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"WEBP", 8, "WEBP"),
    (b"GIF87a", 0, "GIF"),
    (b"GIF89a", 0, "GIF"),
    (b"BM", 0, "BMP"),
    (b"II*\x00", 0, "TIFF"),
    (b"MM\x00*", 0, "TIFF"),
)
_HEIF = (b"heic", b"heix", b"mif1", b"msf1", b"avif")

# A picture cut short must fail, not be padded with grey.
ImageFile.LOAD_TRUNCATED_IMAGES = False
Pil.MAX_IMAGE_PIXELS = None  # the cap is ours, checked before any decoding


def kind_of(data: bytes) -> str:
    """The format by its first bytes; ImageError `unsupported_format`."""
    for magic, at, name in _MAGIC:
        if data[at : at + len(magic)] == magic and (name != "WEBP" or data[:4] == b"RIFF"):
            return name
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF:
        try:
            import pillow_heif
        except ImportError:
            raise ImageError(
                "unsupported_format", "HEIC and AVIF need the extra: caption-pipeline[heif]"
            ) from None
        pillow_heif.register_heif_opener()
        pillow_heif.register_avif_opener()
        return "AVIF" if data[8:12] == b"avif" else "HEIF"
    if not data:
        raise ImageError("corrupt", "the file is empty")
    raise ImageError("unsupported_format", "not a JPEG, PNG, WebP, GIF, BMP or TIFF picture")


def encode(data: bytes, max_side: int, quality: int) -> Image:
    """The picture in `data`, at most `max_side` pixels on its longer side, as JPEG.

    ImageError: unsupported_format, corrupt, too_many_pixels.
    """
    kind = kind_of(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is not our matter: it is dropped
            return _encode(data, kind, max_side, quality)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("too_many_pixels", "too large to decode") from None
    except Exception as error:  # noqa: BLE001 - decoders raise nearly anything on broken files
        raise ImageError("corrupt", f"{kind} cannot be decoded ({type(error).__name__})") from None


def _encode(data: bytes, kind: str, max_side: int, quality: int) -> Image:
    flags: list[str] = []
    with Pil.open(io.BytesIO(data), formats=[*_FORMATS, kind]) as picture:
        width, height = picture.size
        if width * height > (MAX_JPEG_PIXELS if kind == "JPEG" else MAX_PIXELS):
            raise ImageError("too_many_pixels", f"{width} x {height} pixels")
        if getattr(picture, "n_frames", 1) > 1:
            flags.append("first_frame")
        # JPEG decoders can shrink by 2, 4, 8 while decoding; never below the final size.
        picture.draft("RGB", (max_side, max_side))
        picture.load()
        final: Pil.Image = ImageOps.exif_transpose(picture) or picture
        final = _rgb(final)
        if max(final.size) > max_side:
            final.thumbnail((max_side, max_side), Pil.Resampling.LANCZOS, reducing_gap=2.0)
        if max(width, height) > max_side:
            flags.append("resized")
        out = io.BytesIO()
        final.save(out, "JPEG", quality=quality)
        return Image(
            data=out.getvalue(),
            mime="image/jpeg",
            sha256=hashlib.sha256(data).hexdigest(),
            width=final.width,
            height=final.height,
            flags=tuple(flags),
        )


def _rgb(picture: Pil.Image) -> Pil.Image:
    """RGB on white, whatever it was."""
    if picture.mode.startswith(("I", "F")):
        # 16 and 32 bits: stretch what is there to 8 bits.
        low, high = picture.getextrema()
        assert isinstance(low, int | float)
        assert isinstance(high, int | float)
        top = 65535.0 if picture.mode.startswith("I") and high > 255 else max(float(high), 1.0)
        return picture.convert("F").point(lambda v: v * (255.0 / top)).convert("L").convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        clear = picture.convert("RGBA")
        white = Pil.new("RGBA", clear.size, "white")
        return Pil.alpha_composite(white, clear).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")
