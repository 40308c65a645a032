"""A key that must be found nowhere: forty ways for a run to fail, and everything they leave behind.

The service here quotes the key back in every place it can. Third parties log at their lowest
level into a file; then every file, table, stream and command line is searched for the key, its
URL-encoded form and its base64 at all three alignments.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import ROOT, environment, until

#: Looks like no known key, so that only knowing it helps; long and odd enough to be unique.
KEY = "CANARY-pale+blue/dot=77-of-many"
SIGNATURE = "5ignaturecanary0123456789abcdef0123456789abcdef0123456789abcdef01"
#: Logs everything that anybody logs, then runs the command.
DEBUG = (
    "import logging; logging.basicConfig(level=1, filename='debug.log');"
    "from pipeline.cli import main; main()"
)


def traces(secret: str) -> list[bytes]:
    """How the secret looks wherever it is, without what depends on its neighbours."""
    raw = secret.encode()
    found = [raw, quote(secret, safe="").encode()]
    for before in range(3):
        text = base64.b64encode(b"\0" * before + raw)
        inner = text[4 : (before + len(raw)) * 8 // 6 - 1]
        found += [inner, inner.translate(bytes.maketrans(b"+/", b"-_"))]
    return found


def quoting(key: str) -> str:
    """Every spelling of a key in one text."""
    plain = base64.b64encode(key.encode()).decode()
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    bearer = base64.b64encode(f"Bearer {key}".encode()).decode()
    return f"key {key} {quote(key, safe='')} {plain} {basic} {bearer}"


COMPLETION = {
    "id": "gen-1",
    "model": "m",
    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "A cat."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


def error(status: int, **more: Any) -> Callable[[str], tuple[int, bytes]]:
    """An error of the service whose words quote the key."""

    def answer(key: str) -> tuple[int, bytes]:
        body = {"error": {"code": status, "message": quoting(key), **more}}
        return status, json.dumps(body).encode()

    return answer


def completion(**message: Any) -> Callable[[str], tuple[int, bytes]]:
    def answer(key: str) -> tuple[int, bytes]:
        body = json.loads(json.dumps(COMPLETION))
        body["choices"][0]["message"].update({n: v.format(key) for n, v in message.items()})
        return 200, json.dumps(body).encode()

    return answer


#: How the service answers a chat.
ANSWERS: dict[str, Callable[[str], tuple[int, bytes]]] = {
    **{f"http_{status}": error(status) for status in (400, 401, 402, 403, 404, 408, 409, 413)},
    **{f"http_{status}": error(status) for status in (422, 429, 451, 500, 502, 503, 504, 524)},
    "moderated": error(403, metadata={"reasons": [quoting(KEY)], "flagged_input": quoting(KEY)}),
    "upstream": error(502, metadata={"raw": quoting(KEY), "provider_name": quoting(KEY)}),
    "error_in_200": lambda key: (200, json.dumps({"error": {"message": quoting(key)}}).encode()),
    "page": lambda key: (502, f"<title>{quoting(key)}</title>{quoting(key)}".encode()),
    "plain": lambda key: (500, quoting(key).encode()),
    "not_json": lambda key: (200, b'{"choices": [' + quoting(key).encode()),
    "no_choices": lambda key: (200, json.dumps({"choices": [], "id": quoting(key)}).encode()),
    "caption": completion(content="A note that says {0}"),
    "refusal": completion(content="", refusal="I cannot show {0}"),
    "odd_model": lambda key: (200, json.dumps({**COMPLETION, "model": quoting(key)}).encode()),
    "ids": lambda key: (200, json.dumps({**COMPLETION, "id": key, "provider": key}).encode()),
    "redirect": lambda key: (307, quoting(key).encode()),
    "binary": lambda key: (200, b"\xff\xfe\0" + key.encode() + b"\0"),
}


class _Handler(BaseHTTPRequestHandler):
    """Quotes the key in its headers, and in the body as the path's first word says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Silent."""

    def handle(self) -> None:
        """A client that hangs up is part of the test."""
        with suppress(ConnectionError):
            super().handle()

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        key = self.headers.get("Authorization", "").removeprefix("Bearer ") or "no key came"
        for name in ("X-RateLimit-Reset", "Retry-After", "X-Generation-Id", "CF-Ray", "Location"):
            self.send_header(name, quoting(key))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.path.endswith("/models") and "/models_fail/" in self.path:
            self._say(500, quoting(key).encode())
        elif self.path.endswith("/models"):
            self._say(200, b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')
        else:
            self._say(404, quoting(key).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        kind = self.path.split("/")[1]
        if kind == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if kind == "slow":
            time.sleep(5)
        self._say(*ANSWERS.get(kind, error(500))(key))


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True)
class Case:
    """One way to fail."""

    name: str
    code: int | tuple[int, ...]
    job: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    arguments: tuple[str, ...] = ("run", "job.yaml", "--json")
    environ: dict[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda _: None
    signal: int | None = None


def _bad_output(folder: Path) -> None:
    (folder / "out").write_text("a file in the way")


def _held(folder: Path) -> None:
    (folder / "out/_state").mkdir(parents=True)
    (folder / "out/_state/journal.db").write_bytes(b"no database" * 999)


def _broken(folder: Path) -> None:
    """A bug in the middle of a run, with the key in its words."""
    (folder / "sitecustomize.py").write_text(
        "import os, pipeline.captioning.finalize as s\n"
        "def broken(*_a, **_k): raise RuntimeError('bug ' + os.environ['OPENROUTER_API_KEY'])\n"
        "s.records_of = broken\n"
    )


CASES = [
    *(Case(name, (0, 1, 69, 75, 77), path=name) for name in ANSWERS),
    Case("connection reset", (69, 75), path="reset", job={"retry": {"attempts": 1}}),
    Case("deadline", (69, 75), path="slow", job={"endpoint": {"timeout": 1}}),
    Case("models fail", (0, 1, 69, 75, 77), path="models_fail"),
    Case("nobody listens", 69, job={"endpoint": {"base_url": "http://127.0.0.1:9/v1"}}),
    Case("no TLS there", 69, job={"endpoint": {"base_url": "https://127.0.0.1:9/v1"}}),
    Case("http to a stranger", 78, job={"endpoint": {"base_url": "http://service.example/v1"}}),
    Case("key in the address", 78, job={"endpoint": {"base_url": f"https://u:{KEY}@x.example/"}}),
    Case("line break in the key", (77, 78), environ={"OPENROUTER_API_KEY": f"{KEY}\r\nX: y"}),
    Case("output in the way", 73, prepare=_bad_output),
    Case("journal is none", 73, prepare=_held),
    Case("no manifest", 65, job={"manifest": {"path": "none.parquet"}}),
    Case("check", (0, 69, 77), arguments=("check", "job.yaml", "--json")),
    Case("plan", (0, 69, 77), arguments=("plan", "job.yaml", "--json")),
    Case("models", (0, 69, 77), arguments=("models", "job.yaml", "--json")),
    Case("bug", 70, path="caption", prepare=_broken),
    Case("SIGTERM", (0, 1, 69, 143), path="slow", signal=signal.SIGTERM),
    Case("SIGKILL", (0, 1, -9), path="http_500", signal=signal.SIGKILL),
]


def left_behind(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of everything, Parquet and SQLite also as what they hold."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "sitecustomize.py":
            continue
        held = path.read_bytes()
        yield str(path), held
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            yield f"{path} (rows)", repr(table.to_pylist()).encode()
            yield f"{path} (schema)", str(table.schema).encode()
        elif held.startswith(b"SQLite format 3"):
            db = sqlite3.connect(path)
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                yield (
                    f"{path} ({name})",
                    repr(db.execute(f"SELECT * FROM {name}").fetchall()).encode(),
                )
            db.close()


def fail(case: Case, folder: Path, base: str) -> tuple[int, list[tuple[str, bytes]]]:
    """Run one case; its exit code and all it left, streams and command lines included."""
    folder.mkdir()
    pq.write_table(pa.table({"url": [f"https://images.example/{n}.jpg" for n in range(3)]}),
                   folder / "urls.parquet")  # fmt: skip
    job: dict[str, Any] = {
        "manifest": {"path": "urls.parquet"},
        "images": {"send": "url"},
        "endpoint": {
            "profile": "openai",
            "base_url": f"{base}/{case.path or 'http_500'}/v1",
            "model": "m",
            "api_key_env": "OPENROUTER_API_KEY",
            "timeout": 20,
            "patience": "1s",
        },
        "retry": {"attempts": 2},
        "quota": {"concurrency": 2},
        "output": {"path": "out"},
        "run": {"drain": 1, "min_free": "1MB"},
    }
    for name, section in case.job.items():
        job[name] = {**job.get(name, {}), **section}
    (folder / "job.yaml").write_text(json.dumps(job))
    case.prepare(folder)
    environ = environment(
        {
            "OPENROUTER_API_KEY": KEY,
            "CAPTION_PIPELINE_STATE": str(folder / "state"),
            "PYTHONASYNCIODEBUG": "1",
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            **case.environ,
        }
    )
    process = subprocess.Popen(
        [sys.executable, "-c", DEBUG, *case.arguments],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    lines = []
    if case.signal is not None:
        journal = folder / "out/_state/journal.db"  # in the middle of a run
        until(lambda: journal.exists() or process.poll() is not None)
        lines.append(("command line", Path(f"/proc/{process.pid}/cmdline").read_bytes()))
        process.send_signal(case.signal)
    out, err = process.communicate(timeout=120)
    (folder / "job.yaml").unlink()  # what the user wrote is the user's
    return process.returncode, [("stdout", out), ("stderr", err), *lines, *left_behind(folder)]


def test_the_key_is_found_nowhere(tmp_path: Path, service: str) -> None:
    """Each failure ends in its code, and none leaves the key behind in any spelling."""
    with ThreadPoolExecutor(2) as pool:
        folders = [tmp_path / str(number) for number in range(len(CASES))]
        ended = list(pool.map(fail, CASES, folders, [service] * len(CASES)))

    assert len(CASES) >= 40
    found, odd = [], []
    for case, (code, left) in zip(CASES, ended, strict=True):
        allowed = case.code if isinstance(case.code, tuple) else (case.code,)
        if code not in allowed:
            odd.append(f"{case.name}: {code}, {dict(left)['stderr'][-400:]!r}")
        for where, held in left:
            found += [f"{case.name}: {where}: {trace!r}" for trace in traces(KEY) if trace in held]
    assert not odd
    assert not found


def test_the_search_finds_a_key_that_is_there(tmp_path: Path) -> None:
    """The control: in a table, a database, a text, in each spelling and at each alignment."""
    pq.write_table(pa.table({"a": [f"x{KEY}"]}), tmp_path / "a.parquet")
    db = sqlite3.connect(tmp_path / "b.db")
    db.execute("CREATE TABLE t (a BLOB)")
    db.execute("INSERT INTO t VALUES (?)", (KEY.encode(),))
    db.commit()
    db.close()
    texts = [quote(KEY, safe="")]
    texts += [base64.b64encode(f"{'x' * n}{KEY}yz".encode()).decode() for n in range(3)]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(f"so {text} it is")
    hits = {
        Path(where.split(" ")[0]).name
        for where, held in left_behind(tmp_path)
        if any(trace in held for trace in traces(KEY))
    }

    assert hits == {"a.parquet", "b.db", "0.txt", "1.txt", "2.txt", "3.txt"}


SIGNED = {
    "s3": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Expires=60"
    "&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
    "azure": "sv=2024-01-01&se=2030&sp=r&sr=b&sig={}",
}


@pytest.mark.parametrize("kind", SIGNED)
@pytest.mark.parametrize("allowed", [True, False])
def test_a_signed_url_keeps_its_signature_to_itself(
    tmp_path: Path, service: str, kind: str, allowed: bool
) -> None:
    """A dead signed URL fails its row; logs, parts, book and summary do not hold the signature.
    (`dataset.parquet` has the manifest's own columns, as they stand.)"""
    query = SIGNED[kind].format(SIGNATURE)
    pq.write_table(
        pa.table({"url": [f"{service}/dead/{n}.jpg?{query}" for n in range(2)]}),
        tmp_path / "urls.parquet",
    )
    host = service.removeprefix("http://")
    job = {
        "manifest": {"path": "urls.parquet"},
        "images": {"send": "inline", "allow": [host] if allowed else []},
        "endpoint": {"profile": "embedded", "model": "embedded/pixels"},
        "output": {"path": "out"},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    done = subprocess.run(
        [sys.executable, "-c", DEBUG, "run", "job.yaml", "--json"],
        cwd=tmp_path,
        env=environment({"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}),
        capture_output=True,
        timeout=120,
    )
    (tmp_path / "urls.parquet").unlink()
    (tmp_path / "out/dataset.parquet").unlink()
    left = [("stdout", done.stdout), ("stderr", done.stderr), *left_behind(tmp_path)]

    assert done.returncode == 1, done.stderr
    assert not [where for where, held in left if any(t in held for t in traces(SIGNATURE))]
