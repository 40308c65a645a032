"""Places where pictures are: each kind of value is read, and its troubles have codes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import sys
import tarfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pytest

from pipeline.errors import ImageError
from pipeline.images.limits import MAX_BYTES
from pipeline.images.sources import SOURCES, base
from pipeline.images.sources.base import Places
from pipeline.images.sources.shards import Shards
from pipeline.images.sources.tar import from_tar
from pipeline.manifest.open import open_manifest
from pipeline.manifest.settings import ManifestSettings
from tests.images.hosts import code_of, images
from tests.support.pictures import picture


def codes(values: list[Any], folder: Path | None = None, **settings: Any) -> list[str]:
    """How each value ended; `ok N` where N is the picture that came."""
    shas = {hashlib.sha256(picture(n)).hexdigest(): n for n in range(30)}

    async def load() -> list[str]:
        async with images(folder, **settings) as loader:

            async def one(value: Any) -> str:
                async def work() -> None:
                    nonlocal_sha.append((await loader.load(value, inline=True)).sha256)

                nonlocal_sha: list[str | None] = []
                code = await code_of(work())
                return f"ok {shas[nonlocal_sha[0] or '']}" if code == "ok" else code

            return list(await asyncio.gather(*(one(value) for value in values)))

    return asyncio.run(load())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 0 to 9 as files; 3 has an odd name."""
    for n in range(10):
        (tmp_path / f"{n}.jpg").write_bytes(picture(n))
    (tmp_path / "a b%20ü.jpg").write_bytes(picture(3))
    return tmp_path


@pytest.mark.parametrize("scheme", SOURCES)
def test_every_source_answers_nonsense_with_a_code(scheme: str, tmp_path: Path) -> None:
    """The contract of a source: bytes or an ImageError, never another error."""
    start = "" if scheme == "path" else "data:" if scheme == "data" else f"{scheme}://"
    values = [
        start + rest
        for rest in ("x", "../x", "a/b/c.jpg", "?", "%00", "x" * 9000, "\ud800", "::", "a::b")
    ]
    found = codes(values, tmp_path)
    assert set(found) <= {"bad_uri", "missing_file", "blocked_address", "corrupt", "connect"}


def test_files_are_found_by_path_and_url(folder: Path) -> None:
    """Relative to the root, absolute, as a file URL with escapes."""
    odd = quote(str(folder / "a b%20ü.jpg"))
    values = [
        "1.jpg",
        "./2.jpg",
        str(folder / "4.jpg"),
        "a b%20ü.jpg",
        f"file://{odd}",
        f"file://localhost{odd}",
        f"file:{odd}",
        f"FILE:{odd}",
    ]
    assert codes(values, folder) == ["ok 1", "ok 2", "ok 4"] + ["ok 3"] * 5
    assert codes(["1.jpg"], None, root=str(folder)) == ["ok 1"]
    assert codes(["1.jpg"], None) == ["bad_uri"]


def test_every_file_of_a_folder_manifest_is_read_as_a_path(tmp_path: Path) -> None:
    """Whatever its name begins with or is made of; a pipe, a device or a link to one is no row."""
    names = ["data:x.jpg", "DATA:,.jpg", "~root.jpg", "~tilde.jpg", "a:b.jpg", "x::y.jpg"]
    names += ["~root/in.jpg", "http:/x.jpg", "file:/x.jpg", "%41.jpg", "q?#.jpg", " .jpg"]
    files = [
        *map(os.fsencode, names),
        b"caf\xe9.jpg",
        b"caf\xe8.jpg",
        b"\xff/in.jpg",
        b"\xff/~.jpg",
    ]
    for number, name in enumerate(files):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(number))
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "terminal.png").symlink_to("/dev/ptmx")
    manifest = open_manifest(ManifestSettings(path=str(tmp_path)))
    values = [row.image for batch in manifest.batches() for row in batch]
    got = codes(values, manifest.folder)
    assert sorted(got) == sorted(f"ok {n}" for n in range(len(files)))


