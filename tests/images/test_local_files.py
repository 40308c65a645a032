"""Local files that a manifest names: their other spellings, and those that it may not name."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.images.test_sources import codes
from tests.main.test_columns import ENDPOINT, dataset
from tests.manifest.made import shard
from tests.support.command import RequestResult, pipeline
from tests.support.pictures import picture


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures whose names say how they are written."""
    names = [
        nfd("Zürich.jpg"),
        nfc("Åbo.jpg"),
        f"{nfd('Fotos é')}/{nfc('ñ')}.jpg",
        "cats/new/3.jpg",
        "a\\b.jpg",
        "a/b.jpg",
        nfd("한국/ü.jpg"),
    ]
    for number, name in enumerate(names):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(picture(number))
    return tmp_path / "pictures"


def test_a_name_in_another_spelling_is_the_file_that_is_there(folder: Path) -> None:
    """Unicode's other normal form, in any part of the path; backslashes; both at once."""
    values = [
        nfc("Zürich.jpg"),
        nfd("Åbo.jpg"),
        f"{nfc('Fotos é')}/{nfd('ñ')}.jpg",
        "cats\\new\\3.jpg",
        ".\\cats\\new\\3.jpg",
        nfc("한국\\ü.jpg"),
        str(folder / nfc("Zürich.jpg")),
    ]
    assert codes(values, folder) == [f"ok {n}" for n in (0, 1, 2, 3, 3, 6, 0)]


def test_what_lists_put_around_a_name_is_no_part_of_it(folder: Path) -> None:
    """Blanks, quotes, the number of a caption, URL escapes, no ending; a name with them is itself."""
    (folder / "7.jpg#0").write_bytes(picture(8))
    (folder / "7.jpg").write_bytes(picture(7))
    (folder / "cats/new/100.PNG").write_bytes(picture(9))
    (folder / "cats/new/101.jpg").write_bytes(picture(1))
    (folder / "cats/new/101.png").write_bytes(picture(2))
    values = [
        *(" cats/new/3.jpg ", '"cats/new/3.jpg"', "'cats\\new\\3.jpg'", "cats/new/3.jpg#4"),
        *("7.jpg#0", "7.jpg#1", "cats%2Fnew/3.jpg", "cats/new/100", "cats/new/3", " cats\\new\\3"),
    ]
    assert codes(values, folder) == [f"ok {n}" for n in (3, 3, 3, 3, 8, 7, 3, 9, 3, 3)]
    assert codes(["cats/new/101", "cats/new/102", "cats", "3"], folder) == ["missing_file"] * 4


def test_the_exact_name_is_the_first_choice(folder: Path) -> None:
    """A backslash is a letter like others here; what is nowhere stays missing."""
    (folder / nfc("Zürich.jpg")).write_bytes(picture(9))
    values = ["a\\b.jpg", nfc("Zürich.jpg"), nfd("Zürich.jpg"), "Zurich.jpg", "C:\\cats\\3.jpg"]
    assert codes(values, folder) == ["ok 4", "ok 9", "ok 0", "missing_file", "missing_file"]


