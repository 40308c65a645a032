"""Small joins in Python and large ones in SQL say the same, row by row."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.errors import JobError, ManifestError
from pipeline.manifest.open import Manifest, open_manifest
from pipeline.manifest.settings import ManifestSettings
from pipeline.manifest.sql import left
from pipeline.plan.prompt import compile_prompt
from pipeline.plan.settings import PromptSettings
from pipeline.records import Record
from pipeline.stories import dataset
from pipeline.stories.dataset import joined, write_dataset
from pipeline.stories.keys import keyed
from pipeline.stories.survey import Naming, survey

SIGNED = "https://b.s3.amazonaws.com/k.jpg?v=1&X-Amz-Algorithm=A&X-Amz-Credential={0}&X-Amz-Date={0}&X-Amz-Signature={0}"
#: Cells that are hard on keys: signatures, fragments, blanks, quotes, other scripts, bad ones.
IMAGES = [
    "https://x.example/a.jpg", "https://x.example/a.jpg?x=1#f?y", SIGNED.format("1"),
    SIGNED.format("2"), "https://x.example/a.jpg", "dir/it's \"b\".png", " c.png ", "猫/ä.png",
    "data:image/png;base64,AAAA", "DATA:image/png;base64,AAAA", None, "", "  ", "x" * 9_000,
    "https://x.example/" + "y" * 8_200, "package://p/q.png", "c:/d.png", "https://x.example/a.jpg#f",
]  # fmt: skip
TITLES = ["one", None, "", "it's {odd}", "zwei\nZeilen", "猫", "one"]


def _manifest(folder: Path, where: str | None = None, copies: int = 30) -> Manifest:
    """Every image with every title, over two files of several row groups."""
    cells = [(image, title) for _ in range(copies) for image in IMAGES for title in TITLES]
    size = len(cells)
    table = pa.table(
        {
            "n": pa.array(range(size), pa.int16()) if size < 30_000 else list(range(size)),
            "image_url": [image for image, _ in cells],
            "title": [title for _, title in cells],
            "flag": [i % 3 == 0 if i % 5 else None for i in range(size)],
            "score": [i % 4 / 8 for i in range(size)],
            "status": ["mine"] * size,
        }
    )
    half = size // 2
    pq.write_table(table.slice(0, half), folder / "m-0.parquet", row_group_size=500)
    pq.write_table(table.slice(half), folder / "m-1.parquet", row_group_size=700)
    return open_manifest(
        ManifestSettings(path=str(folder / "m-*.parquet"), where=where),
        columns=("title", "flag", "score"),
    )


NAMING = Naming(
    recipe="0123456789abcdef",
    prompt=compile_prompt(PromptSettings(text="It's {{x}} {title}, {flag} {score} {title}.")),
    system=None,
    identity="auto",
)


def _settle(output: Path, manifest: Manifest, naming: Naming) -> dict[str, Record]:
    """Records for two thirds of the keys, some of them failed."""
    keys = dict.fromkeys(naming.key(row) for batch in manifest.batches() for row in batch)
    records = {}
    for i, key in enumerate(keys):
        if i % 3:
            records[key] = Record(
                key=key, recipe=naming.recipe, id=None, image="x", status="ok" if i % 2 else "failed",
                caption=f"caption {i}" if i % 2 else None, error_code=None if i % 2 else "dns",
                flags=("a", "b") if i % 5 == 0 else (), finished_at=1_700_000_000_000_000 + i,
            )  # fmt: skip
    for folder, status in (("captions", "ok"), ("failures", "failed")):
        (output / folder).mkdir(parents=True)
        some = [r for r in records.values() if r.status == status]
        for part in range(0, len(some), 97):
            table = schema.records_table(some[part : part + 97])
            pq.write_table(table, output / folder / f"{part:08d}.parquet")
    return records


@pytest.mark.parametrize("where", [None, "n % 3 <> 1 AND title IS NOT NULL"])
def test_sql_and_python_join_alike(
    where: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row, in order, with the record of its own key and no other; clashes renamed."""
    manifest = _manifest(tmp_path, where)
    records = _settle(tmp_path / "out", manifest, NAMING)

    small = pa.Table.from_batches(joined(manifest, NAMING, tmp_path / "out"))
    monkeypatch.setattr(dataset, "FEW", 0)
    large = pa.Table.from_batches(joined(manifest, NAMING, tmp_path / "out"))

    rows = [row for batch in manifest.batches() for row in batch]
    expected = [records.get(NAMING.key(row)) for row in rows]
    assert large.equals(small)
    monkeypatch.setattr(dataset, "FEW", 10**6)
    monkeypatch.setattr(dataset, "LOOK_UP", 100)
    keys = b"".join(NAMING.raw(row) for row in rows)
    assert pa.Table.from_batches(joined(manifest, NAMING, tmp_path / "out", keys=keys)) == small
    assert small.column("image_url").to_pylist() == [row.image for row in rows]
    assert small.column("caption").to_pylist() == [r and r.caption for r in expected]
    assert small.column("caption_status").to_pylist() == [r and r.status for r in expected]
    assert small.column("status").to_pylist() == ["mine"] * len(rows)
    assert small.column("key").to_pylist() == [r and r.key for r in expected]
    assert small.column("flags").to_pylist() == [r and list(r.flags) for r in expected]
    assert not list((tmp_path / "out" / "_state" / "scratch").iterdir())


