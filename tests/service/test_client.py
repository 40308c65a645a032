"""The client over real sockets, against servers that lie: a whole answer, or NoReply and why."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import ssl
import subprocess
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
import pytest
import uvloop

from pipeline import aio
from pipeline.errors import NoReply
from pipeline.model import Reply
from pipeline.service import client as client_module
from pipeline.service import exchange
from pipeline.service.classify import classify
from pipeline.verdict import Kind
from tests.service.servers import ANSWER, KEY, Act, Heard, client_of, resets, response, says, served
from tests.support.gateways import gateway

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def go(coroutine: Coroutine[Any, Any, Any], loop: str = "uvloop") -> Any:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(coroutine)


async def sent_to(act: Act, **settings: object) -> Reply | NoReply:
    """One POST to a server that acts so."""
    async with served(act) as server, client_of(server.base, **settings) as client:
        try:
            return await client.send(b"{}")
        except NoReply as lost:
            return lost


def kind(reply: Reply | NoReply) -> Kind:
    assert isinstance(reply, Reply), reply
    return classify(reply, now=0.0)[0].kind


# --- time


async def _pads(record_result: Heard) -> None:
    """Headers at once, then blanks for far longer than the deadline, then a good answer."""
    record_result.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(300):
        record_result.writer.write(b"2\r\n \n\r\n")
        await record_result.writer.drain()
        await asyncio.sleep(0.01)
    record_result.writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER))


async def _drips(record_result: Heard) -> None:
    """A good answer, a byte at a time."""
    record_result.writer.write(response()[: -len(ANSWER)])
    for byte in ANSWER:
        record_result.writer.write(bytes((byte,)))
        await record_result.writer.drain()
        await asyncio.sleep(0.03)


async def _drips_headers(record_result: Heard) -> None:
    for byte in response():
        record_result.writer.write(bytes((byte,)))
        await record_result.writer.drain()
        await asyncio.sleep(0.03)


async def _says_nothing(_: Heard) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("act", [_pads, _drips, _drips_headers, _says_nothing])
def test_the_deadline_is_for_the_whole_call(act: Act, loop: str) -> None:
    """Bytes that keep coming do not put it off; the request counts as received."""
    lost = go(sent_to(act, timeout=0.4), loop)

    assert isinstance(lost, NoReply)
    assert (lost.code, lost.sent) == ("timeout_service", True)
    assert "0.4 s" in lost.message


@pytest.mark.parametrize("loop", LOOPS)
def test_what_came_while_the_process_stood_still_is_read(
    monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    """A stopped process or a stalled machine: the answer lies in the socket, and is paid for."""
    monkeypatch.setattr(aio, "STOOD_STILL", 0.1)

    def answer(to: socket.socket, body: bytes) -> None:
        time.sleep(0.1)
        to.sendall(response())

    async def ask() -> Reply:
        with gateway(answer) as service:
            async with client_of(service.base, timeout=0.3) as client:
                left = asyncio.Event()
                asking = asyncio.create_task(client.send(b"{}", left.set))
                await left.wait()
                time.sleep(0.6)  # noqa: ASYNC251 - the loop stands still, as a process would
                return await asking

    assert kind(go(ask(), loop)) is Kind.OK


def test_padding_within_the_deadline_is_harmless() -> None:
    """Blanks before the JSON belong to a good answer."""
    pad = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\n \n\r\n" * 200
    end = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)

    assert kind(go(sent_to(says(pad, end)))) is Kind.OK


@asynccontextmanager
async def full_backlog() -> AsyncIterator[str]:
    """A port that takes no more connections: the handshake of the next one never ends."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(3):
            plug = socket.socket()
            plug.setblocking(False)
            plug.connect_ex(listening.getsockname())
            waiting.append(plug)
        await asyncio.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            for plug in waiting:
                plug.close()


