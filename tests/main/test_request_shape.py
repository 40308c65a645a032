"""A service that takes fewer images, smaller requests or no schema: learned once, and kept."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import RequestResult, pipeline
from tests.support.gateways import Answer, Gateway, error, gateway, images_in, pack_reply, reply

#: What a service says of a request body; None: it is answered.
Refusal = Callable[[bytes], bytes | None]
NO_KEY = {"OPENAI_API_KEY": ""}


def job_on(service: Gateway, folder: Path, count: int) -> Path:
    """A job of packs of 16 on so many pictures by URL."""
    rows = "".join(f"https://p.example/{n}.jpg\n" for n in range(count))
    (folder / "m.csv").write_text("url\n" + rows)
    job = {
        "manifest": {"path": str(folder / "m.csv")},
        "endpoint": {"profile": "openai", "model": "m", "base_url": service.base},
        "images": {"send": "url"},
        "packing": {"images_per_request": 16},
        "output": {"path": str(folder / "out")},
        "run": {"min_free": "1MB"},
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    return folder / "job.yaml"


def refusing(refusal: Refusal) -> Answer:
    """Answers what is not refused."""

    def answer(to: socket.socket, body: bytes) -> None:
        to.sendall(refusal(body) or pack_reply(body))

    return answer


def run(folder: Path, refusal: Refusal, count: int) -> tuple[RequestResult, Gateway]:
    with gateway(refusing(refusal)) as service:
        ended = pipeline("run", job_on(service, folder, count), "--json", env=NO_KEY)
    return ended, service


def captioned(folder: Path) -> int:
    column = pq.read_table(folder / "out" / "dataset.parquet")["caption"]
    return len(column) - column.null_count


def at_most(limit: int, message: str, status: str = "400 Bad Request") -> Refusal:
    return lambda body: error(status, message) if images_in(body) > limit else None


@pytest.mark.parametrize(
    ("limit", "status", "message"),
    [
        (5, "400 Bad Request", "At most 5 image(s) may be provided in one request."),
        (1, "400 Bad Request", "This vision model only supports a single image per message"),
        (10, "400 Bad Request", "Too many images: 16 images given, but it takes a maximum of 10"),
        (8, "500 Internal Server Error", "too many images in the message, max allowed is 8"),
        (3, "422 Unprocessable Entity", "too many images and documents: 16 + 0 > 3"),
    ],
)
def test_the_number_of_images_that_a_refusal_names_holds_for_all_packs(
    tmp_path: Path, limit: int, status: str, message: str
) -> None:
    """One pack is refused; no later one holds more, and the user reads it."""
    ended, service = run(tmp_path, at_most(limit, message, status), 48)

    assert ended.code == 0
    assert captioned(tmp_path) == 48
    assert len(service.asked) == 1 + -(-48 // limit)
    assert f"at most {limit} image(s)" in ended.err


@pytest.mark.parametrize("limit", [1, 4, 5])
def test_a_number_that_is_not_named_is_found_once_by_halving(tmp_path: Path, limit: int) -> None:
    """Packs are refused in words that tell nothing, and every image alone is answered."""
    _, service = run(tmp_path, at_most(limit, "invalid request"), 64)

    refused = [images_in(body) for body in service.asked if images_in(body) > limit]
    assert len(refused) <= 6
    assert len(service.asked) <= 6 + -(-64 // (1 if limit == 1 else 4)) + 4


def test_a_proxy_that_refuses_large_requests_is_learned_once(tmp_path: Path) -> None:
    """Nothing in a 413 says how large a request may be."""
    page = b"HTTP/1.1 413 Too Large\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"

    _, service = run(tmp_path, lambda body: page if images_in(body) > 6 else None, 48)

    assert len(service.asked) == 2 + 12


def test_a_pack_goes_out_without_schema_before_it_is_split(tmp_path: Path) -> None:
    """The words need not name the schema."""

    def no_schema(body: bytes) -> bytes | None:
        if b'"response_format"' in body:
            return error("400 Bad Request", "Failed to initialize: std::exception")
        return None

    ended, service = run(tmp_path, no_schema, 26)

    assert [images_in(body) for body in service.asked] == [16, 16, 10]
    assert captioned(tmp_path) == 26
    assert "without a JSON schema" in ended.err


def _numbered(count: int) -> list[tuple[int, str]]:
    return [(number, f"Picture {number}.") for number in range(1, count + 1)]


PROSE: dict[str, Callable[[int], str]] = {
    "numbers": lambda n: "\n".join(f"{number}. {text}" for number, text in _numbered(n)),
    "labels": lambda n: "\n\n".join(f"Image {number}: {text}" for number, text in _numbered(n)),
    "headings": lambda n: "\n\n".join(f"### Image {number}\n{text}" for number, text in _numbered(n)),
    "fence": lambda n: f"Sure!\n```json\n{json.dumps({'captions': [{'image': a, 'caption': b} for a, b in _numbered(n)]})}\n```",
    "keys": lambda n: json.dumps(dict(_numbered(n))),
    "lines": lambda n: "\n".join(json.dumps({"image": a, "caption": b}) for a, b in _numbered(n)),
}  # fmt: skip


@pytest.mark.parametrize("prose", PROSE)
def test_a_server_without_schema_answers_packs_in_its_own_way(tmp_path: Path, prose: str) -> None:
    """26 images in packs of 16: at most four requests."""
    with gateway(_without_schema(PROSE[prose])) as service:
        ended = pipeline("run", job_on(service, tmp_path, 26), "--json", env=NO_KEY)

    assert ended.code == 0
    assert captioned(tmp_path) == 26
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    "said", ["The images show dogs.", '["A dog.", "A cat."]', "A dog.\nA cat."]
)
def test_packs_whose_answers_cannot_be_read_are_given_up_at_once(tmp_path: Path, said: str) -> None:
    """No pack goes twice; the next run asks one by one from the start."""
    with gateway(_without_schema(lambda _: said)) as service:
        job = job_on(service, tmp_path, 26)
        first = pipeline("run", job, "--limit", 20, env=NO_KEY)
        asked = len(service.asked)
        again = pipeline("run", job, env=NO_KEY)

    assert (first.code, again.code) == (0, 0)
    assert captioned(tmp_path) == 26
    assert [images_in(body) for body in service.asked if images_in(body) > 1] == [16, 16, 4]
    assert len({*service.asked}) == len(service.asked)
    assert len(service.asked) == 26 + 3
    assert asked == 20 + 3
    assert "asked one by one" in first.err


def _without_schema(pack: Callable[[int], str]) -> Answer:
    """A server that takes no `response_format`; pack: what it says to so many images."""

    def answer(to: socket.socket, body: bytes) -> None:
        if b'"response_format"' in body:
            to.sendall(error("400 Bad Request", "Failed to initialize samplers: std::exception"))
        else:
            count = images_in(body)
            to.sendall(reply(pack(count) if count > 1 else "A picture."))

    return answer


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Server Error"])
def test_words_that_name_the_schema_are_believed(tmp_path: Path, status: str) -> None:
    """Whatever status and class the refusal has."""

    def no_schema(body: bytes) -> bytes | None:
        if b'"response_format"' in body:
            return error(status, "Unknown parameter: response_format is not supported here")
        return None

    _, service = run(tmp_path, no_schema, 26)

    assert len(service.asked) == 3


def test_the_next_run_knows_what_was_learned(tmp_path: Path) -> None:
    """Kept per address and model in the output's state."""
    refusal = at_most(4, "At most 4 images may be provided")
    with gateway(refusing(refusal)) as service:
        job = job_on(service, tmp_path, 32)
        pipeline("run", job, "--limit", 16, env=NO_KEY)
        first = len(service.asked)
        again = pipeline("run", job, env=NO_KEY)

    assert first == 5
    assert [images_in(body) for body in service.asked[first:]] == [4, 4, 4, 4]
    assert "shape.json" in again.err


def test_one_bad_picture_in_the_first_pack_makes_no_pack_smaller(tmp_path: Path) -> None:
    """It is found alone; the others travel in full packs."""

    def bad_picture(body: bytes) -> bytes | None:
        return error("400 Bad Request", "invalid request") if b"/3.jpg" in body else None

    ended, service = run(tmp_path, bad_picture, 80)

    assert ended.code == 1
    sizes = [images_in(body) for body in service.asked]
    assert sizes.count(16) >= 5
    assert len(sizes) <= 13
