"""Failed images by name: `failures.csv`, `status --failed`, the last line; and the first captions."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv

from tests.support.command import pipeline, simulator, write_job
from tests.support.pictures import picture


def test_failed_images_are_named(tmp_path: Path) -> None:
    """In the file, by the command, in the last line; nobody is left in the file when they are
    mended."""
    images, listed = tmp_path / "images", tmp_path / "out/failures.csv"
    images.mkdir()
    broken = [images / "=1+1.jpg", images / "empty.jpg"]
    for number in range(5):
        (images / f"{number}.jpg").write_bytes(picture(number))
    for path in broken:
        path.write_bytes(b"")
    env = {"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}
    with simulator(tmp_path, "rpm=null") as server:
        job = write_job(tmp_path, server.base, images)
        ended = pipeline("run", job, env=env)

        assert ended.code == 1
        assert f"2 failed (corrupt 2), named in {listed}" in ended.err
        assert ended.err.count(".jpg: A") == 3, "the first three captions are shown"
        rows = pyarrow.csv.read_csv(listed).to_pylist()
        assert {row["image"] for row in rows} == {"'=1+1.jpg", "empty.jpg"}
        assert {(row["error_code"], row["attempts"]) for row in rows} == {("corrupt", 0)}
        shown = pipeline("status", job, "--failed", env=env).out.splitlines()
        assert [line.split()[:2] for line in sorted(shown)] == [
            ["corrupt", "=1+1.jpg"],
            ["corrupt", "empty.jpg"],
        ]
        named = pipeline("status", job, "--failed", "--json", env=env).summary["failed"]
        assert {row["image"] for row in named} == {path.name for path in broken}

        for number, path in enumerate(broken, 5):
            path.write_bytes(picture(number))
        again = pipeline("run", job, "--retry", "corrupt", env=env)

    assert again.code == 0
    assert pyarrow.csv.read_csv(listed).num_rows == 0
    assert "7 captions, 0 failures, 7 requests, $0 in" in pipeline("status", job, env=env).out
