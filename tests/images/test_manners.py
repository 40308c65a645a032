"""How image hosts are treated: their wishes, our name, no secret, nothing downloaded twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from pipeline.errors import JobError
from pipeline.images.fetch import USER_AGENT
from tests.images.hosts import Answer, FastClock, Host, Names, code_of, host, images, reply
from tests.support.pictures import picture


async def fetched(
    answer: Answer, *, clock: FastClock | None = None, **settings: object
) -> tuple[str, Host]:
    async with host(answer) as seen:
        allow = [f"127.0.0.1:{seen.port}"]
        async with images(allow=allow, clock=clock, **settings) as loader:
            return await code_of(loader.load(seen.url(), inline=True)), seen


def said(*answers: bytes) -> Answer:
    """One answer after the other, then a picture."""
    left: Iterator[bytes] = iter(answers)
    return lambda _: next(left, reply(picture(1)))


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [("7", 7, 7), ("date", 30, 40), ("", 2, 2), ("soon", 2, 2), ("-1", 2, 2)],
)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_a_host_is_asked_again_when_it_says(
    status: str, wait: str, least: float, most: float
) -> None:
    """Retry-After in seconds or as a date; without one, or with nonsense, a short rest."""
    clock = FastClock()
    wait = formatdate(clock.now() + 40) if wait == "date" else wait
    code, seen = asyncio.run(fetched(said(reply(b"", status, Retry_After=wait)), clock=clock))
    assert code == "ok"
    assert len(seen.asked) == 2
    assert least - 1 <= sum(clock.slept) <= most + 1


def test_a_host_that_rests_for_an_hour_is_not_waited_for() -> None:
    """The image fails with a transient code, so that the next run asks."""
    clock = FastClock()
    answer = reply(b"", "429 Too Many Requests", Retry_After="3600")
    code, seen = asyncio.run(fetched(said(answer), clock=clock))
    assert (code, len(seen.asked), clock.slept) == ("http_5xx", 1, [])


def test_a_resting_host_rests_for_all_its_images() -> None:
    """After a 429 no other image of that host is asked for before its time."""
    clock = FastClock()

    async def load() -> tuple[list[str], list[float]]:
        answer = said(reply(b"", "429 Too Many Requests", Retry_After="20"))
        async with (
            host(answer) as seen,
            images(allow=[f"127.0.0.1:{seen.port}"], clock=clock) as loader,
        ):
            first = asyncio.create_task(code_of(loader.load(seen.url("/1"), inline=True)))
            await clock.first.wait()
            before = len(seen.asked)
            codes = [await code_of(loader.load(seen.url("/2"), inline=True)), await first]
            assert before == 1
            return codes, clock.slept

    codes, slept = asyncio.run(load())
    assert codes == ["ok", "ok"]
    assert 19 < sum(slept) < 21


@pytest.mark.parametrize(
    ("status", "code", "times"),
    [
        ("400 Bad Request", "http_4xx", 1),
        ("401 Unauthorized", "http_4xx", 1),
        ("403 Forbidden", "http_4xx", 1),
        ("404 Not Found", "http_4xx", 1),
        ("410 Gone", "http_4xx", 1),
        ("204 No Content", "http_4xx", 1),
        ("206 Partial Content", "http_4xx", 1),
        ("304 Not Modified", "http_4xx", 1),
        ("408 Request Timeout", "http_5xx", 3),
        ("429 Too Many Requests", "http_5xx", 3),
        ("500 Internal Server Error", "http_5xx", 3),
        ("503 Service Unavailable", "http_5xx", 3),
        ("501 Not Implemented", "http_5xx", 1),
        ("505 Version", "http_5xx", 1),
    ],
)
def test_a_status_is_told_by_its_code(status: str, code: str, times: int) -> None:
    """What will not change is asked for once; what may, three times."""
    answer = reply(b"", status)
    got, seen = asyncio.run(fetched(said(*[answer] * 9), clock=FastClock()))
    assert (got, len(seen.asked)) == (code, times)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("noai", "noai"),
        ("NoAI", "noai"),
        ("noindex, noai", "noai"),
        ("noimageai", "noai"),
        ("otherbot: noai", "noai"),
        ("noindex", "ok"),
        ("noaim", "ok"),
    ],
)
def test_a_wish_not_to_be_used_is_honoured(header: str, code: str) -> None:
    """X-Robots-Tag: noai is recorded as the reason."""
    got, _ = asyncio.run(fetched(lambda _: reply(picture(1), X_Robots_Tag=header)))
    assert got == code


def test_no_header_holds_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys of the environment, a netrc and cookies stay here; our name is told."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password canary-word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("OPENROUTER_API_KEY", "canary-key")

    async def load() -> Host:
        async with host(lambda _: reply(picture(1), Set_Cookie="canary=1; Path=/")) as seen:
            async with images(allow=[f"127.0.0.1:{seen.port}"]) as loader:
                for number in range(3):
                    await loader.load(seen.url(f"/{number}"), inline=True)
            return seen

    seen = asyncio.run(load())
    assert len(seen.asked) == 3
    for asked in seen.asked:
        assert asked.headers.keys() == {"host", "user-agent", "accept", "accept-encoding"}
        assert asked.headers["user-agent"] == USER_AGENT
        assert "canary" not in str(asked)


def test_an_error_does_not_tell_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signed URL is a secret; failures of every kind name the host alone."""

    async def load() -> list[str]:
        told = []
        answers = [
            reply(b"", "403 No"),
            reply(b"<html>"),
            reply(b"", "302 F", Location="ftp://x/?sig=canary"),
        ]
        async with host(said(*answers)) as seen, images(allow=[f"127.0.0.1:{seen.port}"]) as loader:
            urls = [seen.url("/a?sig=canary")] * 3
            urls += ["http://u:canary@x/", "http://10.0.0.1/?canary", "http://x:1/?canary"]
            for url in urls:
                try:
                    await loader.load(url, inline=True)
                except Exception as error:  # noqa: BLE001 - whatever it is, its words count
                    told.append(f"{error!r} {error.__cause__!r}")
        return told

    told = asyncio.run(load())
    assert len(told) == 6
    assert "canary" not in " ".join(told)


