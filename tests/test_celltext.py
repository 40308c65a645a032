"""One rule for every type that a Parquet file can bring: as text, and as JSON."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from pipeline.celltext import as_json, as_text, rows_json

UUID = "61616161-6161-6161-6161-616161616161"
_TENSOR = pa.fixed_shape_tensor(pa.float32(), [2])
_PAIR = pa.struct([("a", pa.list_(pa.float64())), ("b", pa.string())])
#: Array of one value -> its text, and its JSON where that is not the text in quotes.
CELLS: list[tuple[pa.Array, str, Any]] = [
    (pa.array(["a\"\n\x01é"]), "a\"\n\x01é", None),
    (pa.array(["a"], pa.large_string()), "a", None),
    (pa.array(["a"], pa.string_view()), "a", None),
    (pa.array(["a"]).dictionary_encode(), "a", None),
    (pa.array([7], pa.int32()).dictionary_encode(), "7", 7),
    (pa.array([b"\0\xff"], pa.binary()), "00ff", None),
    (pa.array([b"\0\xff"], pa.large_binary()), "00ff", None),
    (pa.array([b"\0\xff"], pa.binary_view()), "00ff", None),
    (pa.array([b"\0\xff"], pa.binary(2)), "00ff", None),
    (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615", 2**64 - 1),
    (pa.array([-1], pa.int8()), "-1", -1),
    (pa.array([1.5], pa.float16()), "1.5", 1.5),
    (pa.array([0.1], pa.float32()), "0.1", 0.1),
    (pa.array([2.0], pa.float64()), "2", 2.0),
    (pa.array([1e300], pa.float64()), "1e+300", 1e300),
    (pa.array([True]), "true", True),
    (pa.array([1], pa.int8()).cast(pa.bool8()), "1", True),
    (pa.array([Decimal("1.20")], pa.decimal32(5, 2)), "1.20", None),
    (pa.array([Decimal("1.20")], pa.decimal64(10, 2)), "1.20", None),
    (pa.array([Decimal("1.20")], pa.decimal128(20, 2)), "1.20", None),
    (pa.array([Decimal("1.20")], pa.decimal256(50, 2)), "1.20", None),
    (pa.array([1], pa.date32()), "1970-01-02", None),
    (pa.array([86_400_000], pa.date64()), "1970-01-02", None),
    (pa.array([1], pa.time32("ms")), "00:00:00.001", None),
    (pa.array([1], pa.time64("ns")), "00:00:00.000000001", None),
    (pa.array([1], pa.timestamp("ns")), "1970-01-01 00:00:00.000000001", None),
    (pa.array([5], pa.timestamp("us", "UTC")), "1970-01-01 00:00:00.000005Z", None),
    (pa.array([0], pa.timestamp("s", "+02:00")), "1970-01-01 02:00:00+0200", None),
    (pa.array([5], pa.duration("ns")), "5", None),
    (pa.array([b"a" * 16], pa.uuid()), UUID, None),
    (pa.array(['{"a":1}'], pa.json_()), '{"a":1}', None),
    (pa.array([[1, None]], pa.list_(pa.int64())), "[1,null]", [1, None]),
    (pa.array([["x"]], pa.large_list(pa.string())), '["x"]', ["x"]),
    (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), "[1,2]", [1, 2]),
    (pa.array([[1]], pa.list_view(pa.int64())), "[1]", [1]),
    (pa.array([[]], pa.list_(pa.duration("s"))), "[]", []),
    (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), '{"k":1}', {"k": 1}),
    (pa.array([[(2, [b"\1"])]], pa.map_(pa.int8(), pa.list_(pa.binary()))), '{"2":["01"]}', {"2": ["01"]}),
    (pa.array([{"a": [1.0], "b": 'q"'}], _PAIR), '{"a":[1.0],"b":"q\\""}', {"a": [1.0], "b": 'q"'}),
    (pa.array([{"a": None, "b": None}], _PAIR), '{"a":null,"b":null}', {"a": None, "b": None}),
    (pa.array([{}], pa.struct([])), "{}", {}),
    (
        pa.ExtensionArray.from_storage(_TENSOR, pa.array([[1.0, 2.5]], pa.list_(pa.float32(), 2))),
        "[1.0,2.5]",
        [1.0, 2.5],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("one", "text", "value"), CELLS, ids=[str(c[0].type) for c in CELLS])
def test_every_type_has_a_text_and_a_json(one: pa.Array, text: str, value: Any) -> None:
    """The same for a whole column, beside a null, and for a part of it."""
    kind = one.type
    column = one
    if not isinstance(kind, pa.FixedShapeTensorType):
        column = pa.concat_arrays([one, pa.nulls(1, kind), one])
    for part in (column, column.slice(len(column) - 1)):
        texts, values = as_text(part), as_json(part)
        assert (texts.type, values.type) == (pa.string(), pa.string())
        assert texts.to_pylist() == [text if ok else None for ok in part.is_valid().to_pylist()]
        wanted = text if value is None else value
        loaded = [json.loads(one) for one in values.to_pylist()]
        assert loaded == [wanted if ok else None for ok in part.is_valid().to_pylist()]


def test_what_json_lacks_is_null() -> None:
    """NaN and infinities; a null column is nulls, and has no text."""
    odd = pa.array([float("nan"), float("inf"), -0.5])
    assert as_json(odd).to_pylist() == ["null", "null", "-0.5"]
    assert as_json(pa.nulls(2)).to_pylist() == ["null", "null"]
    assert as_text(pa.nulls(2)).to_pylist() == [None, None]


@pytest.mark.parametrize("text", [
    "", '"', "\\", "\\n", "\n\r\t", "".join(map(chr, range(0x20))), "\x7f\x85\u2028", "a\\\"\x00b",
    "👩‍👩‍👧 שלום \u202e", "x" * 100_000,
])  # fmt: skip
def test_any_text_comes_back_from_json(text: str) -> None:
    """Escapes of every kind, also in the names of columns."""
    batch = pa.RecordBatch.from_pydict({text or "n": [text, None], "m": ["plain", text]})

    rows = [json.loads(line) for line in rows_json(batch).to_pylist()]

    assert rows == batch.to_pylist()


def test_prompts_read_what_arrow_casts() -> None:
    """The text is in the key of every image that was asked: it may never change for these types."""
    for one, text, _ in CELLS:
        kind = one.type
        if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_string(kind):
            assert one.cast(pa.string()).to_pylist() == [text]