def test_a_tilde_that_is_nobodys_home_is_a_name(folder: Path) -> None:
    (folder / "~1.jpg").write_bytes(picture(1))
    (folder / "~nobody-here").mkdir()
    (folder / "~nobody-here/2.jpg").write_bytes(picture(2))
    assert codes(["~1.jpg", "~nobody-here/2.jpg", "file://[x/1.jpg"], folder) == [
        "ok 1",
        "ok 2",
        "bad_uri",
    ]


def test_files_that_cannot_be_read_have_codes(folder: Path) -> None:
    """Missing, a folder, a pipe (not waited for), too large, another host."""
    os.mkfifo(folder / "pipe")
    with (folder / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (folder / "empty").touch()
    values = [
        "no.jpg",
        ".",
        "pipe",
        "large",
        "empty",
        "file://host/etc/passwd",
        "/dev/zero",
        "~nobody-here/x",
    ]
    assert codes(values, folder) == [
        "missing_file",
        "missing_file",
        "missing_file",
        "too_large",
        "corrupt",
        "bad_uri",
        "missing_file",
        "missing_file",
    ]


def test_bytes_and_structs_are_taken_as_they_are(folder: Path) -> None:
    """What Hugging Face writes: {bytes, path}, either of them null."""
    values = [
        picture(1),
        {"bytes": picture(2), "path": "no.jpg"},
        {"bytes": None, "path": "3.jpg"},
        {"bytes": b"", "path": "4.jpg"},
        {"bytes": None, "path": None},
        {},
        "",
        None,
    ]
    assert codes(values, folder) == ["ok 1", "ok 2", "ok 3", "ok 4"] + ["bad_uri"] * 4


def test_data_uris_are_decoded() -> None:
    """base64 only, also URL-encoded; up to 20 MB of picture."""
    text = base64.b64encode(picture(1)).decode()
    values = [
        f"data:image/jpeg;base64,{text}",
        f"DATA:;BASE64,{quote(text, safe='')}",
        "data:image/svg+xml,<svg/>",
        "data:image/jpeg;base64",
        "data:image/jpeg;base64,???",
        "data:;base64," + "A" * 28_000_000,
    ]
    assert codes(values) == ["ok 1", "ok 1", "bad_uri", "bad_uri", "bad_uri", "too_large"]


DATA = base64.b64encode(picture(1)).decode()
#: A data URI as people's tools leave it.
SPELLED = {
    "a blank behind the comma": f"data:image/jpeg;base64, {DATA}",
    "lines": "data:image/jpeg;base64,\n" + textwrap.fill(DATA, 76),
    "lines joined by blanks": "data:image/jpeg;base64,"
    + textwrap.fill(DATA, 64).replace("\n", " "),
    "pluses that a form made blanks": "data:image/jpeg;base64," + DATA.replace("+", " "),
    "the alphabet of URLs, no padding": "data:image/jpeg;base64,"
    + DATA.translate(str.maketrans("+/", "-_")).rstrip("="),
    "a parameter": f"data:image/jpeg;charset=utf-8;BASE64,{DATA}",
    "blanks in the head": f"data:image/jpeg; base64 ,{DATA}",
}


@pytest.mark.parametrize("how", SPELLED)
def test_data_uris_are_read_in_every_spelling(how: str) -> None:
    """The picture is in hand, whatever a strict reader says."""
    assert "+" in DATA
    assert codes([SPELLED[how]]) == ["ok 1"]


def test_packages_are_read_when_the_job_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found, not imported: no code of the package runs."""
    package = tmp_path / "made_package"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "1.jpg").write_bytes(picture(1))
    monkeypatch.syspath_prepend(str(tmp_path))
    values = [
        "package://made_package/data/1.jpg",
        "package://made_package/data/2.jpg",
        "package://made_package/data",
        "package://made_package/../secret",
        "package://made_package/",
        "package://os/x",
        "package://not_installed_here/x",
    ]
    found = codes(values, packages=["made_package", "not_installed_here"])
    assert found == [
        "ok 1",
        "missing_file",
        "missing_file",
        "bad_uri",
        "bad_uri",
        "blocked_address",
        "missing_file",
    ]
    assert "made_package" not in sys.modules


def test_object_stores_are_read_through_fsspec() -> None:
    """memory:// stands for all of them; chains are no way around the guard."""
    store = fsspec.filesystem("memory")
    store.pipe("/bucket/a/1.jpg", picture(1))
    store.pipe("/bucket/large", bytes(MAX_BYTES + 1))
    values = [
        "memory://bucket/a/1.jpg",
        "memory://bucket/a/2.jpg",
        "memory://bucket/large",
        "memory://bucket/a::http://127.0.0.1/x",
        "filecache::memory://bucket/a/1.jpg",
        "ftp://host/1.jpg",
        "local:///etc/passwd",
    ]
    assert codes(values) == [
        "ok 1",
        "missing_file",
        "too_large",
        "missing_file",
        "bad_uri",
        "bad_uri",
        "bad_uri",
    ]


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://b/k", "s3fs", "s3"),
        ("gs://b/k", "gcsfs", "gcs"),
        ("hf://datasets/a/b/c", "huggingface_hub", "hf"),
    ],
)
def test_a_missing_driver_is_named_with_its_extra(
    url: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what to install."""
    from pipeline.errors import ImageError
    from pipeline.images.sources.remote import from_remote

    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.hf_file_system", None)
    # fsspec keeps the drivers that it has loaded once.
    loaded = sys.modules["fsspec.registry"]._registry  # type: ignore[attr-defined]
    monkeypatch.delitem(loaded, url.partition(":")[0], raising=False)
    with pytest.raises(ImageError, match=rf"caption-pipeline\[{extra}\]") as caught:
        from_remote(url, base.Places(root=None))
    assert caught.value.code == "bad_uri"
    assert "\n" not in caught.value.message


def shard(path: Path, numbers: range, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for n in numbers:
            for name, data in ((f"set/{n:03d}.jpg", picture(n)), (f"set/{n:03d}.txt", b"words")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("mode", "ending"), [("w", "tar"), ("w:gz", "tar.gz"), ("w:xz", "tar.xz"), ("w:bz2", "tar.bz2")]
)
def test_rows_of_a_webdataset_manifest_can_be_loaded(
    mode: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the manifest reader makes of a shard is what the loader reads, in any order."""
    shard(tmp_path / f"one.{ending}", range(10), mode)
    shard(tmp_path / f"two.{ending}", range(10, 20), mode)
    monkeypatch.chdir(tmp_path)
    for path in (str(tmp_path / f"*.{ending}"), f"*.{ending}"):
        manifest = open_manifest(ManifestSettings(path=path))
        values = [row.image for batch in manifest.batches() for row in batch]
        assert len(values) == 20
        wanted = [f"ok {n}" for n in range(20)]
        assert codes(values, manifest.folder) == wanted
        assert codes(values[::-1], manifest.folder) == wanted[::-1]


def test_members_of_shards_in_a_store_and_below_the_root(tmp_path: Path) -> None:
    """A remote shard is read by ranges; a relative one is looked for below the root, too."""
    path = shard(tmp_path / "x.tar", range(3))
    fsspec.filesystem("memory").pipe("/shards/x.tar", path.read_bytes())
    values = ["tar://set/001.jpg::memory://shards/x.tar", "tar://set/002.jpg::x.tar"]
    assert codes(values, tmp_path) == ["ok 1", "ok 2"]


def test_more_shards_than_stay_open(tmp_path: Path) -> None:
    """Eight shards read criss-cross: closed and opened again, every member right."""
    paths = [shard(tmp_path / f"{n}.tar", range(3 * n, 3 * n + 3)) for n in range(8)]
    values = [f"tar://set/{3 * n + k:03d}.jpg::{paths[n]}" for k in range(3) for n in range(8)]
    assert codes(values) == [f"ok {3 * n + k}" for k in range(3) for n in range(8)]


def test_troubles_of_shards_have_codes(tmp_path: Path) -> None:
    """No such member, no such shard, not a tar, cut inside a member, and what is not fetched."""
    good = shard(tmp_path / "good.tar", range(3))
    (tmp_path / "not.tar").write_bytes(b"hello" * 1000)
    (tmp_path / "cut.tar").write_bytes(good.read_bytes()[: 512 + 200])
    (tmp_path / "cut.tar.gz").write_bytes(
        shard(tmp_path / "g.tar.gz", range(3), "w:gz").read_bytes()[:300]
    )
    values = [
        "tar://no.jpg::good.tar",
        "tar://a::no.tar",
        "tar://a::not.tar",
        "tar://a::cut.tar.gz",
        "tar://set/000.jpg::cut.tar",
        "tar://a::http://127.0.0.1/x.tar",
        "tar://a",
        "tar://::x",
        "tar://set/000.txt::good.tar",
    ]
    assert codes(values, tmp_path) == [
        "missing_file",
        "missing_file",
        "corrupt",
        "corrupt",
        "corrupt",
        "bad_uri",
        "bad_uri",
        "bad_uri",
        "unsupported_format",
    ]


def test_a_shard_is_scanned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many members are read, by however many at once."""
    from pipeline.images.sources import shards

    scans: list[str] = []
    real: Callable[..., Any] = shards._opened

    def counted(name: str, places: Any) -> Any:
        scans.append(name)
        return real(name, places)

    monkeypatch.setattr(shards, "_opened", counted)
    path = shard(tmp_path / "x.tar", range(20))
    assert codes([f"tar://set/{n:03d}.jpg::{path}" for n in range(20)])[7] == "ok 7"
    assert scans == [str(path)]


@pytest.mark.parametrize("how", ["in place", "replaced", "packed", "in a store"])
def test_a_shard_that_is_written_anew_gives_no_other_members_bytes(
    how: str, tmp_path: Path
) -> None:
    """By the index of before, a member would be what now stands in its place."""
    name, mode = ("x.tar.gz", "w:gz") if how == "packed" else ("x.tar", "w")
    path = tmp_path / name
    before = shard(path, range(4), mode).read_bytes()
    after = shard(path, range(3, -1, -1), mode).read_bytes()
    store, value = fsspec.filesystem("memory"), f"tar://set/000.jpg::{path}"

    def write(data: bytes) -> None:
        if how == "in a store":
            if not written:
                store.pipe("/anew/x.tar", b"")
            object_ = store.store["/anew/x.tar"]  # whoever has it open reads what is new
            object_.seek(0)
            object_.write(data)
        elif how == "replaced":
            (tmp_path / "new").write_bytes(data)
            (tmp_path / "new").replace(path)
        else:
            path.write_bytes(data)
        os.utime(path, ns=(len(written), len(written)))  # ticks are longer than this test
        written.append(data)

    written: list[bytes] = []
    if how == "in a store":
        value = "tar://set/000.jpg::memory://anew/x.tar"
    write(before)
    opened = Shards()
    places = Places(root=tmp_path, shards=opened)
    assert from_tar(value, places) == picture(0)
    write(after)
    assert from_tar(value, places) == picture(0)
    write(after[:700] if how == "in place" else before)
    if how == "in place":
        with pytest.raises(ImageError) as caught:  # not all of it is written yet
            from_tar(value, places)
        assert caught.value.code in ("missing_file", "corrupt")
        write(before)
    assert from_tar(value, places) == picture(0)
    opened.close()
