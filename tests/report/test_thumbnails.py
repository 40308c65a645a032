"""Thumbnails: small enough, of the right pictures, and never in the way of a run."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from PIL import Image

from pipeline.images.thumbnail import thumbnail
from pipeline.store.thumbnails import NAME, Thumbnails, read_thumbnails
from tests.support.command import pipeline
from tests.support.outputs import key_of, record, write_output
from tests.support.pictures import folder_of


def noise(width: int, height: int) -> bytes:
    """A picture that compresses badly."""
    into = io.BytesIO()
    pixels = random.Random(1).randbytes(width * height * 3)
    Image.frombytes("RGB", (width, height), pixels).save(into, "JPEG", quality=85)
    return into.getvalue()


@pytest.mark.parametrize("limit", [12_000, 4_000, 2_000, 1_200])
def test_a_thumbnail_keeps_its_limit(limit: int) -> None:
    """Even noise fits, as a smaller picture of the same shape."""
    made = thumbnail(noise(768, 512), limit)

    assert len(made) <= limit
    with Image.open(io.BytesIO(made)) as small:
        assert small.format == "WEBP"
        assert abs(small.width / small.height - 1.5) < 0.05


def test_the_smallest_keys_stay(tmp_path: Path) -> None:
    """At most so many, those with the smallest keys, over several runs and in any order."""
    keys = [key_of(at) for at in range(40)]
    (state := tmp_path / "_state").mkdir()
    for some in (keys[:25], keys[25:]):
        keeper = Thumbnails(state, most=10)
        for key in some:
            if keeper.wants(key):
                keeper.put(key, key.encode())
        keeper.close()

    assert read_thumbnails(tmp_path, keys) == {key: key.encode() for key in sorted(keys)[:10]}


def test_a_damaged_file_is_no_trouble(tmp_path: Path) -> None:
    """Thumbnails are a convenience: what does not read is not there."""
    (state := tmp_path / "_state").mkdir()
    (state / NAME).write_bytes(b"nonsense" * 1000)
    keeper = Thumbnails(state)

    assert not keeper.wants(key_of(1))
    keeper.close()
    assert read_thumbnails(tmp_path, [key_of(1)]) == {}


def test_a_report_shows_what_was_sent(tmp_path: Path) -> None:
    """The pictures are gone after the run, the report has them all the same; written twice, the
    gallery is the same."""
    images = folder_of(tmp_path, 5, 300)
    job = tmp_path / "job.yaml"
    job.write_text(
        f"manifest: {{path: {images}}}\noutput: {{path: {tmp_path}/out}}\n"
        "endpoint: {profile: embedded, model: embedded/pixels}\n"
    )
    assert pipeline("run", job).code == 0
    for path in (tmp_path / "images").iterdir():
        path.unlink()

    done = pipeline("report", job)

    assert done.code == 0, done.err
    assert "5 of 5 images shown, 5 with a picture" in done.out
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/webp") == 5


def test_local_pictures_are_read_again(tmp_path: Path) -> None:
    """An output without thumbnails: files are read, addresses are not asked."""
    (tmp_path / "a.jpg").write_bytes(noise(300, 200))
    records = [record(0, image="a.jpg"), record(1), record(2, image="gone.jpg")]
    job = write_output(tmp_path, records)

    done = pipeline("report", job, tmp_path / "page.html")

    assert done.code == 0, done.err
    assert "3 of 3 images shown, 1 with a picture" in done.out


def test_where_a_report_cannot_be(tmp_path: Path) -> None:
    """No output yet, a folder that is not there: one line and 73. A folder gets the usual name."""
    job = write_output(tmp_path, [record(0)])
    nothing = pipeline("report", job, "--set", f"output.path={tmp_path}/none")
    assert (nothing.code, "run the job first" in nothing.err) == (73, True)
    nowhere = pipeline("report", job, tmp_path / "none" / "page.html")
    assert (nowhere.code, "cannot be written" in nowhere.err) == (73, True)
    (tmp_path / "pages").mkdir()
    assert pipeline("report", job, tmp_path / "pages").code == 0
    assert (tmp_path / "pages" / "report.html").exists()
