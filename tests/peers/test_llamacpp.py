"""llama.cpp's server with a tiny real model, asked directly and through LiteLLM, by our command."""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.clock import SystemClock
from pipeline.service.classify import classify
from pipeline.service.client import open_client
from pipeline.service.endpoint import endpoint_of
from pipeline.service.settings import EndpointSettings
from pipeline.verdict import Kind
from tests.images.originals import stamps
from tests.peers.peers import KEY, Llama, Proxy
from tests.support.command import RequestResult, pipeline, start, until, write_job
from tests.support.gguf import SENTENCE

pytestmark = pytest.mark.peers
COUNT = 26
WAYS = ("direct", "litellm")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 real pictures, large and small, some with transparency."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in stamps()[:COUNT]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


class Way:
    """One server, reached in one way."""

    def __init__(self, way: str, llamas: dict[str, Llama], proxy: Proxy) -> None:
        self._profile = "litellm" if way == "litellm" else "openai"
        self._llamas, self._proxy, self.direct = llamas, proxy, way == "direct"

    def job(self, folder: Path, table: Path, model: str = "chain", **more: Any) -> Path:
        endpoint = {
            "profile": self._profile,
            "model": model,
            "api_key_env": "PEER_KEY",
            "base_url": self.base(model),
            "allow_paid": True,
            **more.pop("endpoint", {}),
        }
        return write_job(folder, self.base(model), table, endpoint=endpoint, **more)

    def base(self, model: str) -> str:
        return self._llamas[model].base if self.direct else self._proxy.base

    def key(self, model: str = "chain") -> str:
        return self._llamas[model].key if self.direct else KEY

    def ran(self, folder: Path, table: Path, model: str = "chain", **more: Any) -> RequestResult:
        key = more.pop("key", self.key(model))
        job = self.job(folder, table, model, **more)
        return pipeline("run", job, "--json", env={"PEER_KEY": key})


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, llamas: dict[str, Llama], proxy: Proxy) -> Way:
    return Way(request.param, llamas, proxy)


def captions(folder: Path) -> Counter[str]:
    return Counter(pq.read_table(folder / "out/captions")["caption"].to_pylist())


def requests(folder: Path) -> list[dict[str, Any]]:
    return [dict(row) for row in pq.read_table(folder / "out/requests").to_pylist()]


def test_each_picture_alone(tmp_path: Path, way: Way, pictures: Path) -> None:
    """26 requests, the model's sentence to the letter, its tokens."""
    ended = way.ran(tmp_path, pictures)

    assert (ended.code, ended.summary["requests"]) == (0, COUNT), ended.err
    assert captions(tmp_path) == {SENTENCE: COUNT}
    assert all(row["prompt_tokens"] > 16 for row in requests(tmp_path))


def test_packs_of_four_by_schema(tmp_path: Path, way: Way, pictures: Path) -> None:
    """Seven requests; the last holds two, of which the model says four."""
    ended = way.ran(tmp_path, pictures, packing={"images_per_request": 4})

    assert (ended.code, ended.summary["requests"]) == (0, 7), ended.err
    assert captions(tmp_path) == {f"picture {n}": 7 - (n > 2) for n in (1, 2, 3, 4)}


def test_packs_of_four_where_every_schema_is_refused(
    tmp_path: Path, way: Way, pictures: Path
) -> None:
    """One refusal, learned once and said."""
    ended = way.ran(tmp_path, pictures, "prefixed", packing={"images_per_request": 4})

    assert (ended.code, ended.summary["requests"]) == (0, 8), ended.err
    assert "without a JSON schema" in ended.err
    assert captions(tmp_path) == {f"picture {n}": 7 - (n > 2) for n in (1, 2, 3, 4)}


