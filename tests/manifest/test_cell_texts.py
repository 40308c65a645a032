"""One text for each type of cell: as the id, in a prompt, and in an export by the real command."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.captioning.prompt import as_text
from tests.manifest.made import opened, rows_of
from tests.support.command import pipeline

_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
_TENSOR = pa.fixed_shape_tensor(pa.float32(), [2])
_DAY = 86_400_000
#: Every type that Parquet can store, by one value and a null.
CELLS: dict[str, pa.Array] = {
    str(column.type): column
    for column in (
        pa.array(["a \u00e9", None]),
        pa.array(["a", None], pa.large_string()),
        pa.array(["a", None], pa.string_view()),
        pa.array(["a", None]).dictionary_encode(),
        pa.array([7, None], pa.int32()).dictionary_encode(),
        pa.array([b"\0\xff", None], pa.binary()),
        pa.array([b"\0\xff", None], pa.large_binary()),
        pa.array([b"\0\xff", None], pa.binary_view()),
        pa.array([b"\0\xff", None], pa.binary(2)),
        *(pa.array([1, None], kind) for kind in (pa.int8(), pa.uint16(), pa.int64())),
        pa.array([2**64 - 1, None], pa.uint64()),
        pa.array([1.5, None], pa.float16()),
        pa.array([0.1, None], pa.float32()),
        pa.array([1e300, None], pa.float64()),
        pa.array([True, None]),
        pa.array([Decimal("-1.20"), None], pa.decimal32(5, 2)),
        pa.array([Decimal("1.20"), None], pa.decimal64(10, 2)),
        pa.array([Decimal("1.20"), None], pa.decimal128(20, 2)),
        pa.array([Decimal("1.20"), None], pa.decimal256(50, 2)),
        pa.array([1, None], pa.date32()),
        pa.array([_DAY, None], pa.date64()),
        pa.array([1, None], pa.time32("ms")),
        pa.array([1, None], pa.time64("ns")),
        pa.array([1, None], pa.timestamp("ns")),
        pa.array([5, None], pa.timestamp("us", "UTC")),
        pa.array([0, None], pa.timestamp("ms", "+02:00")),
        pa.array([5, None], pa.duration("ns")),
        pa.array([[1, None], None], pa.list_(pa.int64())),
        pa.array([["x"], None], pa.large_list(pa.string())),
        pa.array([[1, 2], None], pa.list_(pa.int64(), 2)),
        pa.array([[b"\1"], None], pa.list_(pa.binary())),
        pa.array([["x"], None], pa.list_(pa.string_view())),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.array([{"a": [1.0], "b": 'q"'}, None]),
        pa.array([{"bytes": b"ab", "path": "d/e.png"}, None]),
        pa.array([{"a": {"b": b"\1"}}, None]),
        pa.array([1, None], pa.int8()).cast(pa.bool8()),
        pa.array([UUID(int=5).bytes, None], pa.uuid()),
        pa.array(['{"a":1}', None], pa.json_()),
        pa.ExtensionArray.from_storage(
            _TENSOR, pa.array([[1.0, 2.5], [3.0, 4.0]], pa.list_(pa.float32(), 2))
        ),
        pa.nulls(2),
    )
}


def test_a_cell_has_one_text_wherever_it_is_shown(tmp_path: Path) -> None:
    """All types at once: the id, the prompt and the export say the same, and no Python repr."""
    names = [f"c{at}" for at in range(len(CELLS))]
    table = pa.table({"image": [_PNG, _PNG[:-1]], **dict(zip(names, CELLS.values(), strict=True))})
    pq.write_table(table, tmp_path / "m.parquet")
    prompt = " ".join(f"{{{name}}}" for name in names)
    (tmp_path / "job.yaml").write_text(
        f"manifest: {{path: m.parquet, image: image}}\nprompt: {{text: {json.dumps(prompt)}}}\n"
        "endpoint: {profile: embedded, model: embedded/pixels}\noutput: {path: out}\n"
    )
    ran = pipeline("run", "job.yaml", cwd=tmp_path)
    exported = pipeline("export", "job.yaml", "o.csv", "--raw-cells", cwd=tmp_path)
    assert (ran.code, exported.code) == (0, 0), ran.err + exported.err
    with (tmp_path / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    asked = rows_of(opened(tmp_path / "m.parquet", columns=tuple(names), image="image"))
    for name, kind in zip(names, CELLS, strict=True):
        manifest = opened(tmp_path / "m.parquet", id=name, image="image")
        ids = [row.id or "" for row in rows_of(manifest)]
        prompts = [as_text(row.columns[name]) for row in asked]
        assert prompts == ids == [row[name] for row in rows], kind


def test_an_image_in_a_prompt_is_no_python_repr(tmp_path: Path) -> None:
    """`{image}` is the path of a picture in a struct, and the hex of one in bytes."""
    struct = [{"bytes": _PNG, "path": "a/b.png"}, {"bytes": _PNG, "path": None}]
    for column, texts in (
        (pa.array(struct), ["a/b.png", ""]),
        (pa.array([[cell] for cell in struct]), ["a/b.png", ""]),
        (pa.array([_PNG]), [_PNG.hex()]),
    ):
        pq.write_table(pa.table({"image": column}), tmp_path / "m.parquet")
        rows = rows_of(opened(tmp_path / "m.parquet", columns=("image",)))
        assert [as_text(row.columns["image"]) for row in rows] == texts
