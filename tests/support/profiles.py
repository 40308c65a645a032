"""ICC profiles made for tests: matrix, grey and CMYK, each as small as the format lets it be."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_WHITE = (0.9642, 1.0, 0.8249)
#: Primaries, adapted to D50.
ADOBE = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))
P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _curve(gamma: float) -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"


def _profile(space: bytes, tags: Mapping[bytes, bytes], *, kind: bytes, between: bytes) -> bytes:
    text = b"desc" + struct.pack(">II", 0, 5) + b"test\0" + bytes(78)
    whole = {b"desc": text + bytes(-len(text) % 4), b"wtpt": _xyz(_WHITE), **tags}
    table, data = b"", b""
    start = 128 + 4 + 12 * len(whole)
    for name, body in whole.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"test", 0x02400000, kind, space, between)
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, _WHITE)) + bytes(48)
    return head + struct.pack(">I", len(whole)) + table + data


def rgb(primaries: tuple[tuple[float, ...], ...], gamma: float) -> bytes:
    """A display: three primaries and one gamma."""
    names = zip((b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC"), primaries, strict=True)
    tags = {}
    for place, curve, values in names:
        tags[place], tags[curve] = _xyz(values), _curve(gamma)
    return _profile(b"RGB ", tags, kind=b"mntr", between=b"XYZ ")


def grey(gamma: float) -> bytes:
    """A grey scale of one gamma."""
    return _profile(b"GRAY", {b"kTRC": _curve(gamma)}, kind=b"mntr", between=b"XYZ ")


def cmyk() -> bytes:
    """A printer whose inks all look grey: any full one is L* 20, none is white."""
    corners = b"".join(bytes([255 if not inks else 51, 128, 128]) for inks in range(16))
    identity = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + corners + ramp * 3
    return _profile(b"CMYK", {b"A2B0": table}, kind=b"prtr", between=b"Lab ")
