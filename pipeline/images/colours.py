"""Embedded ICC profiles -> sRGB, since what is sent carries no profile.

A profile that comes to sRGB costs one look at it in a worker process. One that is broken, or of
another colour space than the pixels, is ignored: the numbers are sent as they are.
"""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image as Pil
from PIL import ImageCms, PngImagePlugin

#: Bytes of a profile that is looked at. Those of printers have up to 3 MB.
MAX_PROFILE = 4 << 20
#: Profiles that a worker remembers.
PROFILES = 16
#: The flag of a picture whose profile was ignored.
IGNORED = "profile_ignored"
#: Steps of 255 up to which two colours are the same.
_SAME = 2
#: Mode of the pixels -> colour spaces of profiles that fit them, and the mode that those take.
_FITTING = {
    "L": {"GRAY": "L", "RGB ": "RGB"},
    "RGB": {"RGB ": "RGB"},
    "CMYK": {"CMYK": "CMYK"},
}

# Pillow calls a PNG damaged whose profile unpacks to more than this; its own limit is 1 MB.
PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE


def to_srgb(picture: Pil.Image, profile: bytes) -> Pil.Image | None:
    """An L, LA, RGB, RGBA or CMYK picture with the numbers of sRGB; None: the profile is no use."""
    mode = {"LA": "L", "RGBA": "RGB"}.get(picture.mode, picture.mode)
    try:
        transform = _transform(profile, mode)
    except Exception:  # noqa: BLE001 - what else it may be, the profile is no use
        return None
    if transform is None:
        return picture
    colours = ImageCms.applyTransform(
        picture.convert(mode).convert(transform.input_mode), transform
    )
    assert colours is not None  # not in place
    if picture.mode != mode:
        colours.putalpha(picture.getchannel("A"))
    return colours


@lru_cache(PROFILES)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile to sRGB; None where that changes nothing. Raises what Pillow does."""
    if len(profile) > MAX_PROFILE:
        raise ValueError("too large")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    takes = _FITTING[mode][source.profile.xcolor_space]
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), takes, "RGB")
    if takes != "CMYK":
        samples = _samples(takes)
        changed = ImageCms.applyTransform(samples, transform)
        assert changed is not None
        pairs = zip(samples.convert("RGB").tobytes(), changed.tobytes(), strict=True)
        if all(abs(before - after) <= _SAME for before, after in pairs):
            return None
    return transform


def _samples(mode: str) -> Pil.Image:
    """Colours all over the space, the greys among them."""
    steps = range(0, 256, 17)
    if mode == "L":
        return Pil.frombytes("L", (len(steps), 1), bytes(steps))
    cube = bytes(
        value for red in steps for green in steps for blue in steps for value in (red, green, blue)
    )
    return Pil.frombytes("RGB", (len(steps), len(steps) ** 2), cube)