async def not_connected(**settings: object) -> NoReply:
    async with full_backlog() as base, client_of(base, **settings) as client:
        with pytest.raises(NoReply) as lost:
            await client.send(b"{}")
        return lost.value


def test_connecting_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before the deadline of the call; the request can be given back."""
    monkeypatch.setattr(client_module, "CONNECT_SECONDS", 0.2)
    lost = go(not_connected(timeout=60))

    assert (lost.code, lost.sent) == ("server_error", False)


def test_a_short_deadline_leaves_no_doubt_about_a_connection_that_never_was() -> None:
    """The limit of connecting is always below the deadline."""
    assert go(not_connected(timeout=0.4)).sent is False


def test_a_name_that_takes_for_ever_to_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name resolution is part of connecting."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", never)

    async def ask() -> NoReply:
        settings = {"profile": "vllm", "timeout": 0.4}
        async with client_of("http://slow.example/v1", **settings) as client:
            with pytest.raises(NoReply) as lost:
                await client.send(b"{}")
            return lost.value

    assert go(ask(), "asyncio").sent is False


# --- was it sent?


def _free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


@pytest.mark.parametrize("loop", LOOPS)
def test_nobody_listens(loop: str) -> None:
    """Refused: nothing was sent, and the words say so."""

    async def ask() -> NoReply:
        async with client_of(f"http://127.0.0.1:{_free_port()}/v1") as client:
            with pytest.raises(NoReply) as lost:
                await client.send(b"{}")
            return lost.value

    lost = go(ask(), loop)
    assert (lost.code, lost.sent) == ("server_error", False)
    assert "refused" in lost.message


def test_a_name_that_does_not_exist() -> None:
    """Nothing was sent, and the words say that it is the name."""

    async def ask() -> NoReply:
        async with client_of("http://no-such-host.invalid/v1", profile="vllm") as client:
            with pytest.raises(NoReply) as lost:
                await client.send(b"{}")
            return lost.value

    lost = go(ask())
    assert lost.sent is False
    assert "no-such-host.invalid" in lost.message


def test_a_server_that_speaks_no_tls() -> None:
    """The handshake fails: the key never left."""
    seen = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(4096))
        writer.write(response(b"plain HTTP here", "400 Bad Request"))
        writer.close()

    lost = go(refused_by(talk))
    assert lost.sent is False
    assert "no TLS" in lost.message
    assert all(KEY.encode() not in one and b"POST" not in one for one in seen)


async def refused_by(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None = None,
) -> NoReply:
    """What an https client meets at such a server."""
    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        async with client_of(f"https://127.0.0.1:{port}/v1") as client:
            with pytest.raises(NoReply) as lost:
                await client.send(b"{}")
            return lost.value
    finally:
        server.close()


def test_a_certificate_that_nobody_vouches_for(tmp_path: Any) -> None:
    """Self-signed: no request, no key, and the words name the certificate."""
    seen = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(100))
        writer.close()

    lost = go(refused_by(talk, self_signed(tmp_path)))
    assert lost.sent is False
    assert "certificate" in lost.message
    assert not any(seen)


def self_signed(folder: Any) -> ssl.SSLContext:
    """A certificate of our own making."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


