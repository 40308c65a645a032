"""A gateway that answers twice on one connection: no caption ends under another image's key."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import RequestResult, pipeline
from tests.support.gateways import Answer, gateway, reply

IMAGES = 40
FOREIGN = reply("A stranger's caption.")


def own(body: bytes) -> bytes:
    """The right answer: it names the picture."""
    found = re.search(rb"pictures\.example/(\d+)\.jpg", body)
    assert found is not None
    return reply(f"Picture {int(found[1])}.")


def run(folder: Path, answer: Answer, concurrency: int) -> tuple[RequestResult, list[bytes], int]:
    rows = "".join(f"https://pictures.example/{n}.jpg\n" for n in range(IMAGES))
    (folder / "m.csv").write_text("url\n" + rows)
    job = folder / "job.yaml"
    with gateway(answer) as service:
        job.write_text(
            f"manifest: {{path: {folder}/m.csv}}\n"
            f"endpoint: {{profile: openai, model: m, base_url: {service.base}}}\n"
            f"images: {{send: url}}\nquota: {{concurrency: {concurrency}}}\n"
            f"output: {{path: {folder}/out}}\nrun: {{min_free: 1MB}}\n"
        )
        return (
            pipeline("run", job, "--json", env={"OPENAI_API_KEY": ""}),
            service.asked,
            service.connections,
        )


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


GATEWAYS: dict[str, Callable[[], Answer]] = {
    "5 ms later": lambda: after(0.005),
    "at once": lambda: at_once,
    "one byte too many": lambda: one_byte,
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
