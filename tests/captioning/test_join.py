"""Rows and their records, joined; and which rows are asked."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import schema
from pipeline.captioning import join as dataset
from pipeline.captioning.join import joined, write_dataset
from pipeline.captioning.naming import NamedPrompt, Naming
from pipeline.captioning.prompt import compile_prompt
from pipeline.captioning.select import Selector
from pipeline.manifest.open import Manifest, open_manifest
from pipeline.manifest.settings import ManifestSettings
from pipeline.model import Record
from pipeline.store import parts
from pipeline.store import record_index as lookup

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
    prompts=(
        NamedPrompt(
            recipe="0123456789abcdef",
            template=compile_prompt("It's {{x}} {title}, {flag} {score} {title}."),
        ),
    ),
    system=None,
    identity="auto",
)
ONE_PROMPT = dataclasses.replace(
    NAMING, prompts=(NamedPrompt(recipe=NAMING.recipe, template=compile_prompt("What?")),)
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
def test_every_row_has_the_record_of_its_own_key(
    where: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row, in order, with the record of its own key and no other; clashes renamed. The same
    however few parts are read and kept at once."""
    manifest = _manifest(tmp_path, where)
    records = _settle(tmp_path / "out", manifest, NAMING)

    found = pa.Table.from_batches(joined(manifest, NAMING, tmp_path / "out"))

    rows = [row for batch in manifest.batches() for row in batch]
    expected = [records.get(NAMING.key(row)) for row in rows]
    assert found.column("image_url").to_pylist() == [row.image for row in rows]
    assert found.column("caption").to_pylist() == [r and r.caption for r in expected]
    assert found.column("status_new").to_pylist() == [r and r.status for r in expected]
    assert found.column("status").to_pylist() == ["mine"] * len(rows)
    assert found.column("key").to_pylist() == [r and r.key for r in expected]
    assert found.column("flags").to_pylist() == [r and list(r.flags) for r in expected]
    monkeypatch.setattr("pipeline.manifest.open.TABLE_ROWS", 100)
    monkeypatch.setattr(lookup, "HANDED", 30)
    for group, most in ((1, 1), (200, 1), (200, 10**6)):
        monkeypatch.setattr(lookup, "GROUP", group)
        monkeypatch.setattr(lookup, "KEYS_A_GROUP", most)
        again = pa.Table.from_batches(joined(manifest, NAMING, tmp_path / "out"))
        assert again == found


def _shuffled(
    folder: Path, size: int, parts: int, *, near: int | None = None
) -> tuple[list[bytes], Path]:
    """Keys, and their records in `parts` parts in an order of their own, or each about `near`
    places from its own."""
    rng = random.Random(5)
    keys = [rng.randbytes(16) for _ in range(size)]
    (folder / "captions").mkdir(parents=True)
    order = rng.sample(keys, size)
    if near is not None:
        places = sorted(range(size), key=lambda at: at + rng.uniform(0, near))
        order = [keys[at] for at in places]
    each = size // parts
    for number in range(parts):
        some = [
            Record(key=key.hex(), recipe="r", id=None, image="x", caption=f"of {key.hex()}", status="ok")
            for key in order[number * each : (number + 1) * each]
        ]  # fmt: skip
        path = folder / "captions" / f"part-{number:08d}.parquet"
        pq.write_table(schema.records_table(some), path)
    return keys, folder


def test_parts_in_another_order_are_read_a_bounded_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that was shuffled since touches every part with every slice of keys."""
    monkeypatch.setattr(lookup, "GROUP", 100)
    keys, output = _shuffled(tmp_path / "out", 20_000, 200)
    found = lookup.RecordLookup(output, ["caption"])
    read: list[Path] = []

    def counted(path: Path, columns: list[str]) -> pa.Table:
        read.append(path)
        return parts.read_part(path, columns)

    monkeypatch.setattr(lookup, "read_part", counted)
    slices = (b"".join(keys[at : at + 50]) for at in range(0, len(keys), 50))
    captions = [c for batch in found.records(slices) for c in batch.column(0).to_pylist()]

    assert captions == [f"of {key.hex()}" for key in keys]
    assert len(read) <= (lookup.PASSES + 1) * 200


def test_parts_nearly_in_order_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run leaves them, answers overtaking each other: no index is made, nothing read twice;
    a key without a record changes that, and nothing else."""
    monkeypatch.setattr(lookup, "GROUP", 100)
    keys, output = _shuffled(tmp_path / "out", 10_000, 100, near=60)
    read: list[Path] = []

    def counted(path: Path, columns: list[str]) -> pa.Table:
        read.append(path)
        return parts.read_part(path, columns)

    monkeypatch.setattr(lookup, "read_part", counted)
    for asked, most in ((keys, 100), ([*keys[:5_000], bytes(16), *keys[5_000:]], 400)):
        read.clear()
        slices = (b"".join(asked[at : at + 70]) for at in range(0, len(asked), 70))
        batches = lookup.RecordLookup(output, ["caption"]).records(slices)
        captions = [c for batch in batches for c in batch.column(0).to_pylist()]
        assert captions == [f"of {key.hex()}" if key != bytes(16) else None for key in asked]
        assert len(read) <= most


