"""What a picture becomes: RGB on white, upright, small, without anything else of its file."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageCms, ImageDraw, PngImagePlugin

from pipeline.errors import ImageError
from pipeline.images import encode as encode_module
from pipeline.images import fast
from pipeline.images.encode import encode
from pipeline.model import Image
from tests.support.pictures import picture

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(params=["fast", "pillow"], autouse=True)
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test holds with simplejpeg and without it."""
    if request.param == "pillow":
        monkeypatch.setattr(fast, "simplejpeg", None)
    else:
        assert fast.simplejpeg is not None, "simplejpeg belongs to the test extra"


def corners(size: tuple[int, int] = (200, 120)) -> Pil.Image:
    """Red, green, blue and white quarters, from the top left."""
    made = Pil.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(made)
    w, h = size
    draw.rectangle((0, 0, w // 2 - 1, h // 2 - 1), RED)
    draw.rectangle((w // 2, 0, w - 1, h // 2 - 1), GREEN)
    draw.rectangle((0, h // 2, w // 2 - 1, h - 1), BLUE)
    return made


def saved(made: Pil.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    made.save(out, form, **options)
    return out.getvalue()


def decoded(image: Image) -> Pil.Image:
    """What the service would see, read by a decoder with all it can."""
    assert image.data is not None
    assert image.mime == "image/jpeg"
    opened = Pil.open(io.BytesIO(image.data))
    assert opened.format == "JPEG"
    assert opened.mode == "RGB"
    assert opened.size == (image.width, image.height)
    return opened


def quarters(image: Image) -> list[tuple[int, ...]]:
    """The colours at the middles of the four quarters."""
    opened = decoded(image)
    w, h = opened.size
    at = [(w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4), (3 * w // 4, 3 * h // 4)]
    return [opened.getpixel(one) for one in at]


def near(found: list[tuple[int, ...]], wanted: list[tuple[int, ...]], most: int = 12) -> None:
    assert np.abs(np.array(found, int) - np.array(wanted, int)).max() <= most, found


FORMS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "GIF": {},
    "AVIF": {"quality": 95},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_of_the_list_is_read(form: str) -> None:
    """The quarters have their colours, whatever the file was."""
    data = saved(corners(), form, **FORMS[form])
    near(quarters(encode(data, 768, 90)), [RED, GREEN, BLUE, WHITE], 20)


@pytest.mark.parametrize("form", ["HEIF"])
def test_heic_is_read_with_the_plugin(form: str) -> None:
    """Written by the plugin, read through the allow-list."""
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif.register_heif_opener()
    near(quarters(encode(saved(corners(), form), 768, 90)), [RED, GREEN, BLUE, WHITE], 24)


def test_heic_without_the_plugin_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """And AVIF with a Pillow that was built without it."""
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(encode_module.features, "check", lambda _: False)
    for brand in (b"heic", b"avif", b"mif1"):
        data = b"\0\0\0\x18ftyp" + brand + bytes(100)
        with pytest.raises(ImageError, match=r"caption-pipeline\[heif\]") as caught:
            encode(data, 768, 85)
        assert caught.value.code == "unsupported_format"


STRANGERS = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "eps with a preview": b"\xc5\xd0\xd3\xc6" + bytes(100),
    "pdf": b"%PDF-1.7\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "svg with a prologue": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "psd": b"8BPS\0\x01" + bytes(100),
    "ico": b"\0\0\x01\0" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "mp4": b"\0\0\0\x18ftypmp42" + bytes(100),
    "jpeg xl": b"\xff\x0a" + bytes(100),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "ppm": b"P6 1 1 255\n\0\0\0",
    "pickle": b"\x80\x04\x95" + bytes(100),
    "riff without webp": b"RIFF\0\0\0\0WAVE" + bytes(100),
    "text": b"hello",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_not_on_the_list_is_not_opened(name: str) -> None:
    """The first bytes decide; no decoder sees the rest."""
    with pytest.raises(ImageError) as caught:
        encode(STRANGERS[name], 768, 85)
    assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize(
    "magic", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0"]
)
@pytest.mark.parametrize("rest", ["eps", "svg", "html", "text"])
def test_a_stranger_under_false_colours_is_not_opened(magic: bytes, rest: str) -> None:
    """The right first bytes are not enough."""
    with pytest.raises(ImageError) as caught:
        encode(magic + STRANGERS[rest] * 9, 768, 85)
    assert caught.value.code == ("unsupported_format" if magic[:2] == b"II" else "corrupt")


def test_nothing_is_corrupt() -> None:
    with pytest.raises(ImageError) as caught:
        encode(b"", 768, 85)
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_come_out_upright(form: str, orientation: int) -> None:
    """Turned as a camera stores it, with the EXIF tag that says so: the quarters are in place."""
    undone = {
        2: Pil.Transpose.FLIP_LEFT_RIGHT,
        3: Pil.Transpose.ROTATE_180,
        4: Pil.Transpose.FLIP_TOP_BOTTOM,
        5: Pil.Transpose.TRANSPOSE,
        6: Pil.Transpose.ROTATE_90,  # the opposite of how it is shown
        7: Pil.Transpose.TRANSVERSE,
        8: Pil.Transpose.ROTATE_270,
    }
    made = corners((1600, 960))
    stored = made.transpose(undone[orientation]) if orientation in undone else made
    exif = Pil.Exif()
    exif[0x0112] = orientation
    image = encode(saved(stored, form, exif=exif), 400, 90)
    assert (image.width, image.height, image.original) == (400, 240, (1600, 960))
    near(quarters(image), [RED, GREEN, BLUE, WHITE], 20)


def test_nothing_of_the_file_but_its_pixels_is_sent() -> None:
    """EXIF with a position, a comment, XMP, a colour profile, and a tail after the end."""
    exif = Pil.Exif()
    exif[0x010E] = "canary description"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    options: dict[str, object] = {
        "exif": exif,
        "comment": b"canary comment",
        "xmp": b"<x:xmpmeta>canary</x:xmpmeta>",
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    }
    tail = b"<script>canary</script>PK\x03\x04canary"
    for form in ("JPEG", "PNG", "WEBP"):
        data = saved(corners(), form, **(options if form == "JPEG" else {"exif": exif})) + tail
        assert b"canary" in data
        image = encode(data, 768, 85)
        opened = decoded(image)
        assert image.data is not None
        assert b"canary" not in image.data
        assert b"<script" not in image.data
        assert not opened.getexif()
        assert opened.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_broken_metadata_does_not_break_a_picture() -> None:
    """EXIF of random bytes, and a PNG text chunk that cannot be read."""
    jpeg = saved(corners(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(60))
    near(quarters(encode(jpeg, 768, 90)), [RED, GREEN, BLUE, WHITE], 20)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "RGB key"])
def test_what_is_clear_becomes_white(mode: str) -> None:
    """Not black, also half of it, also when it is shrunk."""
    made = Pil.new("RGBA", (400, 240), (0, 0, 0, 0))
    ImageDraw.Draw(made).rectangle((200, 0, 399, 119), (0, 0, 0, 255))
    options: dict[str, object] = {}
    if mode == "P":
        made = made.quantize(4)
    elif mode == "RGB key":
        made = Pil.new("RGB", (400, 240), (9, 9, 9))
        ImageDraw.Draw(made).rectangle((200, 0, 399, 119), (0, 0, 0))
        options["transparency"] = (9, 9, 9)
    elif mode == "PA":
        made = made.convert("LA")
    elif mode != "RGBA":
        made = made.convert(mode)
    for side in (768, 100):
        image = encode(saved(made, "PNG", **options), side, 90)
        near(quarters(image), [WHITE, (0, 0, 0), WHITE, WHITE])


def test_half_clear_is_half_white() -> None:
    made = Pil.new("RGBA", (64, 64), (255, 0, 0, 128))
    near(quarters(encode(saved(made, "PNG"), 768, 95)), [(255, 127, 127)] * 4, 6)


def test_edges_of_clear_pictures_have_no_halo() -> None:
    """The colour under clear pixels does not leak when the picture is shrunk."""
    made = Pil.new("RGBA", (1024, 1024), (0, 255, 0, 0))
    ImageDraw.Draw(made).rectangle((0, 0, 511, 1023), (255, 255, 255, 255))
    pixels = np.asarray(decoded(encode(saved(made, "PNG"), 100, 95)))
    assert pixels.min() > 245


def test_sixteen_bits_become_eight() -> None:
    """A ramp over the whole range; a dark picture stays dark."""
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None, :].repeat(64, 0)
    got = np.asarray(decoded(encode(saved(Pil.fromarray(ramp), "PNG"), 768, 95)))[32, :, 0]
    assert np.abs(got.astype(int) - np.arange(256)).max() <= 4
    dark = Pil.fromarray(np.full((64, 64), 200, np.uint16))
    assert np.asarray(decoded(encode(saved(dark, "PNG"), 768, 95))).max() <= 4


@pytest.mark.parametrize(
    ("mode", "value"), [("F", 0.5), ("F", 127.5), ("I", 127), ("F", 32767.0), ("I", 32767)]
)
def test_numbers_of_other_ranges_become_eight_bits(mode: str, value: float) -> None:
    """Half of whatever the range is, beside its top."""
    top = next(one for one in (1.0, 255.0, 65535.0) if value < one)
    made = np.full((64, 64), value, np.float32 if mode == "F" else np.int32)
    made[:, 32:] = top
    image = encode(saved(Pil.fromarray(made), "TIFF"), 768, 95)
    pixels = np.asarray(decoded(image))
    assert abs(int(pixels[32, 10, 0]) - 127) <= 5
    assert pixels[32, 60, 0] >= 250


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(form: str) -> None:
    data = saved(corners().convert("CMYK"), form, **({"quality": 95} if form == "JPEG" else {}))
    near(quarters(encode(data, 768, 90)), [RED, GREEN, BLUE, WHITE], 20)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_few_colours_become_rgb(mode: str) -> None:
    made = corners().convert("L").point(lambda v: 255 if v > 127 else 0).convert(mode)
    found = quarters(encode(saved(made, "PNG"), 768, 90))
    near(
        found,
        [(0, 0, 0), WHITE, (0, 0, 0), WHITE] if found[1][0] > 9 else [(0, 0, 0)] * 3 + [WHITE],
    )


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_speaks_for_all(form: str) -> None:
    frames = [Pil.new("RGB", (64, 64), one) for one in (RED, GREEN, BLUE)]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:])
    image = encode(data, 768, 90)
    near(quarters(image), [RED] * 4)
    assert image.flags == ("first_frame",)
    assert encode(saved(frames[0], form), 768, 90).flags == ()


@pytest.mark.parametrize(
    ("size", "sent"),
    [
        ((4000, 3000), (768, 576)),
        ((3000, 4000), (576, 768)),
        ((768, 768), (768, 768)),
        ((769, 100), (768, 100)),
        ((1, 1), (1, 1)),
        ((20000, 1), (768, 1)),
        ((1, 20000), (1, 768)),
        ((300, 200), (300, 200)),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_longer_side_is_at_most_max_side(
    form: str, size: tuple[int, int], sent: tuple[int, int]
) -> None:
    """Never enlarged; the proportions stay; the flag tells."""
    image = encode(saved(Pil.new("RGB", size, RED), form), 768, 85)
    assert (image.width, image.height, image.original) == (*sent, size)
    assert image.flags == (() if size == sent else ("resized",))
    decoded(image)


def test_quality_is_what_the_job_says() -> None:
    """A better one takes more bytes."""
    noise = Pil.fromarray(np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8))
    sizes = [len(encode(saved(noise, "PNG"), 768, q).data or b"") for q in (20, 60, 95)]
    assert sizes[0] * 2 < sizes[1]
    assert sizes[1] * 1.5 < sizes[2]


def test_the_hash_is_of_the_bytes_as_they_came() -> None:
    import hashlib

    data = picture(1)
    assert encode(data, 768, 85).sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("form", "size", "fits"),
    [
        ("PNG", (9400, 9400), False),
        ("PNG", (6400, 6200), True),
        ("GIF", (9000, 8000), False),
        ("JPEG", (8000, 6000), True),
        ("JPEG", (13000, 13000), False),
    ],
)
def test_pixels_are_counted_before_any_is_decoded(
    form: str, size: tuple[int, int], fits: bool
) -> None:
    """A header is enough to refuse; a JPEG may be larger, as it is shrunk on the way."""
    data = saved(Pil.new("L" if form == "JPEG" else "1", size, 1), form)
    if fits:
        assert encode(data, 768, 85).width is not None
        return
    with pytest.raises(ImageError) as caught:
        encode(data, 768, 85)
    assert caught.value.code == "too_many_pixels"


@pytest.mark.parametrize("form", ["HEIF", "AVIF", "PNG"])
def test_what_phones_take_by_default_is_read(form: str) -> None:
    """48 million pixels, whatever the format; `images.max_pixels` draws the line elsewhere."""
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options = {"AVIF": {"speed": 10}, "HEIF": {"enc_params": {"preset": "ultrafast"}}}
    data = saved(Pil.new("RGB", (8064, 6048), RED), form, **options.get(form, {}))
    near([decoded(encode(data, 768, 85)).getpixel((9, 9))], [RED])
    with pytest.raises(ImageError, match=r"8064 x 6048 pixels \(images.max_pixels") as caught:
        encode(data, 768, 85, 40_000_000)
    assert caught.value.code == "too_many_pixels"


def test_a_jpeg_may_have_as_many_pixels_as_the_job_says() -> None:
    data = saved(Pil.new("L", (13000, 10000)), "JPEG")
    assert encode(data, 768, 85, 130_000_000).width == 768


def test_a_text_chunk_that_unpacks_to_much_is_not_unpacked() -> None:
    """64 MB of zeros in the compressed text of a PNG: an error or no text, never the memory."""
    made = PngImagePlugin.PngInfo()
    made.add(b"zTXt", b"a\0\0" + zlib.compress(bytes(64_000_000), 9))
    data = saved(corners(), "PNG", pnginfo=made)
    with pytest.raises(ImageError) as caught:
        encode(data, 768, 85)
    assert caught.value.code == "corrupt"
