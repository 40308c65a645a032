"""How a picture's file ends: cut short, or whole but for a mark that no pixel needs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from pipeline.images.limits import MAX_BYTES
from pipeline.patterns import lazy

_EOI = b"\xff\xd9"
#: A marker that ends entropy-coded data: no stuffed 0xFF, no restart.
_MARKER = lazy(rb"\xff+([^\x00\xff\xd0-\xd7])")
_RESTART = lazy(rb"\xff([\xd0-\xd7])")
_START_OF_SCAN = 0xDA
#: Start of frame: baseline, extended, progressive, and so on.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Type of a TIFF's field -> its bytes, for those whose values stand elsewhere.
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8, 12: 8}
#: Bits that mean something where entropy-coded data still is to come, and nothing where not.
_NOISE = random.Random(0).randbytes(512).replace(b"\xff", b"")


def without_end(data: bytes) -> bool:
    """Does a JPEG end before its end marker?"""
    return not data.endswith(_EOI) and _EOI[1] not in {marker for marker, *_ in _segments(data)}


def completed(data: bytes) -> tuple[bytes, bytes] | None:
    """A JPEG without its end marker, completed in two ways; None where a scan is missing.

    It is whole if both are the same picture: the second has noise behind the last scan, which is
    read as pixels where some are missing, and passed over where none are.
    """
    if _scans_missing(data):
        return None
    body = data.rstrip(b"\xff")
    restarts = _RESTART.findall(body)
    following = 0xD0 + (restarts[-1][0] + 1 & 7) if restarts else 0xD0
    noise = _NOISE + bytes([0xFF, following]) + _NOISE
    return body + _EOI, body + noise + _EOI


def _scans_missing(data: bytes) -> bool:
    """Does a JPEG end before every coefficient of every component has had its last bit?"""
    components: list[int] = []
    #: (component, coefficient) that is there to its last bit.
    whole: set[tuple[int, int]] = set()
    for marker, start, end in _segments(data):
        body = data[start:end]
        if marker in _FRAMES and len(body) > 5:
            components = [body[at] for at in range(6, len(body) - 2, 3)]
        elif marker == _START_OF_SCAN and body:
            count = body[0]
            named = body[1 : 1 + 2 * count : 2]
            first, last, bits = body[-3], body[-2], body[-1] & 15
            if not bits:
                whole.update(
                    (component, at) for component in named for at in range(first, last + 1)
                )
    return not components or len(whole) < 64 * len(components)


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """(marker, start and end of its parameters), in order, up to the end marker."""
    segments, at = [], 2
    while (match := _MARKER.search(data, at)) is not None:
        marker, at = match[1][0], match.end()
        if marker == _EOI[1]:
            segments.append((marker, at, at))
            break
        end = at + int.from_bytes(data[at : at + 2])
        if end > len(data):
            break
        segments.append((marker, at + 2, end))
        at = end
    return segments


def _gif(data: bytes) -> bool:
    def colours(at: int) -> int:
        flags = int.from_bytes(data[at : at + 1])
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    at = 13 + colours(10)
    while at < len(data) and data[at] != ord(";"):
        if data[at] not in b"!,":
            at += 1  # decoders pass over what is no block
            continue
        at += 2 if data[at] == ord("!") else 11 + colours(at + 9)
        while size := int.from_bytes(data[at : at + 1]):
            at += size + 1
        at += 1
    return at > len(data)


def _boxes(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        if size < 8:
            return False  # up to the end of the file
        at += size
    return at > len(data)


def _tiff(data: bytes) -> bool:
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    directory = number(4, 4)  # with what it names often the last part of the file
    ends = [directory + 2 + 12 * number(directory, 2)]
    for entry in range(directory + 2, min(ends[0], len(data)), 12):
        size = _TIFF_SIZES.get(number(entry + 2, 2), 0) * number(entry + 4, 4)
        ends.append(0 if size <= 4 else number(entry + 8, 4) + size)
    return len(data) < max(ends) < MAX_BYTES  # beyond that it is no TIFF


#: Format -> does a file of it end before it should?
_ENDS_EARLY: dict[str, Callable[[bytes], bool]] = {
    "JPEG": without_end,
    "PNG": lambda data: b"IEND" not in data,
    "GIF": _gif,
    "WEBP": lambda data: int.from_bytes(data[4:8], "little") + 8 > len(data),
    "BMP": lambda data: int.from_bytes(data[2:6], "little") > len(data),
    "TIFF": _tiff,
    "HEIF": _boxes,
    "AVIF": _boxes,
}


def animation_cut(data: bytes, kind: str) -> bool:
    """Does an animation end early, though its first frame is whole? kind: as Pillow calls it."""
    return kind in ("GIF", "PNG") and _ENDS_EARLY[kind](data)


def cut_short(data: bytes, kind: str, error: Exception) -> bool:
    """Was a picture that cannot be decoded cut short? kind: as Pillow calls it."""
    said = str(error).lower()
    return _ENDS_EARLY[kind](data) or "truncated" in said or "end of file" in said