def test_a_server_that_is_killed_and_comes_back_fails_no_image(
    tmp_path: Path, way: Way, pictures: Path, llamas: dict[str, Llama]
) -> None:
    """kill -9 in the middle of a run; what was answered is not asked again."""
    key = {"PEER_KEY": way.key()}
    job = way.job(tmp_path, pictures, quota={"requests_per_minute": 300, "concurrency": 2})
    process = start("run", job, env=key)
    try:
        live = tmp_path / "out/_state/live.json"
        until(lambda: live.exists() and json.loads(live.read_text()).get("captioned", 0) > 2)
        llamas["chain"].kill()
    finally:
        llamas["chain"].start()

    assert process.wait(120) == 0
    assert captions(tmp_path) == {SENTENCE: COUNT}
    assert sum(row["class"] == "ok" for row in requests(tmp_path)) == COUNT


def test_a_wrong_key_ends_the_run_after_one_request_at_most(
    tmp_path: Path, way: Way, pictures: Path
) -> None:
    """llama.cpp's list of models is public, so that only a request can tell."""
    ended = way.ran(tmp_path, pictures, key="sk-wrong-1234567890")

    assert ended.code == 77, ended.err
    assert ended.summary["requests"] <= 1 + 7
    assert ended.summary["failed"] == 0


def test_a_prompt_beyond_the_context_says_so(tmp_path: Path, way: Way, pictures: Path) -> None:
    """Every request is refused: the service's words, and no image failed."""
    long = "very " * 3000 + "short"
    ended = way.ran(tmp_path, pictures, prompt={"text": long})

    assert ended.code == 69, ended.err
    assert "context size" in ended.summary["reason"]
    assert ended.summary["failed"] == 0
    assert ended.summary["requests"] <= 13


@contextmanager
def webp(folder: Path, source: Path) -> Iterator[tuple[str, Path]]:
    """WebP pictures on a loopback port: the address, and a table of their URLs."""
    site = folder / "site"
    site.mkdir()
    names = []
    for path in sorted(source.iterdir()):
        with Image.open(path) as picture:
            picture.convert("RGB").save(site / f"{path.stem}.webp", "WEBP")
        names.append(f"{path.stem}.webp")
    handler = functools.partial(_Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    table = folder / "urls.csv"
    table.write_text("url\n" + "".join(f"http://{address}/{name}\n" for name in names))
    try:
        yield address, table
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_webp_by_url_is_captioned(tmp_path: Path, way: Way, pictures: Path) -> None:
    """llama.cpp cannot read WebP: it gets other bytes."""
    with webp(tmp_path, pictures) as (address, table):
        ended = way.ran(tmp_path, table, images={"allow": [address]})

    assert (ended.code, ended.summary["captioned"]) == (0, COUNT), ended.err
    assert captions(tmp_path) == {SENTENCE: COUNT}


def said_of(way: Way, *urls: str) -> list[Kind]:
    """The class of what is said of a picture under each URL."""

    async def go() -> list[Kind]:
        settings = EndpointSettings(
            profile="openai", base_url=way.base("chain"), model="chain", api_key_env="PEER_KEY"
        )
        endpoint = endpoint_of(settings, {"PEER_KEY": way.key()})
        kinds = []
        async with open_client(endpoint, concurrency=1, clock=SystemClock()) as client:
            for url in urls:
                part = {"type": "image_url", "image_url": {"url": url}}
                content = [{"type": "text", "text": "What is it?"}, part]
                body = {"model": "chain", "messages": [{"role": "user", "content": content}]}
                reply = await client.send(json.dumps(body).encode())
                kinds.append(classify(reply, now=reply.at / 1e6)[0].kind)
        return kinds

    return asyncio.run(go())


def test_what_it_says_of_pictures_that_it_cannot_read(
    tmp_path: Path, way: Way, pictures: Path
) -> None:
    """WebP behind a URL, a URL that is 404, bytes that are no picture: each is about that picture."""
    with webp(tmp_path, pictures) as (address, table):
        first = table.read_text().splitlines()[1]
        kinds = said_of(way, first, f"http://{address}/nope.png", "data:image/png;base64,AAAA")

    assert kinds == [Kind.IMAGE_REJECTED, Kind.IMAGE_UNREACHABLE, Kind.IMAGE_REJECTED]
