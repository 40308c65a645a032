"""Where a file ends: whole pictures that lack a mark are sent, what was cut short is refused so."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from pipeline.errors import ImageError
from pipeline.images import fast
from pipeline.images.encode import encode
from pipeline.model import Image
from tests.images.hosts import images
from tests.images.originals import samples

_NOISE = np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)
PHOTOGRAPH = Pil.fromarray(_NOISE).resize((480, 360), Pil.Resampling.BICUBIC)
JPEGS: dict[str, dict[str, object]] = {
    "baseline": {},
    "fine": {"quality": 98, "subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 7},
    "restart rows": {"restart_marker_rows": 1, "progressive": True},
    "optimised": {"optimize": True},
}


@pytest.fixture(params=["fast", "pillow"], autouse=True)
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test holds with simplejpeg and without it."""
    if request.param == "pillow":
        monkeypatch.setattr(fast, "simplejpeg", None)


def saved(form: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    PHOTOGRAPH.convert(mode).save(out, form, **options)
    return out.getvalue()


def near(one: Image, other: Image) -> bool:
    pixels = [np.asarray(Pil.open(io.BytesIO(image.data or b"")), int) for image in (one, other)]
    return float(np.abs(pixels[0] - pixels[1]).mean()) < 5


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        encode(data, 768, 85)
    assert caught.value.code == "corrupt"
    return caught.value.message


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("side", [768, 100])
def test_a_jpeg_without_its_end_marker_is_whole(kind: str, mode: str, side: int) -> None:
    """Without both of its bytes, or one, and with zeros behind: what is sent is the same."""
    data = saved("JPEG", mode, **JPEGS[kind])
    whole = encode(data, side, 85)
    for short in (data[:-2], data[:-1], data[:-2] + bytes(900)):
        image = encode(short, side, 85)
        # Zeros between the scan and its end go by Pillow, whose rounding differs.
        assert image.data == whole.data or (short[-1] == 0 and near(image, whole))
        assert image.flags == (*whole.flags, "end_added")
        assert image.sha256 == hashlib.sha256(short).hexdigest()


def test_zeros_in_the_place_of_pixels_are_not_sent() -> None:
    """A download that was given its length beforehand, and stopped in the middle."""
    data = saved("JPEG")
    half = data[: len(data) // 2]
    assert refused(half + bytes(len(half))) == "this JPEG is cut short"


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_lacks_more_is_cut_short(kind: str) -> None:
    """Ten bytes, half of it, all but its head: never padded with grey."""
    data = saved("JPEG", **JPEGS[kind])
    rng = random.Random(kind)
    cuts = [12, 60, len(data) // 2, len(data) - 300, len(data) - 30]
    for cut in [*cuts, *(rng.randrange(12, len(data) - 4) for _ in range(25))]:
        assert refused(data[:-cut]) == "this JPEG is cut short", cut


@pytest.mark.parametrize("kind", ["progressive", "restart rows"])
def test_a_progressive_jpeg_cut_between_two_scans_is_cut_short(kind: str) -> None:
    """Each scan is whole; the finer ones are missing."""
    data = saved("JPEG", **JPEGS[kind])
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(starts) > 5
    for start in starts[1:]:
        end = data.rfind(b"\xff\xc4", 0, start)  # the tables of the scan that is missing
        assert refused(data[:end]) == "this JPEG is cut short"
        assert refused(data[:start]) == "this JPEG is cut short"


def test_a_jpeg_whose_colours_are_missing_is_cut_short() -> None:
    """Three scans one after the other, brightness first: cut after it."""
    data = saved("JPEG", progressive=True)
    seconds = data.find(b"\xff\xda", data.find(b"\xff\xda") + 2)
    assert refused(data[:seconds]) == "this JPEG is cut short"


@pytest.mark.parametrize("junk", [b"\0" * 5000, b"MPF\xff\xda\xff\xd8" * 99, b"<?php ?>", b"\xff"])
def test_what_follows_the_end_marker_does_not_matter(junk: bytes) -> None:
    """The mirror of the first test: a JPEG with its end is sent as ever."""
    data = saved("JPEG")
    image = encode(data + junk, 768, 85)
    assert (image.data, image.flags) == (encode(data, 768, 85).data, ())


def test_a_png_and_a_gif_without_their_ends_are_whole() -> None:
    """IEND, the last checksum, the trailer: no pixel needs them."""
    png, gif = saved("PNG"), saved("GIF")
    for data, cuts in ((png, (4, 8, 12, 16)), (gif, (1, 2))):
        whole = encode(data, 768, 85).data
        assert [encode(data[:-cut], 768, 85).data == whole for cut in cuts] == [True] * len(cuts)


@pytest.mark.parametrize(
    "form", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "tiff_lzw", "tiff_deflate", "AVIF", "HEIF"]
)
def test_what_is_cut_short_is_called_so(form: str) -> None:
    """Every format, at many places; no word of a decoder's own."""
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options = {"compression": form} if "_" in form else {}
    name = form.partition("_")[0].upper()
    data = saved(name, **options)
    for cut in (30, 200, len(data) // 3, len(data) // 2, len(data) - 400):
        assert refused(data[:-cut]) == f"this {name} is cut short", cut


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_a_cut_animation_is_called_so(form: str) -> None:
    """Though its first frame, which would be sent, is whole."""
    frames = [Pil.frombytes("RGB", (40, 40), random.Random(n).randbytes(4800)) for n in range(3)]
    out = io.BytesIO()
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    data = out.getvalue()
    assert encode(data, 768, 85).flags == ("first_frame",)
    assert encode(data + b"<?php ?>", 768, 85).flags == ("first_frame",)
    for twentieths in range(10, 20):
        assert refused(data[: len(data) * twentieths // 20]) == f"this {form} is cut short"


def test_damage_inside_is_called_damage() -> None:
    """Whole to its end, but not packed as it should be."""
    data = bytearray(saved("PNG"))
    start = data.find(b"IDAT") + 4
    data[start : start + 9] = b"\xff" * 9
    assert refused(bytes(data)) == "this PNG is damaged"


def test_photographs_without_their_ends_are_sent(tmp_path: Path) -> None:
    """Real files through the loader; half of each is refused."""
    originals = [path for path in samples() if path.suffix in (".jpg", ".jpeg")][:8]
    assert len(originals) >= 4

    async def load(data: bytes) -> str:
        (tmp_path / "a.jpg").write_bytes(data)
        async with images(tmp_path) as loader:
            try:
                return " ".join((await loader.load("a.jpg", inline=True)).flags)
            except ImageError as error:
                return error.message

    for path in originals:
        data = path.read_bytes()
        end = data.rfind(b"\xff\xd9")
        assert "end_added" in asyncio.run(load(data[:end]))
        assert asyncio.run(load(data[: end // 2])) == "this JPEG is cut short"
