"""Each way a manifest can be wrong: one line that names the file, what is wrong and the remedy."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import Exit, JobError, ManifestError
from tests.manifest.made import opened, rows_of, shard

GOOD = "https://x.example/a.jpg"


def _text(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _long_cell(folder: Path) -> Path:
    content = f"url,n\n{GOOD},1\n{GOOD},{'x' * 70_000_000}\n"
    return _text("x.csv", content.encode())(folder)


def _long_line(folder: Path) -> Path:
    return _text("x.txt", b"a" * 34_000_000)(folder)


def _cut_parquet(folder: Path) -> Path:
    path = folder / "cut.parquet"
    pq.write_table(pa.table({"url": [f"{i}.jpg" for i in range(10_000)]}), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _torn_parquet(folder: Path) -> Path:
    """A whole footer over damaged pages."""
    path = folder / "torn.parquet"
    pq.write_table(pa.table({"url": [f"{i}.jpg" for i in range(100_000)]}), path)
    content = bytearray(path.read_bytes())
    content[1_000:60_000] = bytes(59_000)
    path.write_bytes(content)
    return path


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:8_000])
    return path


def _empty_folder(folder: Path) -> Path:
    (folder / "f").mkdir()
    return folder / "f"


def _mixed(folder: Path) -> Path:
    pq.write_table(pa.table({"url": [GOOD]}), folder / "m1.parquet")
    (folder / "m2.csv").write_text(f"url\n{GOOD}\n")
    return folder / "m?.*"


def _clashing(folder: Path) -> Path:
    pq.write_table(pa.table({"url": [GOOD], "n": [1]}), folder / "c1.parquet")
    pq.write_table(pa.table({"url": [GOOD], "n": ["one"]}), folder / "c2.parquet")
    return folder / "c?.parquet"


#: What is wrong -> (how to make it, words that the message must hold).
BROKEN: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "missing": (lambda f: f / "nope.csv", ("nope.csv", "no such file")),
    "glob without match": (lambda f: f / "*.parquet", ("*.parquet", "no file matches")),
    "empty folder": (_empty_folder, ("/f", "no image file", ".jpg")),
    "cut parquet": (_cut_parquet, ("cut.parquet", "not a whole Parquet file", "Copy it again")),
    "torn parquet": (_torn_parquet, ("torn.parquet", "damaged", "copy the file again")),
    "not parquet": (_text("x.parquet", b"hello"), ("x.parquet", "not a whole Parquet file")),
    "empty parquet": (_text("x.parquet", b""), ("x.parquet", "not a whole Parquet file")),
    "csv without image": (
        _text("x.csv", b"a,b\n1,2\n"), ("x.csv", "no column of images", "a, b", "manifest.image"),
    ),
    "csv without header, a short row": (
        _text("x.csv", f"{GOOD},1\n{GOOD}\n".encode()), ("x.csv", "line 2", "first line has 2"),
    ),
    "a list with a tab further down": (
        _text("x.txt", b"a.jpg\nb.jpg\tb\n"), ("x.txt", "line 2 holds a tab"),
    ),
    "csv with nothing": (_text("x.csv", b""), ("x.csv", "is empty", "name the columns")),
    "csv with a short row": (
        _text("x.csv", f"url,n\n{GOOD},1\n{GOOD}\n".encode()), ("x.csv", "line 3", "1 cells"),
    ),
    "csv with a long row": (
        _text("x.csv", f"url,n\n{GOOD},a,b\n".encode()), ("x.csv", "line 2", "3 cells", "quote"),
    ),
    "csv with a cell of 70 MB": (
        _long_cell,
        ("x.csv", "line 3", "'n'", "70.0 MB"),
    ),
    "csv with a NUL": (
        _text("x.csv", f"url\n{GOOD}\n{GOOD}\0\n".encode()), ("x.csv", "NUL", "line 3"),
    ),
    "csv in UTF-16": (
        _text("x.csv", f"url\n{GOOD}\n".encode("utf-16")), ("x.csv", "UTF-16", "UTF-8"),
    ),
    "csv in Latin-1": (
        _text("x.csv", f"url,t\n{GOOD},a\n{GOOD},M\xfcller\n".encode("latin-1")),
        ("x.csv", "line 3", "UTF-8"),
    ),
    "csv with 1,000,000 columns": (
        _text("x.csv", b",".join([b"c"] * 1_000_000) + b"\n"), ("x.csv", "columns", "10000"),
    ),
    "csv with a double column": (_text("x.csv", b"url,a,url\n"), ("x.csv", "'url'", "twice")),
    "cut gzip": (
        _text("x.csv.gz", gzip.compress(f"url\n{GOOD}\n".encode() * 9_000)[:-200]),
        ("x.csv.gz", "cut"),
    ),
    "jsonl that is not JSON": (
        _text("x.jsonl", b'{"url": "a.jpg"}\n{"url": \n'), ("x.jsonl", "line 2", "not JSON"),
    ),
    "jsonl of numbers": (_text("x.jsonl", b"17\n"), ("x.jsonl", "row 1", "not an object")),
    "json that is cut": (
        _text("x.json", b'[{"url": "a.jpg"}, {"url": "b'), ("x.json", "element 2"),
    ),
    "unknown ending": (_text("x.dat", b"abc"), ("x.dat", "manifest.format")),
    "two image columns": (
        _text("x.csv", b"left,right\na.jpg,b.jpg\n"), ("'left'", "'right'", "manifest.image"),
    ),
    "mixed formats": (_mixed, ("m1.parquet", "parquet", "m2.csv", "csv")),
    "clashing types": (_clashing, ("c2.parquet", "'n'", "string", "int64")),
    "not a tar": (_text("x.tar", b"abc"), ("x.tar", "tar")),
    "a tar cut short": (
        lambda f: _cut(shard(f / "x.tar", {"a.jpg": b"x" * 5_000, "b.jpg": b"x" * 5_000})),
        ("x.tar", "cut after row", "copy the shard again"),
    ),
    "long line in txt": (_long_line, ("x.txt", "line 1", "32 MiB")),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_each_error_is_one_line_with_its_remedy(what: str, tmp_path: Path) -> None:
    """File, what is wrong and what to do, in one line; exit code 65; at opening or reading."""
    make, words = BROKEN[what]
    path = make(tmp_path)

    with pytest.raises(ManifestError) as caught:
        rows_of(opened(path))

    message = str(caught.value)
    assert caught.value.exit_code == Exit.MANIFEST
    assert "\n" not in message
    assert len(message) < 600
    for word in words:
        assert word in message


def test_unknown_columns_name_the_nearest(tmp_path: Path) -> None:
    """Image and id are the manifest's trouble (65), prompt columns the job's (78)."""
    path = tmp_path / "a.csv"
    path.write_text(f"image_url,title\n{GOOD},x\n")

    with pytest.raises(ManifestError, match=r"did you mean 'image_url'.*image_url, title"):
        opened(path, image="imageurl")
    with pytest.raises(ManifestError, match="did you mean 'title'"):
        opened(path, id="titel")
    with pytest.raises(JobError, match="did you mean 'title'"):
        opened(path, columns=("titles",))


def test_unsupported_types_are_named(tmp_path: Path) -> None:
    """A list of numbers cannot be an image."""
    table = pa.table({"url": [GOOD], "tags": [[1]]})
    pq.write_table(table, tmp_path / "a.parquet")

    with pytest.raises(ManifestError, match=r"'tags' is list<.*> *, an unsupported type"):
        opened(tmp_path / "a.parquet", image="tags")


@pytest.mark.parametrize(
    ("predicate", "words"),
    [
        ("widht > 3", "widht"),
        ("width >", "syntax error"),
        ("row_number() over () < 3", "window"),
        ("count(*) > 1", "aggregate"),
        ("random() < 0.5", "random"),
        ("width IN (SELECT * FROM 'secret.csv')", "disabled"),
    ],
)
def test_a_bad_predicate_is_the_jobs_trouble(predicate: str, words: str, tmp_path: Path) -> None:
    """78, one line, said before anything is read; a predicate reaches no file."""
    (tmp_path / "a.csv").write_text(f"url,width\n{GOOD},3\n")

    with pytest.raises(JobError, match=r"manifest\.where") as caught:
        opened(tmp_path / "a.csv", where=predicate)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_predicate_that_fails_on_a_row_is_one_line(tmp_path: Path) -> None:
    """A cast that only some row breaks is told when that row is met."""
    (tmp_path / "a.csv").write_text(f"url,width\n{GOOD},3\n{GOOD},wide\n")
    manifest = opened(tmp_path / "a.csv", where="CAST(width AS INT) > 2")

    with pytest.raises(JobError, match="'wide'"):
        rows_of(manifest)


def test_an_empty_manifest_is_no_error(tmp_path: Path) -> None:
    """No rows: nothing to do, whatever the format."""
    (tmp_path / "a.csv").write_text("url,title\n")
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "a.txt").write_text("\n")
    pq.write_table(pa.table({"url": pa.array([], pa.string())}), tmp_path / "a.parquet")

    for name in ("a.csv", "a.jsonl", "a.json", "a.txt", "a.parquet"):
        manifest = opened(tmp_path / name)
        assert rows_of(manifest) == []
        assert sum(batch.num_rows for batch in (t for t, _ in manifest.tables())) == 0


def test_a_jsonl_key_that_comes_late_is_not_lost_in_silence(tmp_path: Path) -> None:
    """Beyond the part that decides the columns, a new key or type is an error with its line."""
    line = b'{"url": "a.jpg", "n": 1, "t": "%s"}\n' % (b"x" * 500)
    many = line * 12_000
    (tmp_path / "k.jsonl").write_bytes(many + b'{"url": "a.jpg", "new": 1}\n')
    (tmp_path / "t.jsonl").write_bytes(many + b'{"url": "a.jpg", "n": "one"}\n')

    with pytest.raises(ManifestError, match=r"line 12001: key 'new'"):
        rows_of(opened(tmp_path / "k.jsonl"))
    with pytest.raises(ManifestError, match=r"line 12001: 'n' is not int64"):
        rows_of(opened(tmp_path / "t.jsonl", columns=("n",)))


class _Plain(http.server.BaseHTTPRequestHandler):
    """Serves one CSV and knows nothing of ranges."""

    def do_GET(self) -> None:
        found = self.path.startswith("/a.csv")
        self.send_response(200 if found else 404)
        body = f"url\n{GOOD}\n".encode() if found else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path.startswith("/a.csv") else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Plain) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_a_manifest_over_http_and_its_secrets(server: str) -> None:
    """A plain server without ranges will do; a missing file is an error without the URL's query."""
    assert [row.image for row in rows_of(opened(f"{server}/a.csv?sig=hush"))] == [GOOD]

    with pytest.raises(ManifestError) as caught:
        opened(f"{server}/b.csv?sig=hush")
    assert "b.csv" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_missing_driver_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """s3:// without the extra says what to install."""
    import fsspec

    def absent(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(ManifestError, match=r"caption-pipeline\[s3\]"):
        opened("s3://bucket/a.parquet")