HEAD = response()[: -len(ANSWER)]
BROKEN: dict[str, Act] = {
    "reset before headers": resets(),
    "reset within headers": resets(HEAD[:20]),
    "reset after headers": resets(HEAD),
    "reset within the body": resets(HEAD, ANSWER[:20]),
    "closed before headers": says(close=True),
    "closed within headers": says(HEAD[:20], close=True),
    "closed within the body": says(HEAD, ANSWER[:20], close=True),
    "chunks cut": says(
        response(b"10\r\n" + ANSWER[:16] + b"\r\n", "200 OK", "Transfer-Encoding: chunked"),
        close=True,
    ),
    "chunk size is a word": says(
        response(b"many\r\nx\r\n", "200 OK", "Transfer-Encoding: chunked"), close=True
    ),
    "length is a word": says(response(ANSWER, "200 OK", "Content-Length: many"), close=True),
    "no HTTP": says(b"SSH-2.0-OpenSSH_9.6\r\n", close=True),
    "a header of a megabyte": says(
        response(ANSWER, "200 OK", "X-Long: " + "x" * 2**20), close=True
    ),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("what", BROKEN)
def test_an_answer_that_breaks_is_no_answer(what: str, loop: str) -> None:
    """However it breaks: the server may have counted the request, and nothing half is kept."""
    lost = go(sent_to(BROKEN[what]), loop)

    assert isinstance(lost, NoReply), lost
    assert (lost.code, lost.sent) == ("server_error", True)
    assert KEY not in lost.message


def test_a_connection_that_broke_is_not_used_again() -> None:
    """The next request gets a new one and a whole answer."""
    acts = [resets(HEAD), says(response())]

    async def act(record_result: Heard) -> None:
        await acts.pop(0)(record_result)

    async def ask() -> Reply:
        async with served(act) as server, client_of(server.base) as client:
            with pytest.raises(NoReply):
                await client.send(b"{}")
            return await client.send(b"{}")

    assert kind(go(ask())) is Kind.OK


@pytest.mark.parametrize("late", [False, True])
def test_an_answer_nobody_asked_for_is_nobodys_answer(late: bool) -> None:
    """Two responses to one request: the second must never become the answer to the next one,
    or a caption would land on the wrong image."""
    smuggled = response(ANSWER.replace(b"A cat.", b"Wrong!"))

    async def act(record_result: Heard) -> None:
        record_result.writer.write(response() if late else response() + smuggled)
        await record_result.writer.drain()
        if late:
            await asyncio.sleep(0.02)
            record_result.writer.write(smuggled)
            await record_result.writer.drain()

    async def ask() -> tuple[list[bytes], int]:
        async with served(act) as server, client_of(server.base, concurrency=1) as client:
            found, lost = [], 0
            for _ in range(6):
                (answer,) = await asyncio.gather(client.send(b"{}"), return_exceptions=True)
                if isinstance(answer, Reply):
                    found.append(answer.body)
                else:
                    assert isinstance(answer, NoReply)
                    assert (answer.code, answer.sent) == ("server_error", True)
                    lost += 1
                await asyncio.sleep(0.1)
            assert client.spoiled == 3  # from then on each request has its own connection
            assert server.connections >= 6
            return found, lost

    assert go(ask()) == ([ANSWER] * (6 if late else 3), 0 if late else 3)


def test_the_answers_of_a_connection_are_doubted_when_more_comes_on_it() -> None:
    """Each of them once, and named by what was given with its request."""
    silent = True

    async def act(record_result: Heard) -> None:
        await says(response())(record_result)
        if not silent:
            await asyncio.sleep(0.01)
            record_result.writer.write(response())

    def written() -> None:
        """Stands for the request."""

    async def ask() -> None:
        nonlocal silent
        async with served(act) as server, client_of(server.base, concurrency=1) as client:
            await client.send(b"{}", written)
            assert await client.last_look() == []
            silent = False
            await client.send(b"{}", written)
            found = [*client.doubted(), *await client.last_look()]
            assert found == [written, written]
            assert [*client.doubted(), *await client.last_look()] == []

    go(ask())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("status", ["200 OK", "413 Payload Too Large"])
def test_an_answer_before_the_request_has_left(
    status: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caption of a picture that is still here is another one's, and so may be the one before it
    on that connection; a refusal is ours."""
    monkeypatch.setattr(exchange, "QUIET_SECONDS", 0.0)
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(response())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(status=status))
        await over.wait()  # the rest is never read
        writer.transport.abort()

    def first() -> None:
        """Stands for the request before."""

    async def ask() -> tuple[Reply | NoReply, list[Callable[[], None]]]:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server, client_of(base, concurrency=1) as client:
            await client.send(b"{}", first)
            (answer,) = await asyncio.gather(client.send(b"x" * 2**25), return_exceptions=True)
            assert isinstance(answer, Reply | NoReply)
            over.set()
            return answer, client.doubted()

    answer, doubted = go(ask(), loop)

    if status == "200 OK":
        assert isinstance(answer, NoReply)
        assert (answer.code, answer.sent, doubted) == ("server_error", True, [first])
    else:
        assert isinstance(answer, Reply)
        assert (answer.status, doubted) == (413, [])


@pytest.mark.parametrize("closed", [False, True], ids=["idle for too long", "closed meanwhile"])
def test_an_idle_connection_that_may_be_dead_is_not_used(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request on it would be lost, and counted by a limit all the same."""
    if not closed:
        monkeypatch.setattr(exchange, "IDLE_SECONDS", 0.05)

    async def ask() -> tuple[list[bytes], int]:
        act = says(response(), close=closed)
        async with served(act) as server, client_of(server.base) as client:
            found = []
            for _ in range(3):
                found.append((await client.send(b"{}")).body)
                await asyncio.sleep(0.1)
            return found, server.connections

    assert go(ask()) == ([ANSWER] * 3, 3)


def test_it_is_told_when_a_request_leaves() -> None:
    """Once for each attempt, before the service answers; never when there is no connection."""
    times: list[str] = []

    async def act(record_result: Heard) -> None:
        times.append("heard")
        record_result.writer.write(response())
        await record_result.writer.drain()

    async def ask() -> None:
        async with served(act) as server, client_of(server.base, concurrency=1) as client:
            for _ in range(2):
                await client.send(b"{}", lambda: times.append("left"))
        async with client_of(f"http://127.0.0.1:{_free_port()}") as client:
            with pytest.raises(NoReply):
                await client.send(b"{}", lambda: times.append("left"))

    go(ask())
    assert times == ["left", "heard"] * 2


# --- forms of a good body


def _packed(codec: str) -> bytes:
    return bytes(pa.Codec(codec).compress(ANSWER))


FORMS = {
    "gzip": response(gzip.compress(ANSWER), "200 OK", "Content-Encoding: gzip"),
    "gzip that is none": response(ANSWER, "200 OK", "Content-Encoding: gzip"),
    "bytes after the gzip member": response(
        gzip.compress(ANSWER) + b"\0\0more", "200 OK", "Content-Encoding: gzip"
    ),
    "deflate without its head": response(
        zlib.compress(ANSWER)[2:-4], "200 OK", "Content-Encoding: deflate"
    ),
    "a header of 34 KB": response(ANSWER, "200 OK", f"X-Policy: {'img-src a; ' * 3100}"),
    "deflate": response(zlib.compress(ANSWER), "200 OK", "Content-Encoding: deflate"),
    "chunked": response(
        b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (ANSWER[:5], len(ANSWER) - 5, ANSWER[5:]),
        "200 OK",
        "Transfer-Encoding: chunked",
    ),
    "HTTP/1.0 until the end": b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER,
    "brotli unasked": response(_packed("brotli"), "200 OK", "Content-Encoding: br"),
    "zstd unasked": response(_packed("zstd"), "200 OK", "Content-Encoding: zstd"),
    "HTML type": response(ANSWER, "200 OK", "Content-Type: text/html; charset=nonsense"),
    "no reason": b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_answer_in_any_form(form: str) -> None:
    """Compressed, in chunks, without a length, with a wrong type: the same bytes."""
    reply = go(sent_to(says(FORMS[form], close=form.startswith("HTTP/1.0"))))

    assert isinstance(reply, Reply)
    assert reply.body == ANSWER


_LATE = b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s"
#: The connection ends before the body does, by what its head says; the answer is whole all the same.
ENDED = {
    "a length too large": _LATE % (b"Content-Length: 5000", ANSWER),
    "a length too large, in gzip": _LATE
    % (b"Content-Encoding: gzip\r\nContent-Length: 5000", gzip.compress(ANSWER)),
    "last chunk missing": _LATE
    % (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(ANSWER), ANSWER)),
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("form", ENDED)
def test_a_whole_answer_under_a_wrong_length_is_read(
    form: str, close: bool, proxied: bool, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy too, which the session does; also where the connection stays open."""
    monkeypatch.setattr("pipeline.service.exchange.STALLED_SECONDS", 0.05)

    async def ask() -> Reply | NoReply:
        async with served(says(ENDED[form], close=close)) as server:
            more = {"proxy": server.base.removesuffix("/api/v1")} if proxied else {}
            async with client_of(server.base, **more) as client:
                try:
                    return await client.send(b"{}")
                except NoReply as lost:
                    return lost

    reply = go(ask(), loop)

    assert isinstance(reply, Reply), reply
    assert reply.body == ANSWER


def test_an_answer_that_pauses_in_its_middle_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence ends no answer that is not whole: services pad with blanks, or write slowly."""
    monkeypatch.setattr("pipeline.service.exchange.STALLED_SECONDS", 0.01)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(ANSWER) + 3)

    async def act(heard: Heard) -> None:
        for piece in (head + b"   ", ANSWER[:40], ANSWER[40:]):
            await says(piece)(heard)
            await asyncio.sleep(0.1)

    reply = go(sent_to(act))

    assert isinstance(reply, Reply), reply
    assert reply.body.strip() == ANSWER


#: A pair of surrogates in two pieces of a stream.
STREAM = b"\n\n".join(
    (
        b"\xef\xbb\xbf: hello",
        rb'data: {"choices":[{"delta":{"content":"A \ud83d"}}]}',
        rb'data: {"choices":[{"delta":{"content":"\ude00"},"finish_reason":"stop"}]}',
        b"data: [DONE]",
    )
)
CAPTIONED = {
    "a byte order mark": (b"\xef\xbb\xbf" + ANSWER, "A cat."),
    "comment lines": (b": keep-alive\n\n: keep-alive\n\n" + ANSWER, "A cat."),
    "comment lines after it": (ANSWER + b"\n: keep-alive\n", "A cat."),
    "half of a pair": (ANSWER.replace(b"cat", rb"\ud83d"), "A \ufffd."),
    "a pair": (ANSWER.replace(b"cat", rb"\ud83d\ude00"), "A \U0001f600."),
    "bytes that are no UTF-8": (ANSWER.replace(b"cat", b"c\xffat"), "A c\ufffdat."),
    "a line break in a string": (ANSWER.replace(b"cat", b"ca\nt"), "A ca\nt."),
    "a stream behind a mark": (STREAM, "A \U0001f600"),
}


@pytest.mark.parametrize("form", CAPTIONED)
def test_what_stands_around_or_inside_a_whole_answer_does_not_lose_it(form: str) -> None:
    """It has been paid for."""
    body, caption = CAPTIONED[form]
    reply = go(sent_to(says(response(body))))

    assert isinstance(reply, Reply)
    verdict, completion = classify(reply, now=0.0)
    assert verdict.kind is Kind.OK
    assert completion is not None
    assert completion.content == caption


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (response(b"LZIP", "200 OK", "Content-Encoding: lzma"), "with lzma, which was not"),
        (response(b"\x8b\xff\xff", "200 OK", "Content-Encoding: br"), "with br, which was not"),
        (
            response(b"(\xb5/\xfd\xff", "200 OK", "Content-Encoding: zstd"),
            "with zstd, which was not",
        ),
        (response(b"\x1f\x8b no", "200 OK", "Content-Encoding: gzip"), "compression is damaged"),
        (
            response(ANSWER, "200 OK", f"X-Policy: {'x' * 200_000}"),
            "header of the answer is longer",
        ),
    ],
)
def test_what_cannot_be_read_is_said(form: bytes, words: str) -> None:
    """No broken connection: who reads it knows where to look."""
    lost = go(sent_to(says(form)))

    assert isinstance(lost, NoReply)
    assert words in lost.message


def test_only_what_can_be_read_is_asked_for() -> None:
    """Whichever libraries are installed beside this one."""

    async def ask() -> str:
        async with served(says(response())) as server, client_of(server.base) as client:
            await client.send(b"{}")
        return server.record_result[0].headers["accept-encoding"]

    assert go(ask()) == "gzip, deflate"


@pytest.mark.parametrize(
    "bytes_",
    [
        response(gzip.compress(ANSWER)[:-30], "200 OK", "Content-Encoding: gzip"),
        response(ANSWER, "200 OK", f"Content-Length: {len(ANSWER) - 9}"),
    ],
    ids=["gzip cut", "shorter than it is"],
)
def test_a_body_that_seems_whole_and_is_not(bytes_: bytes) -> None:
    """HTTP finds nothing wrong, or does: asked again either way, and never half a caption."""
    got = go(sent_to(says(bytes_)))

    assert isinstance(got, NoReply) or kind(got) is Kind.MALFORMED


PAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body>"
    + b"<p>x</p>" * 999
    + b"</body></html>"
)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "524 Timeout"])
def test_a_page_with_a_5xx_is_trouble_of_the_moment(status: str) -> None:
    """Handed on as an answer and classified; its title is told."""
    reply = go(sent_to(says(response(PAGE, status, "Content-Type: text/html"))))
    verdict = classify(reply, now=0.0)[0]

    assert verdict.kind is Kind.TRANSIENT
    assert "502 Bad Gateway" in verdict.message


