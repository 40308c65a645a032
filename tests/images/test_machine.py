"""What the machine or a store does to any image is transient: workers, threads, shards, logins."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CODES, ImageError, SourceUnavailable
from pipeline.images.outage import MACHINE
from pipeline.images.sources import file, shards
from pipeline.images.sources.base import Places
from pipeline.images.sources.remote import from_remote
from pipeline.images.sources.shards import Shards
from pipeline.images.sources.tar import from_tar
from pipeline.images.workers import Workers
from tests.images.hosts import images
from tests.images.test_sources import shard
from tests.support.pictures import picture


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def leave(code: int) -> None:
    os._exit(code)


def trouble_in_worker(work: Any, argument: Any) -> ImageError:
    async def load() -> None:
        workers = Workers(1)
        try:
            await workers.run(work, argument)
        finally:
            workers.close()

    with pytest.raises(ImageError) as caught:
        asyncio.run(load())
    return caught.value


@pytest.mark.parametrize(("work", "argument"), [(end_by, signal.SIGKILL), (leave, 1)])
def test_a_worker_that_no_picture_ends_is_the_machines(work: Any, argument: int) -> None:
    trouble = trouble_in_worker(work, argument)
    assert isinstance(trouble, SourceUnavailable)
    assert trouble.place == MACHINE
    assert not CODES[trouble.code]


def test_a_decoder_that_crashes_is_the_pictures() -> None:
    trouble = trouble_in_worker(end_by, signal.SIGSEGV)
    assert not isinstance(trouble, SourceUnavailable)
    assert trouble.code == "corrupt"


def test_a_worker_whose_end_is_not_known_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workers, "_drop", lambda self, slot: self._pools.__setitem__(slot, None))
    assert isinstance(trouble_in_worker(end_by, signal.SIGSEGV), SourceUnavailable)


def no_more_threads(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def no_more_processes(*_: Any) -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize("short", ["threads", "processes"])
def test_no_thread_and_no_process_are_the_machines(
    short: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards the same loader works, and no worker is left behind."""
    (tmp_path / "1.jpg").write_bytes(picture(1))

    async def load() -> None:
        async with images(tmp_path) as loader:
            with monkeypatch.context() as patch:
                if short == "threads":
                    patch.setattr(threading.Thread, "start", no_more_threads)
                else:
                    patch.setattr("multiprocessing.util.spawnv_passfds", no_more_processes)
                for value in (picture(1), *(["1.jpg"] if short == "threads" else [])):
                    with pytest.raises(SourceUnavailable) as caught:
                        await loader.load(value, inline=True)
                    assert caught.value.place == MACHINE
                    assert not CODES[caught.value.code]
            assert (await loader.load("1.jpg", inline=True)).width == 32

    asyncio.run(load())


def test_memory_that_is_not_there_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> bytes:
        raise MemoryError

    (tmp_path / "1.jpg").write_bytes(picture(1))
    monkeypatch.setattr(file, "read_file", no_memory)

    async def load() -> None:
        async with images(tmp_path) as loader:
            await loader.load("1.jpg", inline=True)

    with pytest.raises(SourceUnavailable) as caught:
        asyncio.run(load())
    assert caught.value.place == MACHINE


@pytest.fixture
def opened_shards() -> Iterator[Shards]:
    kept = Shards()
    yield kept
    kept.close()


class Failing(io.BytesIO):
    """A file that is read well up to a place, and not beyond."""

    def __init__(self, data: bytes, upto: int, number: int) -> None:
        super().__init__(data)
        self.upto, self.number = upto, number

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.upto:
            raise OSError(self.number, os.strerror(self.number))
        return super().read(size)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("form", ["opened", "indexed", "unpacked", "read"])
