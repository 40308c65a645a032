"""A real S3 service on a loopback port, and what lies between it and the program."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUCKET = "captions"


@contextmanager
def s3() -> Iterator[int]:
    """An S3 service in its own process, with one bucket; gives the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 60
        while ask(port, "PUT", f"/{BUCKET}") != 200:
            assert time.monotonic() < end, "the service did not start"
            time.sleep(0.05)  # another process is starting
        yield port
    finally:
        process.terminate()
        process.wait(10)


def ask(port: int, method: str, path: str, body: bytes = b"") -> int:
    """One plain request; 0 when nobody answers."""
    link = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        link.request(method, path, body, _LOGIN)
        return link.getresponse().status
    except OSError:
        return 0
    finally:
        link.close()


_LOGIN = {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"}


def login(port: int) -> dict[str, str]:
    """The environment in which `s3://` means this service."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


#: (method, path) -> a fault's name, or None: let it through.
CircuitBreaker = Callable[[str, str], str | None]
FAULTS = ("500", "503", "409", "412", "lost", "cut", "slow")


@contextmanager
def proxy(port: int, weather: CircuitBreaker) -> Iterator[tuple[int, list[str]]]:
    """A service in front of `port` that misbehaves; gives its port and the faults that happened.

    500, 503, 409, 412: refused, nothing was done. lost: it was done, and the answer never came.
    cut: the request never arrived. slow: the answer takes a while.
    """
    happened: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer in one piece: in two, the second waits 40 ms for the first to be acknowledged.
        wbufsize, disable_nagle_algorithm = -1, True

        def handle_expect_100(self) -> bool:
            go_on = super().handle_expect_100()
            self.wfile.flush()
            return go_on

        def _serve(self) -> None:
            body = self._body()
            fault = weather(self.command, self.path)
            if fault:
                happened.append(fault)
            if fault == "cut":
                self.close_connection = True
                return
            if fault in ("500", "503", "409", "412"):
                self.send_response(int(fault))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            link = HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                link.request(self.command, self.path, body, dict(self.headers.items()))
                answer = link.getresponse()
                data = answer.read()
            finally:
                link.close()
            if fault == "lost":
                self.close_connection = True
                return
            if fault == "slow":
                time.sleep(0.2)  # that is the fault
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            size = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", size or str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _body(self) -> bytes:
            length = self.headers.get("Content-Length")
            if length is not None:
                return self.rfile.read(int(length))
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return b""
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815 - the base class's names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1], happened
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def bad_weather(rng: random.Random, share: float) -> CircuitBreaker:
    """Faults by chance, at most two in a row: a store that is never up is another story."""
    row = 0
    lock = threading.Lock()

    def weather(method: str, path: str) -> str | None:
        nonlocal row
        with lock:
            if row < 2 and rng.random() < share:
                row += 1
                return rng.choice(FAULTS)
            row = 0
            return None

    return weather


@contextmanager
def environ(values: Mapping[str, str]) -> Iterator[None]:
    """These variables in this process, for a driver that looks at them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _read(store: Any, name: str, tries: int = 5) -> bytes | None:
    """A file's bytes. The service itself says 500 now and then to a look at what is being deleted
    , as real ones do: whoever reads asks again."""
    while True:
        try:
            data: bytes | None = store.read(name)
        except OSError:
            tries -= 1
            if not tries:
                raise
        else:
            return data


def records_in(store: Any, folder: Path) -> dict[str, dict[str, Any]]:
    """Every record that the store shows now, by key; a key that is met twice is an error."""
    import io

    import pyarrow.parquet as pq

    found: dict[str, dict[str, Any]] = {}
    for where in ("captions", "failures"):
        for name in sorted(store.sizes(where)):
            data = _read(store, f"{where}/{name}")
            if data is None:  # put together with others since it was listed: list again
                return records_in(store, folder)
            for row in pq.read_table(io.BytesIO(data)).to_pylist():
                assert row["key"] not in found, f"{row['key']} stands twice"
                found[row["key"]] = row
    return found
