"""Images with equal bytes are asked once, and each row has its record."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import RequestResult, pipeline
from tests.support.pictures import picture

GONE = picture(99)


@contextmanager
def dying_host() -> Iterator[str]:
    """Every second picture is gone: the host leads to one that says so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").removesuffix(".jpg")
            if name.isdecimal() and int(name) % 2:
                self.send_response(302)
                self.send_header("Location", "/gone.jpg")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(GONE if name == "gone" else picture(int(name)))

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def run(folder: Path, manifest: str, more: str = "", *arguments: str) -> RequestResult:
    (folder / "job.yaml").write_text(
        f"manifest: {{path: {manifest}}}\n{more}"
        "endpoint: {profile: embedded, model: embedded/pixels}\noutput: {path: out}\n"
    )
    return pipeline("run", "job.yaml", "--json", *arguments, cwd=folder)


def test_one_picture_behind_many_urls_is_asked_once(tmp_path: Path) -> None:
    """11 requests for 20 rows; the end says which host gives one picture for ten."""
    with dying_host() as host:
        (tmp_path / "m.txt").write_text("".join(f"http://{host}/{n}.jpg\n" for n in range(20)))
        ended = run(tmp_path, "m.txt", f"images: {{allow: ['{host}']}}\n")
    assert ended.code == 0, ended.err
    assert ended.summary["captioned"] == 20
    assert ended.summary["requests"] == 11
    assert f"10 images of {host} are one picture" in ended.err
    rows = pq.read_table(tmp_path / "out/dataset.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 20
    assert len({row["key"] for row in rows}) == 20
    assert len({row["caption"] for row in rows[1::2]}) == 1
    assert sum("same_picture" in row["flags"] for row in rows) == 9
    # Tokens are counted once.
    spent = sum(row["prompt_tokens"] or 0 for row in rows)
    book = pq.read_table(tmp_path / "out/requests").to_pylist()
    assert spent == sum(one["prompt_tokens"] for one in book)
    assert pipeline("verify", "job.yaml", cwd=tmp_path).code == 0
    assert run(tmp_path, "m.txt").summary["requests"] == 0


@pytest.mark.parametrize("pack", [1, 4])
def test_copies_of_files_are_asked_once(tmp_path: Path, pack: int) -> None:
    """Alone and in packs; pictures that are not equal are asked one by one, and say nothing."""
    folder = tmp_path / "p"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    more = f"packing: {{images_per_request: {pack}}}\n"
    plain = run(tmp_path, "p", more)
    assert (plain.summary["captioned"], plain.summary["requests"]) == (8, 8 // pack)
    assert "one picture" not in plain.err
    shutil.rmtree(tmp_path / "out")
    for number in range(8):
        shutil.copy(folder / f"{number}.jpg", folder / f"copy-{number}.jpg")
    ended = run(tmp_path, "p", more)
    assert (ended.code, ended.summary["captioned"]) == (0, 16)
    assert ended.summary["requests"] == 8 // pack
    assert "2 images are one picture" in ended.err


def test_equal_pictures_with_other_words_are_asked_each(tmp_path: Path) -> None:
    """The prompt is part of the question."""
    (tmp_path / "a.jpg").write_bytes(GONE)
    (tmp_path / "b.jpg").write_bytes(GONE)
    (tmp_path / "m.csv").write_text("image,title\na.jpg,sea\nb.jpg,sea\na.jpg,hill\nb.jpg,hill\n")
    ended = run(tmp_path, "m.csv", "prompt: {text: 'Describe {title}'}\n")
    assert (ended.summary["captioned"], ended.summary["requests"]) == (4, 2)


def test_copies_fail_with_their_first(tmp_path: Path) -> None:
    """A damaged picture costs nothing and fails each row by itself."""
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(GONE[:-60])
    (tmp_path / "m.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    ended = run(tmp_path, "m.txt")
    assert (ended.code, ended.summary["failed"], ended.summary["requests"]) == (1, 3, 0)