def test_more_than_32_mb_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it travels as a few kilobytes of gzip."""
    monkeypatch.setattr(client_module, "MAX_BODY", 2**20)
    bomb = gzip.compress(b" " * 2**24)
    assert len(bomb) < 2**16
    for act in (
        says(response(bomb, "200 OK", "Content-Encoding: gzip")),
        says(response(b" " * (2**20 + 1))),
    ):
        lost = go(sent_to(act))
        assert isinstance(lost, NoReply)
        assert "larger" in lost.message
    assert isinstance(go(sent_to(says(response(b" " * 2**20)))), Reply)


def test_random_bytes_are_an_answer_or_none() -> None:
    """Whatever a port says: Reply or NoReply, never another exception, and never a hang."""
    rng = random.Random(7)
    whole = response(ANSWER, "200 OK", "X-RateLimit-Limit: 20", "Content-Encoding: identity")

    def mutated() -> bytes:
        if rng.random() < 0.2:
            return rng.randbytes(rng.randrange(1, 200))
        bytes_ = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            bytes_[rng.randrange(len(bytes_))] = rng.randrange(256)
        return bytes(bytes_)

    async def act(record_result: Heard) -> None:
        await says(mutated(), close=True)(record_result)

    async def ask() -> list[Reply | NoReply]:
        found: list[Reply | NoReply] = []
        async with served(act) as server, client_of(server.base, timeout=10) as client:
            for _ in range(300):
                try:
                    found.append(await client.send(b"{}"))
                except NoReply as lost:
                    found.append(lost)
        return found

    found = go(ask())
    replies = [one for one in found if isinstance(one, Reply)]
    assert 0 < len(replies) < len(found)
    for reply in replies:
        classify(reply, now=0.0)
        "".join(reply.headers.values()).encode()  # the journal keeps them as UTF-8


# --- where it goes, and with what


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed(status: str) -> None:
    """The other host sees nothing at all, above all no key; the run is told to mend its address."""

    async def ask() -> tuple[Reply, int]:
        async with served(says(response())) as canary:
            away = says(response(b"", status, f"Location: {canary.base}/chat/completions"))
            async with served(away) as server, client_of(server.base) as client:
                reply = await client.send(b"{}")
                return reply, canary.connections

    reply, seen = go(ask())
    verdict = classify(reply, now=0.0)[0]
    assert seen == 0
    assert verdict.kind is Kind.CONFIG_FATAL
    assert "base_url" in verdict.message


def test_the_key_is_in_one_header_and_nowhere_else() -> None:
    """Bearer, once; not in the address, the body or another header; the same for GET."""

    async def ask() -> list[Heard]:
        async with served(says(response())) as server, client_of(server.base) as client:
            await client.send(b'{"a": 1}')
            await client.get("/models")
            assert KEY not in repr(client.endpoint) + str(client.endpoint.key)
            return server.record_result

    post, get = go(ask())
    assert post.line == "POST /api/v1/chat/completions HTTP/1.1"
    assert get.line == "GET /api/v1/models HTTP/1.1"
    assert post.body == b'{"a": 1}'
    for record_result in (post, get):
        held = [name for name, value in record_result.headers.items() if KEY in value]
        assert held == ["authorization"]
        assert record_result.headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in record_result.line


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and the rest see nothing: only `endpoint.proxy` counts."""

    async def ask() -> tuple[int, int]:
        async with served(says(response())) as proxy, served(says(response())) as server:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.base)
            async with client_of(server.base) as client:
                await client.send(b"{}")
            return proxy.connections, len(server.record_result)

    assert go(ask()) == (0, 1)


