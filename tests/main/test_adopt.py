"""`adopt`: captions of another machine or of a lost state are taken over by key."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.inputs import this_environment
from pipeline.commands.adopt import adopt_command
from pipeline.errors import ManifestError, OutputError, UsageError
from pipeline.schema import RECORDS
from tests.main.test_again import go, job_in
from tests.support.checker import check_whole


def adopted(job: Any, folder: Path) -> None:
    assert adopt_command(job, folder, this_environment({})) == 0


def test_the_captions_of_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it asked is not asked again, a caption takes a failure's place, and no other way."""
    job = job_in(tmp_path)
    other = job.model_copy(
        update={"output": job.output.model_copy(update={"path": str(tmp_path / "b")})}
    )
    data = (tmp_path / "images/00000.jpg").read_bytes()
    (tmp_path / "images/00000.jpg").unlink()
    assert go(job, limit=3)["requests"] == 2
    (tmp_path / "images/00000.jpg").write_bytes(data)
    go(other)
    adopted(job, tmp_path / "b")
    assert "4 images taken over, 2 known here" in capsys.readouterr().out

    ended = go(job)
    assert (ended["exit_code"], ended["captioned"], ended["requests"]) == (0, 6, 0)
    assert len(check_whole(tmp_path / "out")) == 6


def test_parts_without_their_state(tmp_path: Path) -> None:
    """Copies of captions/ alone, in any folder, also after some columns were taken out."""
    job = job_in(tmp_path)
    go(job)
    (tmp_path / "bare").mkdir()
    for part in (tmp_path / "out/captions").glob("*.parquet"):
        pq.write_table(
            pq.read_table(part).drop_columns(["error", "flags", "width"]),
            tmp_path / "bare" / part.name,
        )
    before = {key: record["caption"] for key, record in check_whole(tmp_path / "out").items()}
    shutil.rmtree(tmp_path / "out")
    adopted(job, tmp_path / "bare")

    assert go(job)["requests"] == 0
    assert {k: r["caption"] for k, r in check_whole(tmp_path / "out").items()} == before


def damaged(data: bytes, column: str) -> bytes:
    """A part with one bit of a column's values another one, which can be read all the same."""
    whole, group = pq.read_table(pa.BufferReader(data)), pq.read_metadata(pa.BufferReader(data))
    chunks = map(group.row_group(0).column, range(group.num_columns))
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    end = chunk.data_page_offset + chunk.total_compressed_size
    for at in range(end - 1, chunk.data_page_offset, -1):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with suppress(pa.ArrowException, OSError, ValueError):
            if pq.read_table(pa.BufferReader(changed)) != whole:
                return changed
    raise AssertionError(column)


@pytest.mark.parametrize("column", ["key", "image", "caption", "finished_at"])
def test_a_damaged_part_is_not_taken_over(tmp_path: Path, column: str) -> None:
    """One bit in the values of a column: no journal knows the part, but its pages have checksums."""
    job = job_in(tmp_path)
    go(job)
    (part,) = (tmp_path / "out/captions").glob("*.parquet")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/a.parquet").write_bytes(damaged(part.read_bytes(), column))
    shutil.rmtree(tmp_path / "out")

    with pytest.raises(OutputError, match=r"a\.parquet: this part cannot be read"):
        adopted(job, tmp_path / "bare")


def test_what_is_no_record_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A caption without text, an unknown code, a key that is none."""
    row = {"key": "0" * 32, "recipe": "f" * 16, "image": "url:a", "status": "ok", "caption": ""}
    rows = [row, {**row, "key": "x"}, {**row, "status": "failed", "error_code": "odd"}]
    good = {**row, "key": "1" * 32, "caption": "A cat."}
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.Table.from_pylist([*rows, good], schema=RECORDS), tmp_path / "rows/a.parquet")
    adopted(job_in(tmp_path), tmp_path / "rows")

    assert "1 image taken over, 3 rows left out: no record" in capsys.readouterr().out


def test_nothing_to_adopt(tmp_path: Path) -> None:
    """An empty folder, a table of something else, the output itself: one line each."""
    job = job_in(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="no captions"):
        adopted(job, tmp_path / "empty")
    pq.write_table(pa.table({"url": ["a"]}), tmp_path / "empty/a.parquet")
    with pytest.raises(ManifestError, match="column 'image' is missing"):
        adopted(job, tmp_path / "empty")
    with pytest.raises(UsageError, match="verify --repair"):
        adopted(job, tmp_path / "out")
