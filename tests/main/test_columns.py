"""Which column a run captions, as a user sees it: real commands, real files, a real host."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import RequestResult, pipeline
from tests.support.pictures import picture

ENDPOINT = "endpoint: {profile: embedded, model: embedded/pixels}\n"


def run(folder: Path, manifest: str, *more: str) -> RequestResult:
    """`run` on a manifest in this folder."""
    text = f"manifest: {{path: {manifest}}}\noutput: {{path: out}}\n{ENDPOINT}"
    (folder / "job.yaml").write_text(text)
    return pipeline("run", "job.yaml", *more, cwd=folder)


def dataset(folder: Path) -> list[dict[str, object]]:
    """The rows of dataset.parquet."""
    rows: list[dict[str, object]] = pq.read_table(folder / "out/dataset.parquet").to_pylist()
    return rows


class _Host(http.server.BaseHTTPRequestHandler):
    """Pictures below /p/, pages everywhere else."""

    def do_GET(self) -> None:
        body = b"<!doctype html><p>a page"
        if self.path.startswith("/p/"):
            body = picture(int(self.path.rpartition("/")[2]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def host() -> Iterator[str]:
    """Name and port of a host of pictures and pages."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_pictures_in_hand_are_taken_and_the_first_line_names_the_column(tmp_path: Path) -> None:
    """The page beside the picture is not even asked for."""
    cells = [{"bytes": picture(n), "path": f"{n}.jpg"} for n in range(3)]
    url = [f"http://127.0.0.1:9/page/{n}" for n in range(3)]
    pq.write_table(pa.table({"url": url, "image": cells}), tmp_path / "m.parquet")

    ended = run(tmp_path, "m.parquet")

    assert ended.code == 0, ended.err
    assert "3 images in 3 rows, column 'image';" in ended.err.splitlines()[0]


def test_links_to_pages_are_named_with_the_column_of_pictures(tmp_path: Path, host: str) -> None:
    """All of the first rows are pages: one line says so, and following it mends the run."""
    rows = [f"http://{host}/page/{n},http://{host}/p/{n}" for n in range(3)]
    (tmp_path / "m.csv").write_text("image_url,photo_src\n" + "\n".join(rows) + "\n")

    ended = run(tmp_path, "m.csv", f"--set=images.allow=['{host}']")
    line = next(line for line in ended.err.splitlines() if "HTML pages" in line)

    assert ended.code == 1
    assert "the first 3 images of column 'image_url'" in line
    assert "'photo_src' looks like pictures: set manifest.image" in line
    mended = run(
        tmp_path, "m.csv", f"--set=images.allow=['{host}']", "--set=manifest.image=photo_src"
    )
    assert mended.code == 0, mended.err


def test_one_page_among_pictures_is_a_failure_like_others(tmp_path: Path, host: str) -> None:
    """Nothing is said about columns."""
    rows = [f"http://{host}/{'page' if n == 1 else 'p'}/{n}" for n in range(3)]
    (tmp_path / "m.csv").write_text("url,photo_src\n" + "".join(f"{url},x\n" for url in rows))

    ended = run(tmp_path, "m.csv", f"--set=images.allow=['{host}']")

    assert ended.code == 1
    assert "HTML pages" not in ended.err


def test_columns_that_differ_from_ours_in_capitals(tmp_path: Path) -> None:
    """SQL reads the new caption and the old one, each by its own name."""
    for n in range(2):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))
    old = {"Caption": ["old"] * 2, "STATUS": ["x"] * 2, "Key": ["a", "b"], "wIDTH": [1, 2]}
    pq.write_table(pa.table({"path": ["0.jpg", "1.jpg"], **old}), tmp_path / "m.parquet")

    assert run(tmp_path, "m.parquet").code == 0

    names = list(dataset(tmp_path)[0])
    assert len({name.lower() for name in names}) == len(names)
    found = duckdb.sql(
        f"SELECT caption, status, key, width, caption_new, status_new FROM '{tmp_path}/out/dataset.parquet'"
    ).fetchall()
    assert [row[:4] for row in found] == [("old", "x", "a", 1), ("old", "x", "b", 2)]
    assert all(row[4] and row[5] == "ok" for row in found)
