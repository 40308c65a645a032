"""Real pictures and what may happen to them: each is sent as it looks, or fails with its code."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageCms

from pipeline.errors import ImageError
from pipeline.model import Image
from tests.images.hosts import images
from tests.images.originals import missing, samples, stamps

SIDE = 256
STRANGE = "multipage_rgb.tif"
#: A picture that was damaged may end so, and in no other way.
BROKEN = {"corrupt", "too_many_pixels", "unsupported_format"}


def loaded(values: Iterable[str | bytes], side: int = SIDE) -> list[Image | str]:
    """Each value's image, or the code that it failed with."""

    async def load() -> list[Image | str]:
        async with images(max_side=side) as loader:

            async def one(value: str | bytes) -> Image | str:
                try:
                    return await loader.load(value, inline=True)
                except ImageError as error:
                    return error.code

            return list(await asyncio.gather(*(one(value) for value in values)))

    return asyncio.run(load())


def opened(path: Path) -> Pil.Image:
    """The picture as Pillow reads it, its file closed."""
    return Pil.open(io.BytesIO(path.read_bytes()))


def reference(picture: Pil.Image) -> np.ndarray:
    """How the picture looks on white, by another way: full size, then box means to 16 x 16."""
    if picture.mode in ("L", "RGB") and (profile := picture.info.get("icc_profile")):
        picture = (
            ImageCms.profileToProfile(
                picture,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
            or picture
        )
    if picture.mode.startswith("I;16"):
        picture = Pil.fromarray((np.asarray(picture, float) / 257).astype(np.uint8))
    pixels = np.asarray(picture.convert("RGBA"), np.float64)
    alpha = pixels[..., 3:] / 255
    return means(pixels[..., :3] * alpha + 255 * (1 - alpha))


def means(pixels: np.ndarray) -> np.ndarray:
    """Exact means over a 16 x 16 grid (fewer where the picture is smaller)."""
    rows, columns = (min(16, side) for side in pixels.shape[:2])
    whole = np.zeros((pixels.shape[0] + 1, pixels.shape[1] + 1, 3))
    whole[1:, 1:] = pixels.cumsum(0).cumsum(1)
    y = np.linspace(0, pixels.shape[0], rows + 1).round().astype(int)
    x = np.linspace(0, pixels.shape[1], columns + 1).round().astype(int)
    sums = np.diff(np.diff(whole[np.ix_(y, x)], axis=0), axis=1)
    return np.asarray(sums / (np.diff(y)[:, None] * np.diff(x)[None, :])[..., None])


def difference(image: Image, wanted: np.ndarray) -> float:
    """Mean difference of the cells, in steps of 255."""
    assert image.data is not None
    sent = means(np.asarray(Pil.open(io.BytesIO(image.data)).convert("RGB"), np.float64))
    rows, columns = (min(a, b) for a, b in zip(sent.shape[:2], wanted.shape[:2], strict=True))
    if sent.shape != wanted.shape:  # a side shorter than the grid after shrinking
        return float(np.abs(sent.mean((0, 1)) - wanted.mean((0, 1))).mean())
    return float(np.abs(sent - wanted)[:rows, :columns].mean())


@pytest.fixture(scope="module")
def all_pictures() -> list[Path]:
    return stamps() + samples()


def test_real_pictures_arrive_as_they_look(all_pictures: list[Path]) -> None:
    """Hundreds of them: none fails, each is closer to its own original than to any other."""
    # One sample is planes of a microscope, which no picture reader takes for a picture.
    assert loaded([str(path) for path in all_pictures if path.name == STRANGE]) == [
        "unsupported_format"
    ]
    all_pictures = [path for path in all_pictures if path.name != STRANGE]
    got = loaded(str(path) for path in all_pictures)
    codes = Counter(one for one in got if isinstance(one, str))
    assert not codes, codes
    wanted = [reference(opened(path)) for path in all_pictures]
    far = {}
    for path, image, original in zip(all_pictures, got, wanted, strict=True):
        assert isinstance(image, Image)
        assert max(image.width or 0, image.height or 0) <= SIDE
        if (found := difference(image, original)) > 6:
            far[path.name] = round(found, 1)
    print(f"{len(got)} real pictures, {len(far)} too far from their originals")
    assert len(got) >= 250
    assert not far
    # The measure can tell pictures apart: a stranger's picture is far.
    strangers = [
        difference(got[n], wanted[n - 1])  # type: ignore[arg-type]
        for n in range(1, len(got))
        if wanted[n].shape == wanted[n - 1].shape
    ]
    assert np.median(strangers) > 12


def variants(path: Path) -> dict[str, tuple[bytes, Pil.Image | None]]:
    """Whole pictures of other kinds made from one; None: it must look like the original."""
    picture = opened(path)
    flat = Pil.new("RGB", picture.size, "white")
    clear = picture.convert("RGBA")
    flat.paste(clear, mask=clear.getchannel("A"))
    grey = flat.convert("L")
    sixteen = Pil.fromarray(np.asarray(grey, np.uint16) * 257)
    frames = [flat.quantize(256), Pil.new("L", flat.size, 0)]

    def saved(made: Pil.Image, form: str, **options: object) -> bytes:
        out = io.BytesIO()
        made.save(out, form, **options)
        return out.getvalue()

    return {
        "cmyk jpeg": (saved(flat.convert("CMYK"), "JPEG", quality=95), flat),
        "cmyk tiff": (saved(flat.convert("CMYK"), "TIFF"), flat),
        "progressive": (saved(flat, "JPEG", quality=95, progressive=True), flat),
        "grey jpeg": (saved(grey, "JPEG", quality=95), grey),
        "16-bit png": (saved(sixteen, "PNG"), grey),
        "16-bit tiff": (saved(sixteen, "TIFF"), grey),
        "animated gif": (saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), flat),
        "webp": (saved(flat, "WEBP", quality=95), flat),
        "avif": (saved(flat, "AVIF", quality=95), flat),
        "bmp": (saved(flat, "BMP"), flat),
        "1x1": (
            saved(flat.resize((1, 1), Pil.Resampling.BOX), "PNG"),
            flat.resize((1, 1), Pil.Resampling.BOX),
        ),
        "20000x1": (saved(flat.resize((20000, 1)), "PNG"), flat.resize((20000, 1))),
    }


