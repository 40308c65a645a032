"""Addresses that must not be reached, over real sockets: the canary sees no connection."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from pipeline.images import guard
from pipeline.images.guard import allowed, is_public
from tests.images.hosts import Host, Names, code_of, host, images, reply
from tests.support.pictures import picture

#: IANA's special-purpose registries, metadata services and their disguises; True: public.
ADDRESSES = {
    "8.8.8.8": True,
    "2606:4700::1111": True,
    "::ffff:8.8.8.8": True,
    "0.0.0.0": False,
    "10.0.0.1": False,
    "100.64.0.1": False,
    "100.100.100.200": False,
    "127.0.0.1": False,
    "127.255.255.254": False,
    "169.254.169.254": False,
    "172.16.0.1": False,
    "192.0.0.8": False,
    "192.0.2.1": False,
    "192.88.99.1": False,
    "192.168.0.1": False,
    "198.18.0.1": False,
    "224.0.0.1": False,
    "240.0.0.1": False,
    "255.255.255.255": False,
    "::": False,
    "::1": False,
    "::127.0.0.1": False,
    "::ffff:127.0.0.1": False,
    "::ffff:169.254.169.254": False,
    "64:ff9b::a9fe:a9fe": False,
    "64:ff9b:1::1": False,
    "2001::1": False,
    "2002:a9fe:a9fe::1": False,
    "fc00::1": False,
    "fd00:ec2::254": False,
    "fe80::1": False,
    "fec0::1": False,
    "ff02::1": False,
}
#: Hosts that some parser takes for loopback.
ODD = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "localhost",
    "LOCALHOST",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127.0.0.1.",
]


@pytest.fixture
def plain_port(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the canary's port as good as port 80, so that only the address can be what is wrong."""

    def use(port: int) -> None:
        monkeypatch.setitem(guard.PORTS, "http", port)

    return use


def canary() -> AbstractAsyncContextManager[Host]:
    return host(lambda _: reply(picture(1)))


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_public_addresses_are_public(address: str) -> None:
    """The table: three of these may be fetched by anybody."""
    assert is_public(ipaddress.ip_address(address)) is ADDRESSES[address]


@pytest.mark.parametrize("address", [one for one, public in ADDRESSES.items() if not public])
def test_a_name_for_such_an_address_is_blocked(address: str) -> None:
    """What a resolver answers is judged like a literal: no socket is made for it."""

    async def load() -> str:
        names = Names({"name.example": [[address]]})
        async with images(resolver=names) as loader:
            return await code_of(loader.load("http://name.example/a.jpg", inline=True))

    assert asyncio.run(load()) == "blocked_address"


@pytest.mark.parametrize("written", ODD)
def test_loopback_is_not_reached_however_it_is_written(
    written: str, plain_port: Callable[[int], None]
) -> None:
    """Each way of writing it is blocked (or no such name); the canary sees nothing."""

    async def load() -> tuple[str, Host]:
        async with canary() as seen, images() as loader:
            plain_port(seen.port)
            code = await code_of(loader.load(seen.url(host=written), inline=True))
            return code, seen

    code, seen = asyncio.run(load())
    assert code in ("blocked_address", "bad_uri") or (code == "dns" and written.endswith("."))
    assert seen.connections == 0


def test_the_canary_can_be_reached() -> None:
    """The control: opened by the job, the very same picture comes."""

    async def load() -> tuple[str, int]:
        async with canary() as seen, images(allow=[f"127.0.0.1:{seen.port}"]) as loader:
            return await code_of(loader.load(seen.url(), inline=True)), seen.connections

    assert asyncio.run(load()) == ("ok", 1)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("http://127.0.0.1:{port}/", "blocked_address"),
        ("//127.0.0.1:{port}/", "blocked_address"),
        ("http://[::ffff:127.0.0.1]:{port}/", "blocked_address"),
        ("http://0x7f000001:{port}/", "blocked_address"),
        ("http://user:word@127.0.0.1:{port}/", "bad_uri"),
        ("file:///etc/passwd", "bad_uri"),
        ("ftp://127.0.0.1:{port}/", "bad_uri"),
        ("gopher://127.0.0.1:{port}/", "bad_uri"),
        ("http://[broken", "bad_uri"),
    ],
)
def test_redirects_are_looked_at_anew(status: str, target: str, code: str) -> None:
    """A host that may be fetched leads to one that may not: the second sees nothing."""

    async def load() -> tuple[str, int, int]:
        async with canary() as hidden:
            where = target.format(port=hidden.port)
            async with (
                host(lambda _: reply(b"", status, Location=where)) as door,
                images(allow=[f"door.example:{door.port}"], resolver=LOCAL()) as loader,
            ):
                url = door.url(host="door.example")
                got = await code_of(loader.load(url, inline=True))
                return got, door.connections, hidden.connections

    assert asyncio.run(load()) == (code, 1, 0)


def LOCAL() -> Names:  # noqa: N802 - a constant but for its state
    return Names(
        {"door.example": [["127.0.0.1"]], "evil.example": [["127.0.0.1"]], "out.example": [[]]}
    )


def test_a_loop_of_redirects_ends() -> None:
    """Ten redirects and no more; relative targets are followed."""

    async def load() -> tuple[str, list[str]]:
        async with (
            host(lambda asked: reply(b"", "302 F", Location=asked.path + "x")) as door,
            images(allow=[f"127.0.0.1:{door.port}"]) as loader,
        ):
            code = await code_of(loader.load(door.url("/"), inline=True))
            return code, [one.path for one in door.asked]

    assert asyncio.run(load()) == ("http_4xx", ["/" + "x" * times for times in range(11)])