def test_a_key_that_stands_in_two_parts_moves_no_other_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an output does not verify, but no caption may land on another image for it."""
    monkeypatch.setattr(lookup, "GROUP", 10)
    keys, output = _shuffled(tmp_path / "out", 30, 3, near=0)
    twice = pq.read_table(output / "captions" / "part-00000000.parquet").slice(3, 1)
    pq.write_table(twice, output / "captions" / "part-00000000b.parquet")
    asked = [*keys[:9], bytes(16)]

    found = lookup.RecordLookup(output, ["caption"]).records([b"".join(asked)])
    captions = [c for batch in found for c in batch.column(0).to_pylist()]

    assert captions == [f"of {key.hex()}" if key != bytes(16) else None for key in asked]


@pytest.mark.parametrize("numbers", [1 << 16, 70_000])
def test_the_index_tells_every_number(numbers: int) -> None:
    """The last one that may be given too, whatever it takes to keep it."""
    index, keys = lookup.Index(numbers), [bytes([at]) * 16 for at in range(200)]
    for at, key in enumerate(keys):
        index.add(key, numbers - 1 - at)
    index.sort()

    found = index.find(b"".join([*keys, b"\xff" * 16]))

    assert found == [*((numbers - 1 - at,) for at in range(200)), ()]


def test_keys_that_are_alike_have_their_own_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys with the same first half, in parts far from each other, settled and not."""
    monkeypatch.setattr(lookup, "GROUP", 1)
    keys = [bytes([first]) * 8 + bytes([last]) * 8 for last in range(6) for first in range(3)]
    for number, key in enumerate(keys[:-3]):
        record = Record(
            key=key.hex(), recipe="r", id=None, image="x", caption=key.hex(), status="ok"
        )
        folder = tmp_path / "captions"
        folder.mkdir(exist_ok=True)
        pq.write_table(schema.records_table([record]), folder / f"part-{number:08d}.parquet")

    found = lookup.RecordLookup(tmp_path, ["caption"])
    captions = [c for batch in found.records([b"".join(keys)]) for c in batch[0].to_pylist()]

    assert captions == [*(key.hex() for key in keys[:-3]), None, None, None]


def test_parts_in_order_are_read_twice_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run leaves them: keys near each other stand in one part or two."""
    monkeypatch.setattr(lookup, "GROUP", 100)
    manifest = _manifest(tmp_path, copies=1)
    records = list(_settle(tmp_path / "out", manifest, NAMING))
    found = lookup.RecordLookup(tmp_path / "out", ["key"])
    read: list[Path] = []

    def counted(path: Path, columns: list[str]) -> pa.Table:
        read.append(path)
        return parts.read_part(path, columns)

    monkeypatch.setattr(lookup, "read_part", counted)
    slices = (bytes.fromhex("".join(records[at : at + 30])) for at in range(0, len(records), 30))
    keys = [key for batch in found.records(slices) for key in batch.column(0).to_pylist()]

    assert keys == records
    assert all(read.count(path) <= 2 for path in read)


def test_rows_with_one_key_are_chosen_once(tmp_path: Path) -> None:
    """The first row of each key without a record, and of those that are to be asked again."""
    manifest = _manifest(tmp_path)
    records = _settle(tmp_path / "out", manifest, NAMING)
    keys = list(dict.fromkeys(NAMING.key(row) for rows in manifest.batches() for row in rows))

    def state(key: str) -> str | None:
        record = records.get(key)
        return record and (record.error_code or "ok")

    selector = Selector(NAMING, state, lambda _key, known: known == "dns")
    named = selector.named(manifest.batches())
    chosen = [one for rows in named for one in selector.choose(rows)]

    expected = [key for key in keys if state(key) in (None, "dns")]
    assert [raw.hex() for _, raw in chosen] == expected
    assert [NAMING.key(row) for row, _ in chosen] == expected
    counts = selector.counts
    assert (counts.rows, counts.images, counts.asked) == (manifest.rows, len(keys), len(expected))
    assert counts.captioned == sum(r.status == "ok" for r in records.values())
    assert counts.failed == {"dns": sum(r.status == "failed" for r in records.values())}


def test_images_known_by_their_bytes_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bytes column is named by its bytes, handed on or not; rows do not wait for long."""
    cells = [b"\x89PNG" + bytes([i]) for i in range(7)]
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    manifest = open_manifest(ManifestSettings(path=str(tmp_path / "a.parquet")))
    naming = ONE_PROMPT
    monkeypatch.setattr(dataset, "WAITING_BYTES", 3)
    monkeypatch.setattr("pipeline.manifest.open.TABLE_ROWS", 2)
    records = _settle(tmp_path / "out", manifest, naming)

    table = pa.Table.from_batches(joined(manifest, naming, tmp_path / "out"))

    assert table.num_rows == 7
    assert sum(c is not None for c in table.column("status").to_pylist()) == len(records)