def test_the_cache_spares_the_second_download(tmp_path: Path) -> None:
    """Two runs, five pictures, each asked for by two rows at once: five requests in all."""
    cache = tmp_path / "cache"

    async def load() -> tuple[list[int], list[bytes | None]]:
        counts, got = [], []
        async with host(lambda asked: reply(picture(int(asked.path[1:])))) as seen:
            for _ in range(2):
                async with images(allow=[f"127.0.0.1:{seen.port}"], cache=str(cache)) as loader:
                    urls = [seen.url(f"/{n % 5}") for n in range(10)]
                    loads = [loader.load(url, inline=True) for url in urls]
                    got += [one.data for one in await asyncio.gather(*loads)]
                counts.append(len(seen.asked))
        return counts, got

    counts, got = asyncio.run(load())
    assert counts == [5, 5]
    assert got[:5] * 4 == got
    assert len(set(got)) == 5
    assert cache.stat().st_mode & 0o077 == 0
    assert len(list(cache.iterdir())) == 5


def test_without_a_cache_every_run_downloads() -> None:
    """The control for the test above."""

    async def load() -> int:
        async with host(lambda _: reply(picture(1))) as seen:
            for _ in range(2):
                async with images(allow=[f"127.0.0.1:{seen.port}"]) as loader:
                    await loader.load(seen.url(), inline=True)
            return len(seen.asked)

    assert asyncio.run(load()) == 2


def test_failures_are_not_cached(tmp_path: Path) -> None:
    """A 404 of today is asked for again tomorrow."""

    async def load() -> list[str]:
        codes = []
        async with host(said(reply(b"", "404 Not Found"))) as seen:
            for _ in range(2):
                allow = [f"127.0.0.1:{seen.port}"]
                async with images(allow=allow, cache=str(tmp_path / "c")) as loader:
                    codes.append(await code_of(loader.load(seen.url(), inline=True)))
        return codes

    assert asyncio.run(load()) == ["http_4xx", "ok"]