def test_a_shard_that_cannot_be_read_is_not_damaged(
    form: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_shards: Shards
) -> None:
    """Opened, indexed, unpacked or read: its folder's or the machine's trouble; then it works."""
    packed = form == "unpacked"
    path = shard(tmp_path / f"x.tar{'.gz' if packed else ''}", range(3), "w:gz" if packed else "w")
    upto = {"opened": 0, "indexed": 512, "unpacked": 10, "read": 1 << 30}[form]
    made: list[Failing] = []
    real = shards.open_plain

    def opened(place: Path) -> Any:
        if form == "opened":
            raise OSError(number, os.strerror(number))
        made.append(Failing(place.read_bytes(), upto, number))
        return made[-1]

    places = Places(root=tmp_path, shards=opened_shards)
    value = f"tar://set/001.jpg::{path}"
    monkeypatch.setattr(shards, "open_plain", opened)
    if form == "read":
        assert from_tar(value, places) == picture(1)
        made[-1].upto = 0
    with pytest.raises(SourceUnavailable) as caught:
        from_tar(value, places)
    assert caught.value.place == (MACHINE if number == errno.EMFILE else str(tmp_path))
    assert not CODES[caught.value.code]
    assert "bucket" not in caught.value.message
    monkeypatch.setattr(shards, "open_plain", real)
    assert from_tar(value, places) == picture(1)


def test_a_shard_that_is_damaged_inside_its_compression_is_corrupt(
    tmp_path: Path, opened_shards: Shards
) -> None:
    data = bytearray(gzip.compress(os.urandom(100_000), compresslevel=9))
    data[40:60] = bytes(20)
    for name, content in (
        ("flipped", bytes(data)),
        ("bits", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xff" * 9),
    ):
        (tmp_path / f"{name}.tar.gz").write_bytes(content)
        with pytest.raises(ImageError) as caught:
            from_tar(f"tar://a::{name}.tar.gz", Places(root=tmp_path, shards=opened_shards))
        assert caught.value.code == "corrupt"


def test_no_room_to_unpack_a_shard_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_shards: Shards
) -> None:
    """Not a missing file either, where there is no folder for temporary files."""
    path = shard(tmp_path / "x.tar.gz", range(3), "w:gz")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(SourceUnavailable) as caught:
        from_tar(f"tar://set/001.jpg::{path}", Places(root=tmp_path, shards=opened_shards))
    assert caught.value.place == MACHINE


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An endpoint of S3 that answers everything with the code and status that it is told."""
    says = {"code": "AccessDenied", "status": "403"}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<Error><Code>{says['code']}</Code><Message>no</Message></Error>".encode()
            self.send_response(int(says["status"]))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - http.server's own name

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    environ = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield says
    s3fs.S3FileSystem.clear_instance_cache()
    server.shutdown()
    serving.join()
    server.server_close()


def object_trouble() -> ImageError:
    with pytest.raises(ImageError) as caught:
        from_remote("s3://photos/a/1.jpg", Places(root=None))
    return caught.value


@pytest.mark.parametrize(
    ("code", "status"), [("InvalidAccessKeyId", "403"), ("ExpiredToken", "400")]
)
def test_a_login_that_is_not_valid_is_the_buckets(
    code: str, status: str, store: dict[str, str]
) -> None:
    """A HEAD is answered without a reason; the reason is asked for."""
    store.update(code=code, status=status)
    trouble = object_trouble()
    assert isinstance(trouble, SourceUnavailable)
    assert (trouble.place, trouble.certain) == ("s3://photos", True)
    assert code in trouble.message


def test_no_login_and_no_endpoint_are_the_buckets(
    store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for gone in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(gone)
    nobody = object_trouble()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    unreachable = object_trouble()
    for trouble in (nobody, unreachable):
        assert isinstance(trouble, SourceUnavailable)
        assert trouble.certain
        assert not CODES[trouble.code]


def test_one_object_without_access_is_its_own_fault(store: dict[str, str]) -> None:
    """Many in a row are the bucket's: only then its circuit opens."""
    trouble = object_trouble()
    assert isinstance(trouble, SourceUnavailable)
    assert (trouble.code, trouble.certain) == ("missing_file", False)
    store.update(code="NoSuchKey", status="404")
    assert not isinstance(object_trouble(), SourceUnavailable)