def test_the_dataset_file_is_whole_or_absent(tmp_path: Path) -> None:
    """Written aside and renamed; no temporary file stays."""
    manifest = _manifest(tmp_path, copies=1)
    _settle(tmp_path / "out", manifest, NAMING)

    path = write_dataset(tmp_path / "out", manifest, NAMING)

    assert pq.read_metadata(path).num_rows == len(IMAGES) * len(TITLES)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md", "_state", "captions", "dataset.parquet", "failures",
    ]  # fmt: skip


BASE64 = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYUGBIUFRT/wAALCAABAAEBAREA"


@pytest.mark.parametrize("names", [None, "long"])
@pytest.mark.parametrize("odd", [*IMAGES, BASE64, '["a.jpg"]', "http:x", "httpx/y.png", " https://x.example/b.jpg", "//x.example/c.jpg", "a?b.png"])  # fmt: skip
def test_keys_of_columns_are_those_of_rows(
    odd: str | None, names: str | None, tmp_path: Path
) -> None:
    """One cell or id that needs a look at its row, among plain URLs and among paths."""
    naming = ONE_PROMPT
    for number, plain in enumerate(("https://x.example/p.jpg", "p/q.jpg")):
        cells = [plain, odd, f"{plain}2"]
        ids = ["1", "2" * 9_000 if names else "2", "3"]
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image_url": cells, "id": ids}), path)
        manifest = open_manifest(
            ManifestSettings(path=str(path), image="image_url", id="id" if names else None)
        )
        rows = [row for batch in manifest.batches() for row in batch]
        output = tmp_path / f"out-{number}"
        (output / "captions").mkdir(parents=True)
        records = {
            naming.key(row): Record(key=naming.key(row), recipe="r", id=None, image="x", status="ok", caption="c")
            for row in rows
        }  # fmt: skip
        pq.write_table(schema.records_table(list(records.values())), output / "captions/a.parquet")

        for threaded in (False, True):
            joint = pa.Table.from_batches(joined(manifest, naming, output, threaded=threaded))
            assert joint["key"].to_pylist() == [naming.key(row) for row in rows]


@pytest.mark.parametrize("apart", [False, True])
def test_rows_of_one_key_cost_once(
    apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first of them, whether records are found in order or by the index; sums are right."""
    rng = random.Random(7)
    urls = [f"https://x.example/{number}.jpg" for number in range(300)]
    asked = [*urls[:250], *rng.choices(urls, k=300), *urls]
    pq.write_table(pa.table({"url": asked}), tmp_path / "m.parquet")
    manifest = open_manifest(ManifestSettings(path=str(tmp_path / "m.parquet")))
    naming = ONE_PROMPT
    keys = dict.fromkeys(naming.key(row) for batch in manifest.batches() for row in batch)
    (tmp_path / "out/captions").mkdir(parents=True)
    for part in range(3):
        stored = [
            Record(key=key, recipe="r", id=None, image="x", caption="c", status="ok", cost_usd=0.25)
            for key in list(keys)[part * 100 : part * 100 + (99 if apart else 100)]
        ]
        path = tmp_path / f"out/captions/{part}.parquet"
        pq.write_table(schema.records_table(stored), path)
    monkeypatch.setattr("pipeline.manifest.open.TABLE_ROWS", 50)
    monkeypatch.setattr(lookup, "GROUP", 1)

    table = pa.Table.from_batches(joined(manifest, naming, tmp_path / "out"))

    costs: dict[str, list[float | None]] = {}
    for key, cost in zip(table["key"].to_pylist(), table["cost_usd"].to_pylist(), strict=True):
        costs.setdefault(key, []).append(cost)
    costs.pop(None, None)
    assert len(costs) == (297 if apart else 300)
    assert all(first == 0.25 and not any(rest) for first, *rest in costs.values())
    assert {cost for _, *rest in costs.values() for cost in rest} == {None}