def test_a_cache_that_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    """A file where the folder should be: the job is wrong, not the images."""
    (tmp_path / "c").write_text("")

    async def load() -> None:
        async with images(cache=str(tmp_path / "c")):
            pass

    with pytest.raises(JobError, match=r"images\.cache"):
        asyncio.run(load())


@pytest.mark.parametrize("how", ["url", "env"])
def test_the_proxy_of_the_job_is_used(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """images.proxy fetches for us: it sees the whole URL, and names are its matter."""

    async def load() -> tuple[str, Host]:
        async with host(lambda _: reply(picture(1))) as proxy:
            address = f"http://127.0.0.1:{proxy.port}"
            monkeypatch.setenv("http_proxy", address)
            async with images(proxy="env" if how == "env" else address) as loader:
                got = await code_of(loader.load("http://far.example/a.jpg?x=1", inline=True))
                return got, proxy

    code, proxy = asyncio.run(load())
    assert code == "ok"
    assert [one.line for one in proxy.asked] == ["GET http://far.example/a.jpg?x=1 HTTP/1.1"]


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "[::1]",
        "localhost",
        "metadata",
        "x.internal",
        "0x7f000001",
        "far.example:8080",
    ],
)
def test_a_proxy_is_not_sent_where_we_may_not_go(name: str) -> None:
    """What can be told from the URL alone is told before the proxy hears of it."""

    async def load() -> tuple[str, int]:
        async with (
            host(lambda _: reply(picture(1))) as proxy,
            images(proxy=f"http://127.0.0.1:{proxy.port}") as loader,
        ):
            url = f"http://{name}/latest/meta-data"
            return await code_of(loader.load(url, inline=True)), proxy.connections

    assert asyncio.run(load()) == ("blocked_address", 0)


def test_a_proxy_that_refuses_is_connect() -> None:
    """CONNECT answered with 403."""

    async def load() -> str:
        async with (
            host(lambda _: reply(b"", "403 Forbidden")) as proxy,
            images(proxy=f"http://127.0.0.1:{proxy.port}") as loader,
        ):
            return await code_of(loader.load("https://far.example/a.jpg", inline=True))

    assert asyncio.run(load()) == "connect"


def test_a_host_goes_inline_once_the_service_cannot_fetch_it() -> None:
    """Three in a row; URLs are passed on until then, also other hosts' after it."""

    async def load() -> list[bool]:
        async with host(lambda _: reply(picture(1))) as seen:
            names = {"near.example": [["127.0.0.1"]], "far.example": [["127.0.0.1"]]}
            async with images(allow=["127.0.0.1/32"], resolver=Names(names)) as loader:
                urls = [seen.url(f"/{n}", "near.example") for n in range(3)]
                urls.append(seen.url("/", "far.example"))
                got = [await loader.load(urls[0], inline=False)]
                assert not seen.asked
                assert [loader.not_fetched(url) for url in urls[:2]] == [None, None]
                loader.fetched(urls[2:3])  # a success between: that was only a dead link or two
                told = [loader.not_fetched(url) for url in urls[:3]]
                assert told == [None, None, "near.example"]
                got += [await loader.load(url, inline=False) for url in urls]
                assert [one.path for one in seen.asked] == ["/0", "/1", "/2"]
                return [one.data is not None for one in got]

    assert asyncio.run(load()) == [False, True, True, True, False]


def test_a_private_place_goes_inline_by_itself() -> None:
    """The service cannot see what images.allow opens; a private address it opens not, fails."""

    async def load() -> tuple[bool, list[str]]:
        async with (
            host(lambda _: reply(picture(1))) as seen,
            images(allow=[f"127.0.0.1:{seen.port}"]) as loader,
        ):
            image = await loader.load(seen.url(), inline=False)
            closed = ["http://10.0.0.1/a.jpg", "http://127.1/", "http://u:p@example.com/"]
            codes = [await code_of(loader.load(url, inline=False)) for url in closed]
            return image.url is None, codes

    assert asyncio.run(load()) == (True, ["blocked_address", "blocked_address", "bad_uri"])