def test_the_proxy_of_the_job_is_used() -> None:
    """`endpoint.proxy` gets the request with the whole address."""

    async def ask() -> list[str]:
        async with served(says(response())) as proxy:
            where = proxy.base.removesuffix("/api/v1")
            async with client_of("http://127.0.0.1:9/v1", proxy=where) as client:
                await client.send(b"{}")
            return [record_result.line for record_result in proxy.record_result]

    assert go(ask()) == ["POST http://127.0.0.1:9/v1/chat/completions HTTP/1.1"]


def test_a_proxy_that_refuses_the_tunnel_sent_nothing() -> None:
    """CONNECT was refused: the service has not seen the request."""

    async def ask() -> tuple[NoReply, list[Heard]]:
        async with served(says(response(b"no", "403 Forbidden"))) as proxy:
            where = proxy.base.removesuffix("/api/v1")
            async with client_of("https://127.0.0.1:9/v1", proxy=where) as client:
                with pytest.raises(NoReply) as lost:
                    await client.send(b"{}")
                return lost.value, proxy.record_result

    lost, record_result = go(ask())
    assert lost.sent is False
    assert record_result[0].line.startswith("CONNECT ")
    assert KEY not in str(record_result[0].headers)


def test_cookies_of_the_service_are_not_kept() -> None:
    """A service that sets one gets nothing back."""

    async def ask() -> list[Heard]:
        act = says(response(ANSWER, "200 OK", "Set-Cookie: track=1; Path=/"))
        async with served(act, "localhost") as server, client_of(server.base) as client:
            await client.send(b"{}")
            await client.send(b"{}")
            return server.record_result

    assert all("cookie" not in record_result.headers for record_result in go(ask()))


@pytest.mark.parametrize("count", [1, 64])
def test_a_connection_for_each_request_in_flight(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 requests are 64 connections at once, and none waits for another; they are reused once
    they have been silent for long enough."""
    monkeypatch.setattr(exchange, "QUIET_SECONDS", 0.0)

    async def ask() -> tuple[int, int, int]:
        arrived = asyncio.Semaphore(0)
        gate = asyncio.Event()

        async def act(record_result: Heard) -> None:
            arrived.release()
            await gate.wait()
            await says(response())(record_result)

        async with served(act) as server, client_of(server.base, count, timeout=60) as client:
            for _ in range(2):
                gate.clear()
                sends = [asyncio.ensure_future(client.send(b"{}")) for _ in range(count)]
                for _ in range(count):
                    await arrived.acquire()  # hangs when a request waits for a connection
                gate.set()
                await asyncio.gather(*sends)
            return server.most, server.connections, len(server.record_result)

    assert go(ask()) == (count, count, 2 * count)
