"""What hosts of pictures want before they give one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.images.fetch import USER_AGENT
from tests.config.jobs import load as load_job
from tests.config.jobs import refused
from tests.images.hosts import Answer, Asked, Host, Names, code_of, host, images, reply
from tests.support.pictures import picture

CONTACT = "shop-captions/1.0 (https://shop.example; me@shop.example)"


async def fetched(answer: Answer, path: str = "/a.jpg", **settings: object) -> tuple[str, Host]:
    async with host(answer) as seen, images(allow=[f"127.0.0.1:{seen.port}"], **settings) as loader:
        return await code_of(loader.load(seen.url(path), inline=True)), seen


@pytest.mark.parametrize("name", ["User-Agent", "Referer", "referer"])
def test_headers_of_the_job_are_sent(name: str) -> None:
    """A host that wants a contact, or a page to come from, gives its picture."""

    def answer(asked: Asked) -> bytes:
        known = asked.headers.get(name.lower()) == CONTACT
        return reply(picture(1)) if known else reply(b"", "403 Forbidden")

    assert asyncio.run(fetched(answer, headers={name: CONTACT}))[0] == "ok"
    assert asyncio.run(fetched(answer))[0] == "http_4xx"


def test_headers_and_cookies_go_to_no_other_host() -> None:
    """A redirect to another name takes neither along; one on the same host takes both."""
    headers = {"User-Agent": CONTACT, "Referer": "https://shop.example/"}

    async def load() -> tuple[list[dict[str, str]], list[str]]:
        asked_of: list[dict[str, str]] = []

        def answer(asked: Asked) -> bytes:
            asked_of.append(dict(asked.headers))
            port = asked.headers["host"].rpartition(":")[2]
            if asked.path == "/a":
                return reply(b"", "302 F", Location="/b", Set_Cookie="wall=1; Path=/")
            if asked.path == "/b":
                return reply(b"", "302 F", Location=f"http://other.example:{port}/c")
            return reply(picture(1))

        names = Names({"one.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
        async with host(answer) as seen:
            allow = [f"one.example:{seen.port}", f"other.example:{seen.port}"]
            async with images(allow=allow, headers=headers, resolver=names) as loader:
                code = await code_of(loader.load(seen.url("/a", "one.example"), inline=True))
                again = await code_of(loader.load(seen.url("/x", "one.example"), inline=True))
                return asked_of, [code, again]

    asked, codes = asyncio.run(load())
    assert codes == ["ok", "ok"]
    assert [one["user-agent"] for one in asked] == [CONTACT, CONTACT, USER_AGENT, CONTACT]
    assert ["referer" in one for one in asked] == [True, True, False, True]
    # The second fetch begins without the cookie of the first.
    assert [one.get("cookie") for one in asked] == [None, "wall=1", None, None]


def test_a_cookie_wall_is_passed() -> None:
    """Set a cookie, lead to the same URL, look whether it comes back."""

    def answer(asked: Asked) -> bytes:
        if asked.headers.get("cookie") == "seen=a/b=":
            return reply(picture(1))
        return reply(b"", "302 F", Location=asked.path, Set_Cookie="seen=a/b=; HttpOnly")

    assert asyncio.run(fetched(answer))[0] == "ok"


@pytest.mark.parametrize(("hops", "code"), [(4, "ok"), (10, "ok"), (11, "http_4xx")])
def test_ten_redirects_are_followed(hops: int, code: str) -> None:
    def answer(asked: Asked) -> bytes:
        number = int(asked.path[1:])
        return reply(b"", "301 M", Location=f"/{number - 1}") if number else reply(picture(1))

    got, seen = asyncio.run(fetched(answer, f"/{hops}"))
    assert (got, len(seen.asked)) == (code, min(hops, 10) + 1)


def test_203_is_a_picture() -> None:
    """A proxy of the host's has changed something on the way."""
    got, _ = asyncio.run(fetched(lambda _: reply(picture(1), "203 Non-Authoritative")))
    assert got == "ok"


@pytest.mark.parametrize(
    ("headers", "wrong"),
    [
        ("{Authorization: x}", "only User-Agent and Referer"),
        ("{Cookie: x}", "only User-Agent and Referer"),
        ('{Referer: "a\\r\\nHost: b"}', "one line"),
        ('{User-Agent: ""}', "one line"),
        ("{Referer: a, referer: b}", "twice"),
        ("{User-Agent: '${MY_TOKEN}'}", "MY_TOKEN is the name of a secret"),
    ],
)
def test_other_headers_are_refused(tmp_path: Path, headers: str, wrong: str) -> None:
    """78 with what may stand there."""
    code, words = refused(tmp_path, f"images:\n  headers: {headers}\n")
    assert code == 78
    assert wrong in words


def test_a_contact_may_come_from_the_environment(tmp_path: Path) -> None:
    job = load_job(tmp_path, "images: {headers: {User-Agent: 'me (${CONTACT:-me@x.example})'}}\n")
    assert job.images.headers == {"User-Agent": "me (me@x.example)"}
