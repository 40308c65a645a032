"""What bytes are, told by the first of them: never by a name, an ending or a header of HTTP."""

from __future__ import annotations

from pipeline.errors import ImageError

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)
#: Not read, but told by name: the usual strangers in image columns.
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "a Photoshop file"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"version https://git-lfs", "a Git LFS pointer (run git lfs pull)"),
)
_AVIF, _HEIF = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"mif1")
PAGE = "an HTML page"
_READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, and HEIC or AVIF with an extra"


def kind_of(data: bytes) -> str:
    """The format as Pillow calls it; ImageError `unsupported_format`, `corrupt` when empty."""
    if not data:
        raise ImageError("corrupt", "the file is empty")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        # The brand, then what else it is compatible with: `mif1` may hold either.
        brands = {data[at : at + 4] for at in range(8, min(int.from_bytes(data[:4]), 64), 4)}
        if brands & set(_AVIF):
            return "AVIF"
        if brands & set(_HEIF):
            return "HEIF"
    raise ImageError("unsupported_format", f"{_named(data)}; pictures are {_READ}")


def _named(data: bytes) -> str:
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return PAGE
    if head.startswith((b"<svg", b"<?xml")):
        return "SVG or other XML"
    return "not a picture"