def test_other_kinds_of_them_look_the_same() -> None:
    """CMYK, 16 bits, palettes, animations, 1 x 1, 20,000 x 1: from 16 pictures each."""
    # In small ones what JPEG does to colours is a large part of the picture, and it is done twice.
    large = [path for path in stamps() if min(opened(path).size) >= 160]
    chosen = large[:: len(large) // 15]
    names, values, wanted = [], [], []
    for path in chosen:
        for name, (data, original) in variants(path).items():
            assert original is not None
            names.append(f"{path.name} {name}")
            values.append(data)
            wanted.append(reference(original))
    got = loaded(values)
    far = {
        name: round(difference(image, original), 1) if isinstance(image, Image) else image
        for name, image, original in zip(names, got, wanted, strict=True)
        if not isinstance(image, Image) or difference(image, original) > 6
    }
    print(f"{len(got)} pictures of other kinds, {len(far)} too far from their originals")
    assert len(got) >= 180
    assert not far


def test_48_million_pixels_of_a_real_photograph(all_pictures: list[Path]) -> None:
    """A camera's largest JPEG is sent; 67 million as PNG are too many pixels."""
    photo = opened(next(path for path in all_pictures if path.name == "china.jpg"))
    large = photo.resize((8000, 6000))
    jpeg, png = io.BytesIO(), io.BytesIO()
    large.save(jpeg, "JPEG", quality=80)
    photo.resize((9_600, 7_000)).convert("L").point(lambda v: v & 0xC0).save(
        png, "PNG", compress_level=1
    )
    sent, code = loaded([jpeg.getvalue(), png.getvalue()])
    assert isinstance(sent, Image)
    assert difference(sent, reference(photo)) < 4
    assert code == "too_many_pixels"


def cuts(data: bytes) -> list[bytes]:
    """Ended after one tenth, two tenths… of the file."""
    return [data[: len(data) * tenth // 10] for tenth in range(1, 10)]


def flips(data: bytes) -> list[bytes]:
    """Nine copies with one to 256 bits turned over."""
    made = []
    for power in range(9):
        rng, copy = random.Random(power), bytearray(data)
        for _ in range(1 << power):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        made.append(bytes(copy))
    return made


@pytest.mark.parametrize(("damage", "may_pass"), [(cuts, False), (flips, True)])
def test_damaged_pictures_fail_with_a_code(
    all_pictures: list[Path], damage: Callable[[bytes], list[bytes]], may_pass: bool
) -> None:
    """Cut ones are always corrupt, never padded with grey; turned bits are corrupt or harmless."""
    small = [path for path in all_pictures if 2_000 < path.stat().st_size < 300_000]
    chosen = small[:: max(1, len(small) // 50)] + [path for path in small if path.suffix == ".jpg"]
    values = [made for path in chosen for made in damage(path.read_bytes())]
    got = loaded(values)
    codes = Counter("ok" if isinstance(one, Image) else one for one in got)
    print(f"{len(values)} pictures, {damage.__name__}: {dict(codes)}")
    assert len(values) >= 400
    assert codes.keys() <= BROKEN | ({"ok"} if may_pass else set())
    assert codes["corrupt"] > 50


def test_endings_lie(all_pictures: list[Path], tmp_path: Path) -> None:
    """A picture is what its bytes say, whatever it is called; text called .jpg is no picture."""
    for number, path in enumerate(all_pictures[:40]):
        ending = (".jpg", ".txt", ".gif", ".html", "")[number % 5]
        (tmp_path / f"{number:03d}{ending}").write_bytes(path.read_bytes())
    (tmp_path / "text.jpg").write_text("no picture")
    files = sorted(tmp_path.iterdir())
    got = loaded(str(path) for path in files)
    assert [one for one in got if isinstance(one, str)] == ["unsupported_format"]


def test_a_missing_package_is_loud_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed with CI set, skipped with a reason elsewhere."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must have it"):
        missing("no stamps")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no stamps"):
        missing("no stamps")
