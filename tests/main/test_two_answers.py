"""A gateway that answers twice on one connection: no caption ends under another image's key."""

from __future__ import annotations

import json
import random
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import RequestResult, pipeline, start, until
from tests.support.gateways import Answer, gateway, reply

IMAGES = 40
FOREIGN = reply("A stranger's caption.")
NO_KEY = {"OPENAI_API_KEY": ""}


def own(body: bytes) -> bytes:
    """The right answer: it names the picture."""
    found = re.search(rb"pictures\.example/(\d+)\.jpg", body)
    assert found is not None
    return reply(f"Picture {int(found[1])}.")


def job_of(folder: Path, base: str, concurrency: int) -> Path:
    rows = "".join(f"https://pictures.example/{n}.jpg\n" for n in range(IMAGES))
    (folder / "m.csv").write_text("url\n" + rows)
    job = folder / "job.yaml"
    job.write_text(
        f"manifest: {{path: {folder}/m.csv}}\n"
        f"endpoint: {{profile: openai, model: m, base_url: {base}}}\n"
        f"images: {{send: url}}\nquota: {{concurrency: {concurrency}}}\n"
        f"output: {{path: {folder}/out}}\nrun: {{min_free: 1MB}}\n"
    )
    return job


def run(folder: Path, answer: Answer, concurrency: int) -> tuple[RequestResult, list[bytes], int]:
    with gateway(answer) as service:
        job = job_of(folder, service.base, concurrency)
        ended = pipeline("run", job, "--json", env=NO_KEY)
        return ended, service.asked, service.connections


def wrong(folder: Path) -> int:
    """Captions that are not of their image, those that are missing included."""
    table = pq.read_table(folder / "out" / "dataset.parquet").to_pylist()
    assert len(table) == IMAGES
    return sum(
        row["caption"] != f"Picture {re.findall(r'[0-9]+', row['url'])[0]}." for row in table
    )


def after(seconds: float, *, answers_in: float = 0.0) -> Answer:
    """The right answer, and a stranger's so long after it."""

    def answer(to: socket.socket, body: bytes) -> None:
        time.sleep(answers_in)
        to.sendall(own(body))
        time.sleep(seconds)
        to.sendall(FOREIGN)

    return answer


def before() -> Answer:
    """A stranger's answer first, for two pictures and once each."""
    done = set()

    def answer(to: socket.socket, body: bytes) -> None:
        if b"7.jpg" in body and body not in done and len(done) < 2:
            done.add(body)
            to.sendall(FOREIGN)
            time.sleep(0.005)
        to.sendall(own(body))

    return answer


def at_once(to: socket.socket, body: bytes) -> None:
    to.sendall(own(body) + FOREIGN)


def then_closed(to: socket.socket, body: bytes) -> None:
    to.sendall(own(body))
    time.sleep(0.003)
    to.sendall(FOREIGN)
    to.close()


def one_byte(to: socket.socket, body: bytes) -> None:
    to.sendall(own(body))
    time.sleep(0.002)
    to.sendall(b"x")


def one_byte_at_once(to: socket.socket, body: bytes) -> None:
    to.sendall(own(body) + b"x")


