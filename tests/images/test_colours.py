"""Pictures with a profile: the numbers that are sent mean in sRGB what the file's mean in theirs."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageCms

from pipeline.images import fast
from pipeline.images.encode import encode
from pipeline.model import Image
from tests.support import profiles

GREEN = (64, 160, 96)
ADOBE, P3 = profiles.rgb(profiles.ADOBE, 2.2), profiles.rgb(profiles.P3, 2.2)
LINEAR = profiles.rgb(profiles.SRGB, 1.0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
OPTIONS = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}


@pytest.fixture(params=["fast", "pillow"], autouse=True)
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test holds with simplejpeg and without it."""
    if request.param == "pillow":
        monkeypatch.setattr(fast, "simplejpeg", None)
    return


def saved(mode: str, colour: object, form: str, profile: bytes, side: int = 100) -> bytes:
    out = io.BytesIO()
    made = Pil.new(mode, (side, side), colour)  # type: ignore[arg-type]
    made.save(out, form, icc_profile=profile, **OPTIONS.get(form, {}))
    return out.getvalue()


def sent(image: Image) -> tuple[int, ...]:
    """The colour in the middle."""
    opened = Pil.open(io.BytesIO(image.data or b""))
    assert "icc_profile" not in opened.info
    colour = opened.getpixel((opened.width // 2, opened.height // 2))
    assert isinstance(colour, tuple)
    return colour


def near(colour: tuple[int, ...], wanted: tuple[int, ...], most: int = 2) -> bool:
    return int(np.abs(np.subtract(colour, wanted)).max()) <= most


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "HEIF", "AVIF"])
@pytest.mark.parametrize(
    ("profile", "wanted"),
    [(ADOBE, (0, 161, 92)), (LINEAR, (137, 208, 165)), (SRGB, GREEN)],
    ids=["adobe", "linear", "srgb"],
)
def test_colours_of_a_profile_become_srgb(
    form: str, profile: bytes, wanted: tuple[int, ...]
) -> None:
    """Small and shrunk, in every format that holds a profile."""
    if form == "HEIF":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.register_heif_opener()
    lossy = 5 if form in ("HEIF", "AVIF") else 2
    for side in (100, 900):
        image = encode(saved("RGB", GREEN, form, profile, side), 300, 95)
        assert near(sent(image), wanted, lossy), sent(image)
        assert image.flags == (("resized",) if side > 300 else ())


def test_wide_colours_are_what_littlecms_says() -> None:
    """Many colours of Display P3, pixel by pixel."""
    pixels = (
        np.random.default_rng(3).integers(0, 256, (40, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    )
    made, out = Pil.fromarray(pixels), io.BytesIO()
    made.save(out, "PNG", icc_profile=P3)
    image = encode(out.getvalue(), 320, 95)
    source = ImageCms.ImageCmsProfile(io.BytesIO(P3))
    wanted = ImageCms.profileToProfile(made, source, ImageCms.createProfile("sRGB"))
    assert wanted is not None
    got = np.asarray(Pil.open(io.BytesIO(image.data or b"")), int)[4::8, 4::8]
    assert np.abs(got - np.asarray(wanted, int)[4::8, 4::8]).mean() < 3
    assert np.abs(got - pixels[4::8, 4::8]).mean() > 5


def test_transparency_lies_on_white_beside_converted_colours() -> None:
    """Half clear Adobe green: half of what it is in sRGB and half white."""
    near_half = sent(encode(saved("RGBA", (*GREEN, 128), "PNG", ADOBE), 768, 95))
    assert near(near_half, (127, 208, 173), 3)
    palette = Pil.new("RGB", (64, 64), GREEN).quantize(4)
    out = io.BytesIO()
    palette.save(out, "PNG", icc_profile=ADOBE)
    assert near(sent(encode(out.getvalue(), 768, 95)), (0, 161, 92))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_grey_of_a_profile_becomes_srgb(form: str) -> None:
    """Linear light of a half is bright; a profile for colours does for grey pixels too."""
    for profile in (profiles.grey(1.0), LINEAR):
        image = encode(saved("L", 128, form, profile), 768, 95)
        assert near(sent(image), (188, 188, 188)), sent(image)
        assert image.flags == ()


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_inks_of_a_profile_become_srgb(form: str) -> None:
    """Full cyan of these inks is dark grey; without a profile it is cyan."""
    cyan = (255, 0, 0, 0)
    inks = sent(encode(saved("CMYK", cyan, form, profiles.cmyk()), 768, 95))
    assert max(inks) - min(inks) <= 2
    assert max(inks) < 70
    plain = sent(encode(saved("CMYK", cyan, form, b""), 768, 95))
    assert plain[2] - plain[0] > 150


@pytest.mark.parametrize(
    ("mode", "colour", "profile"),
    [
        ("RGB", GREEN, b"no profile at all"),
        ("RGB", GREEN, ADOBE[:200]),
        ("RGB", GREEN, ADOBE[:16] + b"XXXX" + ADOBE[20:]),
        ("RGB", GREEN, profiles.cmyk()),
        ("RGB", GREEN, profiles.grey(1.0)),
        ("L", 128, profiles.cmyk()),
        ("CMYK", (255, 0, 0, 0), ADOBE),
    ],
    ids=["text", "cut", "space", "cmyk for rgb", "grey for rgb", "cmyk for grey", "rgb for cmyk"],
)
def test_a_profile_that_is_no_use_is_ignored_and_flagged(
    mode: str, colour: object, profile: bytes
) -> None:
    """The numbers stay as they are; the record says that a profile was there."""
    image = encode(saved(mode, colour, "TIFF", profile), 768, 95)
    plain = encode(saved(mode, colour, "TIFF", b""), 768, 95)
    assert image.flags == ("profile_ignored",)
    assert sent(image) == sent(plain)
    assert plain.flags == ()


def test_a_large_profile_in_a_png_is_no_damage() -> None:
    """Pillow's own limit of 1 MB for what a chunk unpacks to would refuse the picture."""
    large = ADOBE + bytes(1_500_000)
    assert near(sent(encode(saved("RGB", GREEN, "PNG", large), 768, 95)), (0, 161, 92))


def test_a_profile_of_srgb_changes_no_byte() -> None:
    """What is sent is what would be sent without it, whatever wrote the profile."""
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    made = []
    for profile in (b"", SRGB, profiles.rgb(profiles.SRGB, 2.2)):
        out = io.BytesIO()
        Pil.fromarray(pixels).save(out, "PNG", icc_profile=profile)
        made.append(encode(out.getvalue(), 768, 90).data)
    assert made[0] == made[1]
    assert made[0] != made[2]  # the control: gamma 2.2 is not the curve of sRGB
