"""`push` against a loopback server that answers as the hub does: what is sent, and where."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.command import RequestResult, pipeline

TOKEN = "hf_canary0123456789abcdefghijkl"


class Hub(BaseHTTPRequestHandler):
    """The hub's API for one dataset; uploads go to another address, as they do there."""

    protocol_version = "HTTP/1.1"
    #: Path -> SHA-256 of what the last commit named.
    committed: ClassVar[dict[str, str]] = {}
    stored: ClassVar[dict[str, bytes]] = {}
    #: (address, method, path, authorization) of every request.
    seen: ClassVar[list[tuple[str, str, str, str | None]]] = []
    storage: ClassVar[str] = ""
    #: Uploads that are still answered.
    uploads: ClassVar[float] = float("inf")
    refuse: ClassVar[int] = 0

    def answer(self, body: object, status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handled(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(
            (self.headers["Host"], self.command, self.path, self.headers["Authorization"])
        )
        return body

    def do_GET(self) -> None:
        self.handled()
        if "/tree/" in self.path:
            self.answer(
                [{"type": "file", "path": p, "oid": "0" * 40, "size": 1} for p in self.committed]
            )
        else:
            names = [{"rfilename": path} for path in self.committed]
            self.answer(
                {
                    "id": "u/n",
                    "sha": "0" * 40,
                    "private": True,
                    "siblings": names,
                    "tags": [],
                    "downloads": 0,
                    "likes": 0,
                }
            )

    def do_PUT(self) -> None:
        body = self.handled()
        if Hub.uploads <= 0:
            self.answer({"error": "storage is away"}, 400)
            return
        Hub.uploads -= 1
        self.stored[hashlib.sha256(body).hexdigest()] = body
        self.answer({})

    def do_POST(self) -> None:
        body = self.handled()
        if self.refuse:
            self.answer({"error": "Invalid credentials"}, self.refuse)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"http://{self.headers['Host']}/datasets/u/n"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {
                    **one,
                    "uploadMode": "regular" if one["path"].endswith(".md") else "lfs",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif self.path.endswith("/objects/batch"):
            self.answer(
                {
                    "transfer": "basic",
                    "objects": [self.place(one) for one in json.loads(body)["objects"]],
                }
            )
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "lfsFile":
                    assert value["oid"] in self.stored
                    self.committed[value["path"]] = value["oid"]
                elif line["key"] == "file":
                    self.committed[value["path"]] = value["content"]
                elif line["key"] == "deletedFile":
                    del self.committed[value["path"]]
            self.answer(
                {
                    "success": True,
                    "commitOid": "1" * 40,
                    "commitUrl": f"http://{self.headers['Host']}/datasets/u/n/commit/1",
                }
            )
        else:
            self.answer({"error": self.path}, 404)

    def place(self, one: dict[str, Any]) -> dict[str, Any]:
        if one["oid"] in self.stored:
            return one
        return {**one, "actions": {"upload": {"href": f"{self.storage}/put/{one['oid']}"}}}

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    """The hub's address."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Hub) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    Hub.committed, Hub.stored, Hub.seen = {}, {}, []
    Hub.storage = f"http://127.0.0.1:{servers[1].server_port}"
    Hub.uploads, Hub.refuse = float("inf"), 0
    yield f"http://127.0.0.1:{servers[0].server_port}"
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Six pictures, captioned."""
    (tmp_path / "p").mkdir()
    for at in range(6):
        Image.effect_noise((64, 48), 90 + at).save(tmp_path / f"p/{at}.png")
    service = {"profile": "embedded", "model": "embedded/pixels"}
    text = {"manifest": {"path": "p"}, "endpoint": service, "output": {"path": "out"}}
    (tmp_path / "job.yaml").write_text(json.dumps(text))
    assert pipeline("run", "job.yaml", "--quiet", cwd=tmp_path).code == 0
    return tmp_path


def push(job: Path, hub: str, *words: str, token: str = TOKEN) -> RequestResult:
    env = {
        "HF_ENDPOINT": hub, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(job / "hf"),
        "CAPTION_PIPELINE_STATE": str(job / "state"), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    return pipeline("push", "job.yaml", "u/n", "--shard-size", "20kB", *words, cwd=job, env=env)


def test_a_dataset_is_pushed(job: Path, hub: str) -> None:
    """Shards and card in one commit; pushed again nothing is uploaded twice, and shards that are
    not there any more go; the token goes to the endpoint and nowhere else."""
    first = push(job, hub)

    assert (first.code, first.err) == (0, "")
    assert (
        first.out
        == f"{hub}/datasets/u/n: 6 rows, 6 of 6 captioned; captions are in column caption\n"
    )
    shards = sorted(path for path in Hub.committed if path.endswith(".parquet"))
    assert len(shards) > 1
    assert "README.md" in Hub.committed
    rows = 0
    for name in shards:
        (job / "x.parquet").write_bytes(Hub.stored[Hub.committed[name]])
        rows += pq.read_metadata(job / "x.parquet").num_rows
    assert rows == 6
    endpoint = hub.removeprefix("http://")
    assert {auth for host, _, _, auth in Hub.seen if host == endpoint} <= {f"Bearer {TOKEN}", None}
    assert {auth for host, _, _, auth in Hub.seen if host != endpoint} == {None}
    assert TOKEN not in "".join(
        p.read_text(errors="replace") for p in job.rglob("*") if p.is_file()
    )
    assert not list((job / "state/push").glob("*"))

    puts = sum(method == "PUT" for _, method, _, _ in Hub.seen)
    Hub.committed["train-00000-of-00099.parquet"] = "old"
    assert push(job, hub).code == 0
    assert sum(method == "PUT" for _, method, _, _ in Hub.seen) == puts
    assert "train-00000-of-00099.parquet" not in Hub.committed


def test_a_push_that_was_cut_off_goes_on(job: Path, hub: str) -> None:
    """69, nothing committed; the next one sends the rest only."""
    Hub.uploads = 1
    cut = push(job, hub)
    assert (cut.code, len(cut.err.splitlines()), Hub.committed) == (69, 1, {})
    before = set(Hub.stored)

    Hub.uploads = float("inf")
    Hub.seen.clear()
    assert push(job, hub).code == 0

    sent = {path.rpartition("/")[2] for _, method, path, _ in Hub.seen if method == "PUT"}
    assert before
    assert not sent & before


def test_what_the_hub_refuses_is_one_line(job: Path, hub: str) -> None:
    """No token, a wrong one, a hub that is away, a name that is none."""
    Hub.refuse = 401
    refused, missing = push(job, hub), push(job, hub, token="")
    assert (refused.code, missing.code) == (77, 77)
    assert "HF_TOKEN" in refused.err
    assert TOKEN not in refused.err + refused.out
    assert len(refused.err.splitlines()) == len(missing.err.splitlines()) == 1
    away = push(job, "http://127.0.0.1:9")
    assert (away.code, len(away.err.splitlines())) == (69, 1)
    named = pipeline("push", "job.yaml", "n", cwd=job, env={"HF_TOKEN": TOKEN})
    assert named.code == 64