def an_end_too_many(to: socket.socket, body: bytes) -> None:
    """A body in chunks that ends twice."""
    head, _, text = own(body).partition(b"\r\n\r\n")
    head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
    to.sendall(head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n0\r\n\r\n" % (len(text), text))


def the_one_before() -> Answer:
    """Each connection's third answer is the one before it, and those that follow are one behind."""
    behind: dict[socket.socket, list[bytes]] = {}

    def answer(to: socket.socket, body: bytes) -> None:
        said = behind.setdefault(to, [])
        said.append(named(body))
        time.sleep(0.01)
        to.sendall(said[-1] if len(said) < 3 else said[-2])

    return answer


def kept_for_another() -> Answer:
    """A cache that looks at the number of pictures only now and then: some get the last one's."""
    said: list[bytes] = []
    rng = random.Random(1)

    def answer(to: socket.socket, body: bytes) -> None:
        time.sleep(0.01)
        kept = said and rng.random() < 0.15
        text = said[-1] if kept else named(body)
        said.append(text)
        to.sendall(text)

    return answer


def kept_for_any() -> Answer:
    """A cache that takes any answer that was ever given, from the second one on."""
    said: list[bytes] = []
    rng = random.Random(5)

    def answer(to: socket.socket, body: bytes) -> None:
        time.sleep(0.01)
        kept = said and (len(said) < 3 or rng.random() < 0.05)
        said.append(rng.choice(said) if kept else named(body))
        to.sendall(said[-1])

    return answer


def named(body: bytes) -> bytes:
    """The right answer, with a name of its own as services give it."""
    found = re.search(rb"pictures\.example/(\d+)\.jpg", body)
    assert found is not None
    return reply(f"Picture {int(found[1])}.", id=f"chatcmpl-{secrets.token_hex(12)}")


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", [the_one_before, kept_for_another, kept_for_any])
def test_an_answer_that_comes_for_a_second_request_is_neithers(
    tmp_path: Path, kind: Callable[[], Answer], concurrency: int
) -> None:
    """One answer a request, so that nothing comes unasked: answers are told by their own names."""
    ended, asked, _ = run(tmp_path, kind(), concurrency)

    assert ended.code == 0, ended.err
    assert wrong(tmp_path) == 0
    assert IMAGES < len(asked) == ended.summary["requests"]


def test_answers_that_have_one_name_for_all_are_believed(tmp_path: Path) -> None:
    """As small servers give it; also where they say the same of two pictures. Only the first
    four answers could be repetitions of one: these and that one are asked again."""

    def answer(to: socket.socket, body: bytes) -> None:
        to.sendall(reply("A picture.", id="chatcmpl-0000000000000000"))

    ended, asked, _ = run(tmp_path, answer, 4)
    assert ended.code == 0
    assert IMAGES < len(asked) <= IMAGES + 5


GATEWAYS: dict[str, Callable[[], Answer]] = {
    "5 ms later": lambda: after(0.005),
    "at once": lambda: at_once,
    "one byte too many": lambda: one_byte,
    "one byte at once": lambda: one_byte_at_once,
    "an end too many": lambda: an_end_too_many,
    "5 ms later, slow model": lambda: after(0.005, answers_in=0.05),
    "30 ms later": lambda: after(0.03),
    "first": before,
    "and closed": lambda: then_closed,
}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", GATEWAYS)
def test_every_caption_is_of_its_image(tmp_path: Path, kind: str, concurrency: int) -> None:
    ended, asked, connections = run(tmp_path, GATEWAYS[kind](), concurrency)

    assert ended.code == 0, ended.err
    assert wrong(tmp_path) == 0
    assert ended.summary["requests"] == len(asked)  # what is asked again is counted
    assert "sent more than one answer on a connection" in ended.err
    said = ended.err.count("each request has a connection of its own")
    assert said == (1 if connections > IMAGES / 2 else 0)


def test_a_balancers_408_on_an_idle_connection_is_no_answer(tmp_path: Path) -> None:
    """It says that it closes: nothing is asked again, no connection is lost for it."""

    def answer(to: socket.socket, body: bytes) -> None:
        to.sendall(own(body))
        time.sleep(0.001)
        to.sendall(
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        to.close()

    ended, asked, _ = run(tmp_path, answer, 1)
    assert ended.code == 0
    assert wrong(tmp_path) == 0
    assert "more than one answer" not in ended.err
    assert len(asked) >= IMAGES


class Liar:
    """Right answers on the first connection, a stranger's on the second, where a byte more comes
    after the third; from then on it is silent."""

    def __init__(self) -> None:
        self._connections: list[socket.socket] = []
        self._silent = threading.Event()
        self.right: set[bytes] = set()
        self.wrong: set[bytes] = set()

    def __call__(self, to: socket.socket, body: bytes) -> None:
        if to not in self._connections:
            self._connections.append(to)
        if self._silent.is_set():
            threading.Event().wait(60)
        picture = own(body)
        if to is self._connections[0]:
            to.sendall(picture)
            self.right.add(picture)
            return
        to.sendall(FOREIGN)
        self.wrong.add(picture)
        if len(self.wrong) == 3:
            self._silent.set()
            time.sleep(0.01)
            to.sendall(b"x")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("published", [False, True])
def test_a_caption_that_was_doubted_survives_no_kill(
    tmp_path: Path, ending: signal.Signals, published: bool
) -> None:
    """As soon as the doubt is said, it is on disk: readers show no caption, the next run asks."""
    liar = Liar()
    before: set[bytes] = set()
    if published:  # a part that holds the captions which become doubtful
        with gateway(lambda to, body: to.sendall(own(body))) as service:
            job = job_of(tmp_path, service.base, 2)
            assert pipeline("run", job, "--limit", 20, env=NO_KEY).code == 0
            before = {own(body) for body in service.asked}
    with gateway(liar) as service:
        job = job_of(tmp_path, service.base, 1)
        redo = ["--redo", "true"] if published else []
        run = start("run", job, *redo, env=NO_KEY, stderr=subprocess.PIPE)
        assert run.stderr is not None
        while b"more than one answer" not in (line := run.stderr.readline()):
            assert line
        status = json.loads(pipeline("status", job, "--json", env=NO_KEY).out)
        assert status["running"]
        export = pipeline("export", job, tmp_path / "beside.jsonl", env=NO_KEY)
        until(lambda: run.poll() is not None or run.send_signal(ending) is not None)
        assert run.communicate()[0] is None
        assert run.returncode in (-9, 143)
    lines = (tmp_path / "beside.jsonl").read_text().splitlines()
    captions = [json.loads(line)["caption"] for line in lines]
    assert export.code == 0, export.err
    assert "A stranger's caption." not in captions
    with gateway(lambda to, body: to.sendall(own(body))) as service:
        job_of(tmp_path, service.base, 4)
        again = pipeline("run", job, "--json", env=NO_KEY)
        assert again.code == 0, again.err
        assert len(service.asked) == IMAGES - len((before | liar.right) - liar.wrong)
    assert wrong(tmp_path) == 0
    assert pipeline("verify", job, env=NO_KEY).code == 0