def test_a_name_that_resolves_differently_the_second_time_is_blocked(
    plain_port: Callable[[int], None],
) -> None:
    """Rebinding: the address is judged when it is dialled, so a kept answer is worth nothing."""

    async def load() -> tuple[list[str], int]:
        async with canary() as seen:
            plain_port(seen.port)
            names = Names({"re.example": [["8.8.8.8"], ["127.0.0.1"]]})
            await names.resolve("re.example")  # somebody else's look at it: public
            async with images(resolver=names) as loader:
                url = seen.url(host="re.example")
                return [await code_of(loader.load(url, inline=True))], seen.connections

    assert asyncio.run(load()) == (["blocked_address"], 0)


def test_of_mixed_answers_only_the_open_one_is_dialled() -> None:
    """Of a private and an opened address, the picture comes from the opened one."""

    async def load() -> tuple[str, int, int]:
        async with (
            host(lambda _: reply(picture(2))) as good,
            host(lambda _: reply(picture(2)), "127.0.0.2") as bad,
        ):
            names = Names({"two.example": [["127.0.0.2", "127.0.0.1"]]})
            opened = ["127.0.0.1/32"]
            async with images(allow=opened, resolver=names) as loader:
                url = good.url(host="two.example")
                code = await code_of(loader.load(url, inline=True))
                return code, good.connections, bad.connections

    assert asyncio.run(load()) == ("ok", 1, 0)


def test_a_name_opened_by_the_job_opens_nothing_for_another_name(
    plain_port: Callable[[int], None],
) -> None:
    """Two names for one address: the one in images.allow is fetched, the stranger is not."""

    async def load() -> tuple[list[str], int]:
        async with host(lambda _: reply(picture(3))) as seen:
            plain_port(seen.port)
            allow = [f"door.example:{seen.port}"]
            async with images(allow=allow, resolver=LOCAL()) as loader:
                urls = [seen.url(host=name) for name in ("door.example", "evil.example")]
                codes = [await code_of(loader.load(url, inline=True)) for url in urls]
                return codes, seen.connections

    assert asyncio.run(load()) == (["ok", "blocked_address"], 1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("http://example.com:6379/a.jpg", "blocked_address"),
        ("http://example.com:443/a.jpg", "blocked_address"),
        ("http://user@example.com/a.jpg", "bad_uri"),
        ("http://user:word@example.com/a.jpg", "bad_uri"),
        ("http://@example.com/a.jpg", "bad_uri"),
        ("http://a@b@127.0.0.1/a.jpg", "bad_uri"),
        ("http://example.com/a\r\nHost: x", "bad_uri"),
        ("http://example.com\\@127.0.0.1/", "bad_uri"),
        ("http://exa mple.com/a.jpg", "bad_uri"),
        ("http://example.com\t/a.jpg", "bad_uri"),
        ("//user@example.com/a.jpg", "bad_uri"),
        (" http://example.com:6379/a.jpg ", "blocked_address"),
        ("//example.com:6379/a.jpg", "blocked_address"),
        ("//169.254.169.254/latest", "blocked_address"),
        ("http:///a.jpg", "bad_uri"),
        ("http://example.com:0/a.jpg", "bad_uri"),
        ("http://example.com:99999/a.jpg", "bad_uri"),
        ("http://[::1/a.jpg", "bad_uri"),
        ("http://example.com/" + "a" * 8192, "bad_uri"),
        ("ftp://example.com/a.jpg", "bad_uri"),
        ("javascript://example.com/a.jpg", "bad_uri"),
        ("file://example.com/etc/passwd", "bad_uri"),
    ],
)
def test_urls_are_refused_before_any_name_is_resolved(text: str, code: str) -> None:
    """Ports, users, odd characters, schemes: told from the text alone."""

    async def load() -> tuple[str, list[str]]:
        names = Names({"example.com": [["8.8.8.8"]]})
        async with images(resolver=names) as loader:
            return await code_of(loader.load(text, inline=True)), names.asked

    assert asyncio.run(load()) == (code, [])


def test_a_network_opens_every_port_of_its_addresses() -> None:
    """A CIDR in images.allow needs no name."""

    async def load() -> list[str]:
        async with host(lambda _: reply(picture(4))) as seen:
            codes = []
            for allow in (["127.0.0.0/8"], ["10.0.0.0/8"]):
                async with images(allow=allow, resolver=LOCAL()) as loader:
                    url = seen.url(host="door.example")
                    codes.append(await code_of(loader.load(url, inline=True)))
            return codes

    assert asyncio.run(load()) == ["ok", "blocked_address"]


@pytest.mark.parametrize("entry", ["http://x", "a/b", " ", "1.2.3.4/99"])
def test_an_entry_that_opens_nothing_is_refused(entry: str) -> None:
    """images.allow names hosts, host:port pairs and networks, nothing else."""
    with pytest.raises(ValueError, match="is not a host, host:port or network"):
        allowed([entry])


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary is the proxy; without images.proxy it sees nothing."""

    async def load() -> tuple[str, int]:
        async with canary() as proxy, host(lambda _: reply(picture(5))) as good:
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            async with images(allow=[f"127.0.0.1:{good.port}"]) as loader:
                return await code_of(loader.load(good.url(), inline=True)), proxy.connections

    assert asyncio.run(load()) == ("ok", 0)
