"""URLs as they stand in manifests and redirects: what a server gets is what was written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.captioning.identity import image_identity
from pipeline.errors import ImageError
from pipeline.images.urls import parse
from tests.images.hosts import Asked, host, images, reply
from tests.support.pictures import picture

#: Written -> asked of the server.
SPELLINGS = {
    "/http%3A%2F%2Fx.example%2Fy.jpg": "/http%3A%2F%2Fx.example%2Fy.jpg",
    "/f.jpg%3Alarge": "/f.jpg%3Alarge",
    "/f.jpg:large": "/f.jpg:large",
    "/h%28test%29.jpg": "/h%28test%29.jpg",
    "/h(test)!*'.jpg": "/h(test)!*'.jpg",
    "/g.jpg?sig=a%2Fb%2Bc%3D": "/g.jpg?sig=a%2Fb%2Bc%3D",
    "/g.jpg?sig=a/b+c=&x=%20": "/g.jpg?sig=a/b+c=&x=%20",
    "/%7Euser/%41.jpg": "/%7Euser/%41.jpg",
    "/~user/a,b;c=d@e$.jpg": "/~user/a,b;c=d@e$.jpg",
    "/a%2f%2F..%2Fb.jpg": "/a%2f%2F..%2Fb.jpg",
    "/?u=http://y.example/?z": "/?u=http://y.example/?z",
    "?id=1": "/?id=1",
    "/a[1].jpg": "/a[1].jpg",
    "/a b.jpg": "/a%20b.jpg",
    "/caf\u00e9/\u732b.jpg?q=\u00fc": "/caf%C3%A9/%E7%8C%AB.jpg?q=%C3%BC",
    '/a"<b>{c}^.jpg': "/a%22%3Cb%3E%7Bc%7D%5E.jpg",
    "/100%.jpg": "/100%25.jpg",
    "/a.jpg#part": "/a.jpg",
    "/a.jpg  ": "/a.jpg",
}


@pytest.mark.parametrize("redirected", [False, True], ids=["written", "redirected"])
def test_a_server_gets_the_url_as_it_was_written(redirected: bool) -> None:
    """Byte for byte where that is legal, in a cell and in a redirect; else encoded."""

    def answer(asked: Asked) -> bytes:
        if asked.path.startswith("/door"):
            where = list(SPELLINGS)[int(asked.path[5:])]
            # Raw letters, as many servers write them.
            return reply(b"", "302 F", Location=f"http://{asked.headers['host']}{where}")
        return reply(picture(1))

    async def load() -> list[str]:
        async with host(answer) as seen, images(allow=[f"127.0.0.1:{seen.port}"]) as loader:
            for number, written in enumerate(SPELLINGS):
                path = f"/door{number}" if redirected else written
                await loader.load(" " * (number % 3) + seen.url(path), inline=True)
            return [one.line.split(" ")[1] for one in seen.asked if "/door" not in one.line]

    assert asyncio.run(load()) == list(SPELLINGS.values())


def test_a_url_without_its_scheme_is_https_and_a_path_is_not() -> None:
    assert str(parse("//x.example/a.jpg")) == "https://x.example/a.jpg"
    assert str(parse(" //127.0.0.1:8000/a.jpg")) == "https://127.0.0.1:8000/a.jpg"
    assert image_identity(" //x.example/a.jpg") == "url:https://x.example/a.jpg"
    assert (
        image_identity(" http://x.example/a.jpg?Signature=1")
        == "url:http://x.example/a.jpg?Signature=1"
    )
    assert image_identity("//data/a.jpg") == "path://data/a.jpg"

    async def load(folder: Path) -> str:
        async with images() as loader:
            try:
                await loader.load("//nowhere/data/a.jpg", inline=True)
            except ImageError as error:
                return error.code
        return "ok"

    assert asyncio.run(load(Path())) == "missing_file"


def test_the_service_gets_a_url_that_it_can_fetch() -> None:
    """Passed on as it would be fetched here."""

    async def load() -> list[str | None]:
        async with images() as loader:
            written = [" //x.example/a b.jpg", "http://x.example/%3A(\u00e9).jpg?a=%2F "]
            return [(await loader.load(one, inline=False)).url for one in written]

    assert asyncio.run(load()) == [
        "https://x.example/a%20b.jpg",
        "http://x.example/%3A(%C3%A9).jpg?a=%2F",
    ]


def test_an_ampersand_of_html_is_named() -> None:
    """A 404 says where it may come from; one without it says nothing of the kind."""

    async def load(path: str) -> str:
        async with (
            host(lambda _: reply(b"", "404 No")) as seen,
            images(allow=[f"127.0.0.1:{seen.port}"]) as loader,
        ):
            with pytest.raises(ImageError) as caught:
                await loader.load(seen.url(path), inline=True)
            return caught.value.message

    assert "&amp;" in asyncio.run(load("/c.jpg?w=1&amp;h=2"))
    assert "&amp;" not in asyncio.run(load("/c.jpg?w=1&h=2"))


@pytest.mark.parametrize("name", ["a..example", f"{'a' * 64}.example", ".example"])
def test_hosts_that_dns_has_no_name_for(name: str) -> None:
    """An empty label, or one that is too long, is the image's own trouble: no name is looked up."""

    async def load() -> str:
        async with images() as loader:
            with pytest.raises(ImageError) as caught:
                await loader.load(f"http://{name}/a.jpg", inline=True)
            return caught.value.code

    assert asyncio.run(load()) == "bad_uri"