@pytest.mark.parametrize("where", [None, "n % 3 <> 1 AND title IS NOT NULL"])
@pytest.mark.parametrize("again", [None, "error_code = 'dns' AND len(flags) = 2"])
def test_sql_and_python_find_the_same_left(
    where: str | None, again: str | None, tmp_path: Path
) -> None:
    """`left` gives the survey's numbers and its very bits."""
    manifest = _manifest(tmp_path, where)
    records = _settle(tmp_path / "out", manifest, NAMING)
    anew = {
        key for key, r in records.items() if again and r.status == "failed" and len(r.flags) == 2
    }

    def state(key: str) -> str | None:
        record = records.get(key)
        return record and (record.error_code or "ok")

    expected = survey(manifest.batches(), NAMING, state=state, again=lambda key, _: key in anew)
    many = keyed(manifest, NAMING, tmp_path / "out")
    assert many is not None
    found = left(many, again=again)

    assert bool(anew) == (again is not None)
    assert found.ask == bytes(expected.ask)
    assert (found.rows, found.images, found.captioned, found.failed, found.asked) == (
        expected.rows, expected.images, expected.captioned, expected.failed, expected.asked,
    )  # fmt: skip


def test_keys_by_column_agree(tmp_path: Path) -> None:
    """`identity: column:NAME` names images by that column, on both sides."""
    table = pa.table({"url": ["a.jpg", "b.jpg", "c.jpg", None], "n": [1, 1, None, 4]})
    pq.write_table(table, tmp_path / "a.parquet")
    manifest = open_manifest(ManifestSettings(path=str(tmp_path / "a.parquet")), columns=("n",))
    naming = dataclasses.replace(
        NAMING, prompt=compile_prompt(PromptSettings(text="What?")), identity="column:n"
    )
    many = keyed(manifest, naming, tmp_path / "out")
    assert many is not None

    found = left(many)

    assert (found.rows, found.images, found.asked) == (4, 3, 3)
    assert found.ask == bytes([0b1101])


def test_an_empty_manifest_has_nothing_left(tmp_path: Path) -> None:
    """No rows, no records: no bits."""
    (tmp_path / "a.csv").write_text("url,title,flag,score\n")
    manifest = open_manifest(
        ManifestSettings(path=str(tmp_path / "a.csv")), columns=("title", "flag", "score")
    )
    many = keyed(manifest, NAMING, tmp_path / "out")
    assert many is not None

    found = left(many)

    assert (found.rows, found.images, found.asked, found.ask, found.failed) == (0, 0, 0, b"", {})


def test_images_known_by_their_bytes_stay_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bytes column has no keys in SQL; the join still works, at any size."""
    cells = [b"\x89PNG" + bytes([i]) for i in range(7)]
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    manifest = open_manifest(ManifestSettings(path=str(tmp_path / "a.parquet")))
    naming = dataclasses.replace(NAMING, prompt=compile_prompt(PromptSettings(text="What?")))
    monkeypatch.setattr(dataset, "FEW", 0)
    monkeypatch.setattr(dataset, "LOOK_UP", 3)
    records = _settle(tmp_path / "out", manifest, naming)

    table = pa.Table.from_batches(joined(manifest, naming, tmp_path / "out"))

    assert keyed(manifest, naming, tmp_path / "out") is None
    assert table.num_rows == 7
    assert sum(c is not None for c in table.column("status").to_pylist()) == len(records)


def test_the_dataset_file_is_whole_or_absent(tmp_path: Path) -> None:
    """Written aside and renamed; no temporary file stays."""
    manifest = _manifest(tmp_path, copies=1)
    _settle(tmp_path / "out", manifest, NAMING)

    path = write_dataset(tmp_path / "out", manifest, NAMING)

    assert pq.read_metadata(path).num_rows == len(IMAGES) * len(TITLES)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "captions", "dataset.parquet", "failures",
    ]  # fmt: skip


def test_trouble_in_the_child_is_one_line_here(tmp_path: Path) -> None:
    """A manifest that is gone, a row that breaks the predicate: the same errors as in-process."""
    path = tmp_path / "a.csv"
    path.write_text("url,width,title,flag,score\na.jpg,1,,,\nb.jpg,wide,,,\n")
    manifest = open_manifest(
        ManifestSettings(path=str(path), where="CAST(width AS INT) = 1"),
        columns=("title", "flag", "score"),
    )
    many = keyed(manifest, NAMING, tmp_path / "out")
    assert many is not None

    with pytest.raises(JobError, match="'wide'"):
        left(many)
    path.unlink()
    with pytest.raises(ManifestError, match="no such file"):
        left(many)
