"""What the describer says about pixels, and which bytes it calls a picture."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from pipeline.simulator.describe import BadImage, HugeImage, magic, see
from tests.simulator.made import noise, picture


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((200, 35, 35), "red"),
        ((60, 150, 60), "green"),
        ((45, 80, 190), "blue"),
        ((240, 240, 240), "white"),
        ((10, 10, 10), "black"),
        ((230, 215, 60), "yellow"),
        ((130, 130, 130), "grey"),
    ],
)
def test_the_dominant_colour_is_named(colour: tuple[int, int, int], name: str) -> None:
    """A picture of one colour is mostly that colour, by name and by mean."""
    seen = see(picture(colour), "image/jpeg")

    assert f"mostly {name} (100 %)" in seen.caption
    told = seen.caption.split("#")[1][:6]
    mean = [int(told[at : at + 2], 16) for at in (0, 2, 4)]
    assert all(abs(a - b) <= 4 for a, b in zip(mean, colour, strict=True))


@pytest.mark.parametrize(
    ("size", "shape"), [((40, 30), "landscape"), ((30, 40), "portrait"), ((32, 32), "square")]
)
def test_size_and_orientation_are_as_received(size: tuple[int, int], shape: str) -> None:
    """Width, height and orientation stand in the caption, also for large JPEGs."""
    for factor in (1, 40):
        wide = (size[0] * factor, size[1] * factor)
        seen = see(picture(size=wide), "image/jpeg")

        assert f"{shape} of {wide[0]} x {wide[1]} pixels" in seen.caption


def test_brightness_and_detail_follow_the_pixels() -> None:
    """Flat pictures have little detail, noise has much; dark and bright are told apart."""
    assert "A dark" in see(picture((20, 20, 40)), "image/jpeg").caption
    assert "A bright" in see(picture((240, 230, 240)), "image/jpeg").caption
    assert "little detail" in see(picture(), "image/jpeg").caption
    assert "much detail" in see(noise(1, (64, 64)), "image/png").caption


def test_the_hash_survives_a_new_encoding() -> None:
    """The same picture as JPEG, PNG and WebP has nearly one hash; another picture has not."""
    image = Image.open(io.BytesIO(noise(3, (9, 8)))).resize((270, 240), Image.Resampling.BICUBIC)
    hashes = []
    for form, mime in (("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")):
        out = io.BytesIO()
        image.convert("RGB").save(out, form)
        hashes.append(int(see(out.getvalue(), mime).dhash, 16))
    other = int(see(noise(4, (9, 8)), "image/png").dhash, 16)

    assert all((hashes[0] ^ one).bit_count() <= 4 for one in hashes)
    assert (hashes[0] ^ other).bit_count() > 12


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_half_a_picture_is_none(form: str) -> None:
    """A picture cut in half cannot be decoded."""
    data = picture(size=(300, 300), form=form)
    with pytest.raises(BadImage):
        see(data[: len(data) // 2], f"image/{form.lower()}")


def test_too_many_pixels_are_not_looked_at() -> None:
    """A picture above the limit is refused by its header."""
    with pytest.raises(HugeImage):
        see(picture(size=(100, 100)), "image/jpeg", max_pixels=9_999)


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (picture(form="JPEG"), "image/jpeg"),
        (picture(form="PNG"), "image/png"),
        (picture(form="WEBP"), "image/webp"),
        (picture(form="GIF"), "image/gif"),
        (picture(form="BMP"), "image/bmp"),
        (picture(form="TIFF"), "image/tiff"),
        (b"%PDF-1.7", "application/pdf"),
        (b"\0\0\0\x18ftypheic", "image/heic"),
        (b"<svg>", None),
        (b"", None),
    ],
)
def test_the_first_bytes_tell_the_type(data: bytes, mime: str | None) -> None:
    """Types are recognised by magic bytes alone."""
    assert magic(data) == mime
