"""Hosts that send too much, too slowly, packed, or not what they announced."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.images import fetch
from pipeline.images.limits import MAX_BYTES
from tests.images.hosts import Answer, Asked, Host, code_of, host, images, reply
from tests.support.pictures import picture


async def fetched(answer: Answer, **settings: Any) -> tuple[str, Host]:
    """The code of one image of this host."""
    async with host(answer) as seen, images(allow=[f"127.0.0.1:{seen.port}"], **settings) as loader:
        return await code_of(loader.load(seen.url(), inline=True)), seen


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_an_endless_body_is_cut_off() -> None:
    """What is read is counted, not what is announced; little more than the limit is sent."""
    sent = 0

    async def endless(_: Asked) -> AsyncIterator[bytes]:
        nonlocal sent
        yield HEAD
        while True:
            yield chunk(b"\xff" * 65536)
            sent += 65536

    code, _ = asyncio.run(fetched(endless))
    assert code == "too_large"
    assert MAX_BYTES <= sent < MAX_BYTES + 16_000_000  # what the sockets' buffers hold


def test_an_announced_size_is_refused_before_it_is_read() -> None:
    """A Content-Length above the limit is enough."""
    code, _ = asyncio.run(fetched(lambda _: reply(b"\xff\xd8\xff", length=MAX_BYTES + 1)))
    assert code == "too_large"


@pytest.mark.parametrize(
    ("length", "codes"),
    [(10_000, {"connect"}), (300, {"connect", "corrupt"}), (0, {"connect", "corrupt"})],
)
def test_a_lie_about_the_size_is_found(length: int, codes: set[str]) -> None:
    """More announced than sent: the connection broke. Less: that, or it is no whole picture."""
    data = picture(1)
    assert 300 < len(data) < 10_000
    got, _ = asyncio.run(fetched(lambda _: reply(data, length=length)))
    assert got in codes


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate"])
def test_a_packed_body_is_unpacked_up_to_the_size_of_an_image(encoding: str) -> None:
    """40 MB behind 40 KB are too large; a picture packed although nobody asked is a picture."""
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    bomb, whole = pack(bytes(40_000_000)), pack(picture(1))
    bare = zlib.compress(picture(1))[2:-4] if encoding == "deflate" else whole
    found = []
    for body in (bomb, whole, bare, whole[:60], b"no such thing"):
        code, seen = asyncio.run(fetched(lambda _, b=body: reply(b, Content_Encoding=encoding)))
        found.append(code)
        assert seen.asked[0].headers["accept-encoding"] == "identity"
    assert found == ["too_large", "ok", "ok", "corrupt", "corrupt"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_what_nobody_can_unpack_is_refused_by_its_header(encoding: str) -> None:
    code, _ = asyncio.run(fetched(lambda _: reply(picture(1), Content_Encoding=encoding)))
    assert code == "unsupported_format"


def drip(_: Asked) -> AsyncIterator[bytes]:
    async def drops() -> AsyncIterator[bytes]:
        yield HEAD
        while True:
            yield chunk(b"\xff")
            await asyncio.sleep(0.02)

    return drops()


def test_a_dripping_host_ends_with_the_time_of_a_download() -> None:
    """One byte now and then keeps a socket's own timeout from ever coming."""
    code, _ = asyncio.run(fetched(drip, timeout=0.3))
    assert code == "timeout"


def test_a_download_must_make_a_least_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the total time is over."""
    monkeypatch.setattr(fetch, "RATE_AFTER", 0.1)
    code, _ = asyncio.run(fetched(drip, timeout=3600))
    assert code == "timeout"


def test_a_host_that_never_answers_is_left() -> None:
    """Connected, asked, and silent."""

    async def nothing(_: Asked) -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    assert asyncio.run(fetched(nothing, timeout=0.2))[0] == "timeout"


def test_a_dripping_host_does_not_hold_up_another() -> None:
    """16 slow downloads of one host; a picture of another comes meanwhile."""

    async def both() -> tuple[str, list[str]]:
        async with host(drip) as slow, host(lambda _: reply(picture(1))) as good:
            ports = [f"127.0.0.1:{slow.port}", f"127.0.0.1:{good.port}"]
            async with images(allow=ports, timeout=3) as loader:
                async with asyncio.TaskGroup() as group:
                    urls = [slow.url(f"/{n}") for n in range(6)]
                    waiting = [
                        group.create_task(code_of(loader.load(url, inline=True))) for url in urls
                    ]
                    await asyncio.sleep(0.1)
                    code = await code_of(loader.load(good.url(), inline=True))
                    assert not any(one.done() for one in waiting)
                return code, [one.result() for one in waiting]

    assert asyncio.run(both()) == ("ok", ["timeout"] * 6)


def test_a_port_where_nobody_listens_is_connect() -> None:
    """Refused connections are transient."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def load() -> str:
        async with images(allow=[f"127.0.0.1:{port}"]) as loader:
            return await code_of(loader.load(f"http://127.0.0.1:{port}/", inline=True))

    assert asyncio.run(load()) == "connect"


@pytest.mark.parametrize(
    "said",
    [b"SSH-2.0-OpenSSH\r\n", b"HTTP/9 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA" + b"a" * 99999, b""],
)
def test_what_is_not_http_is_connect(said: bytes) -> None:
    """A server of another trade, or one that hangs up."""
    assert asyncio.run(fetched(lambda _: said))[0] == "connect"


def test_downloads_wait_for_room_in_memory() -> None:
    """20 pictures of 12 MB at once: never more than the limit is held, and all of them end."""
    data = picture(1) + bytes(12_000_000)

    async def load() -> tuple[list[str], int, int]:
        async with (
            host(lambda _: reply(data)) as seen,
            images(allow=[f"127.0.0.1:{seen.port}"]) as loader,
        ):
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(code_of(loader.load(seen.url(f"/{n}"), inline=True)))
                    for n in range(20)
                ]
            room = loader._budget
            return [one.result() for one in tasks], room.most, room.used

    codes, most, used = asyncio.run(load())
    assert codes == ["ok"] * 20
    assert 24_000_000 < most <= 64_000_000
    assert used == 0


def test_downloads_of_unknown_size_overdraw_one_at_a_time() -> None:
    """12 bodies of 15 MB without a length do not wait for each other for ever."""
    data = picture(1) + bytes(15_000_000)

    async def slices(_: Asked) -> AsyncIterator[bytes]:
        yield HEAD
        for at in range(0, len(data), 1 << 20):
            yield chunk(data[at : at + (1 << 20)])
        yield b"0\r\n\r\n"

    async def load() -> tuple[list[str], int]:
        async with host(slices) as seen, images(allow=[f"127.0.0.1:{seen.port}"]) as loader:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(code_of(loader.load(seen.url(f"/{n}"), inline=True)))
                    for n in range(12)
                ]
            return [one.result() for one in tasks], loader._budget.most

    codes, most = asyncio.run(load())
    assert codes == ["ok"] * 12
    assert most <= 64_000_000 + MAX_BYTES


def test_connections_that_the_host_closes_behind_our_back_are_made_anew() -> None:
    """40 pictures over kept connections that are closed after each answer: all of them come."""

    async def load() -> list[str]:
        async with (
            host(lambda _: reply(picture(1))) as seen,
            images(allow=[f"127.0.0.1:{seen.port}"]) as loader,
        ):
            urls = [seen.url(f"/{n}") for n in range(40)]
            return await asyncio.gather(*(code_of(loader.load(url, inline=True)) for url in urls))

    assert asyncio.run(load()) == ["ok"] * 40