def test_nothing_outside_of_the_root_is_read(folder: Path) -> None:
    """By `..`, absolutely, by a URL, through links of files and folders, by another spelling."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "0.jpg").write_bytes(picture(0))
    (folder / "link.jpg").symlink_to(outside / "0.jpg")
    (folder / nfd("lünk")).symlink_to(outside)
    (folder / "inside.jpg").symlink_to(folder / "cats/new/3.jpg")
    shard(outside / "s.tar", {"0.jpg": picture(0)})
    shard(folder / "s.tar", {"0.jpg": picture(0)})
    blocked = [
        "../outside/0.jpg",
        "cats/../../outside/0.jpg",
        "..\\outside\\0.jpg",
        str(outside / "0.jpg"),
        f"file://{outside}/0.jpg",
        "link.jpg",
        nfc("lünk/0.jpg"),
        "/etc/passwd",
        "~/x.jpg",
        f"tar://0.jpg::{outside}/s.tar",
        "../outside/not-there.jpg",
    ]
    good = ["inside.jpg", "cats/../cats/new/3.jpg", str(folder / "a/b.jpg"), "tar://0.jpg::s.tar"]
    assert codes(blocked, None, root=str(folder)) == ["blocked_path"] * len(blocked)
    assert codes(good, None, root=str(folder)) == ["ok 3", "ok 3", "ok 5", "ok 0"]
    # Without images.root a manifest on this machine names what it likes.
    assert codes(["../outside/0.jpg", "link.jpg"], folder) == ["ok 0", "ok 0"]


def test_a_root_that_is_a_link_itself(folder: Path) -> None:
    """Its pictures are inside."""
    (folder.parent / "root").symlink_to(folder)
    assert codes(["cats/new/3.jpg"], None, root=str(folder.parent / "root")) == ["ok 3"]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A host that serves the folder `web`."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(_Quiet, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def run(folder: Path, manifest: str, *more: str) -> RequestResult:
    """`run` on a manifest at an address."""
    text = f"manifest: {{path: '{manifest}'}}\noutput: {{path: out}}\n{ENDPOINT}"
    (folder / "job.yaml").write_text(text)
    return pipeline("run", "job.yaml", *more, cwd=folder)


def test_a_manifest_from_the_network_names_no_local_file(tmp_path: Path, web: str) -> None:
    """Whatever the spelling; with images.root set, its folder alone. Exports hand on no file."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/0.jpg").write_bytes(picture(0))
    (tmp_path / "secret.jpg").write_bytes(picture(1))
    names = ["0.jpg", f"{tmp_path}/secret.jpg", f"file://{tmp_path}/secret.jpg", "mine/0.jpg"]
    (tmp_path / "web/m.csv").write_text("image\n" + "\n".join(names) + "\n")

    ended = run(tmp_path, f"{web}/m.csv")

    assert ended.code == 1, ended.err
    assert [row["error_code"] for row in dataset(tmp_path)] == ["blocked_path"] * 4
    assert "set images.root" in ended.err.splitlines()[-1]
    root = f"--set=images.root={tmp_path / 'mine'}"
    assert run(tmp_path, f"{web}/m.csv", "--retry-failed", root).code == 1
    assert [row["error_code"] for row in dataset(tmp_path)] == [
        None,
        "blocked_path",
        "blocked_path",
        "missing_file",
    ]
    pipeline("export", "job.yaml", "o.parquet", "--images", root, cwd=tmp_path)
    exported = pq.read_table(tmp_path / "o.parquet").column("image").to_pylist()
    assert [cell and cell["bytes"] for cell in exported] == [picture(0), None, None, None]


def test_an_export_hands_on_nothing_but_pictures(tmp_path: Path) -> None:
    """A row without a caption may name any file of this machine."""
    (tmp_path / "0.jpg").write_bytes(picture(0))
    (tmp_path / "notes.txt").write_text("nothing for others")
    (tmp_path / "m.csv").write_text("image\n0.jpg\nnotes.txt\n")
    assert run(tmp_path, "m.csv").code == 1

    assert pipeline("export", "job.yaml", "o.parquet", "--images", cwd=tmp_path).code == 0

    exported = pq.read_table(tmp_path / "o.parquet").column("image").to_pylist()
    assert [cell and cell["bytes"] for cell in exported] == [picture(0), None]


def test_shards_of_the_manifest_itself_are_read_beside_the_root(tmp_path: Path) -> None:
    """The rows of a tar name the tar; images.root is no reason to refuse it."""
    (tmp_path / "root").mkdir()
    shard(tmp_path / "a.tar", {"0.jpg": picture(0), "1.jpg": picture(1)})

    ended = run(tmp_path, "a.tar", "--set=images.root=root")

    assert ended.code == 0, ended.err


def test_keys_and_exports_keep_the_name_as_written(tmp_path: Path) -> None:
    """The caption file beside the picture; the record's name is the manifest's."""
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / nfd("ü.jpg")).write_bytes(picture(0))
    written = nfc("cats\\ü.jpg")
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": written}) + "\n")
    assert run(tmp_path, "m.jsonl").code == 0
    assert dataset(tmp_path)[0]["image"] == written

    ended = pipeline("export", "job.yaml", "o.parquet", "--images", cwd=tmp_path)

    assert ended.code == 0, ended.err
    exported = pq.read_table(tmp_path / "o.parquet").column("image").to_pylist()
    assert exported[0]["bytes"] == picture(0)
    assert pipeline("export", "job.yaml", "--beside", cwd=tmp_path).code == 0
    assert len(list((tmp_path / "cats").glob("*.txt"))) == 1
