"""Every image code of the contract is what some real trouble ends with."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from PIL import Image as Pil

from pipeline.errors import CODES
from tests.images.hosts import Asked, Names, code_of, host, images, reply
from tests.support.command import ROOT
from tests.support.pictures import picture

#: The codes that come from images; all others come from the service or the row.
IMAGE_CODES = list(CODES)[: list(CODES).index("refused")]


def test_each_image_code_is_made_by_its_trouble(tmp_path: Path) -> None:
    """One trouble a code, through one loader and real sockets; none is left out."""
    large = io.BytesIO()
    Pil.new("1", (9400, 9400)).save(large, "PNG")
    answers = {
        "http_4xx": reply(b"", "404 Not Found"),
        "http_5xx": reply(b"", "501 Not Implemented"),
        "too_large": reply(b"\xff\xd8\xff", length=20_000_001),
        "too_many_pixels": reply(large.getvalue()),
        "unsupported_format": reply(b"%PDF-1.7"),
        "corrupt": reply(picture(1)[:-40]),
        "noai": reply(picture(1), X_Robots_Tag="noai"),
        "connect": b"",
        "ok": reply(picture(1)),
    }

    def answer(asked: Asked) -> bytes:
        return answers[asked.path[1:]]

    async def silent(_: Asked) -> object:
        await asyncio.sleep(60)
        yield b""

    async def load() -> dict[str, str]:
        async with host(answer) as seen, host(silent) as slow:  # type: ignore[arg-type]
            allow = [f"127.0.0.1:{one.port}" for one in (seen, slow)]
            values = {code: seen.url(f"/{code}") for code in answers}
            values["timeout"] = slow.url()
            values["dns"] = "http://nowhere.example/a.jpg"
            values["blocked_address"] = "http://169.254.169.254/a.jpg"
            values["blocked_path"] = "../a.jpg"
            values["missing_file"] = "no.jpg"
            values["bad_uri"] = "ftp://example.com/a.jpg"
            async with images(
                root=str(tmp_path), allow=allow, timeout=2, resolver=Names({})
            ) as loader:
                loads = [code_of(loader.load(value, inline=True)) for value in values.values()]
                return dict(zip(values, await asyncio.gather(*loads), strict=True))

    found = asyncio.run(load())
    assert found == {code: code for code in found}
    assert set(found) == {*IMAGE_CODES, "ok"}


def test_the_docs_list_every_image_code_and_its_kind() -> None:
    """docs/images.md and the program agree on what is tried again."""
    lines = (ROOT / "docs/images.md").read_text().splitlines()
    cells = [[cell.strip(" `") for cell in line.split("|")[1:3]] for line in lines]
    told = {one[0]: one[1] for one in cells if len(one) == 2 and one[1] in _KINDS}
    assert told == {code: _KINDS[CODES[code]] for code in IMAGE_CODES}


_KINDS = ("transient", "permanent")
