"""Cells of any Arrow type as text and as JSON, by one rule for ids, prompts and exports.

Text: what Arrow's own cast writes (`2026-11-23 10:00:00.000005Z`, all digits of a time); UUID and
JSON as text, bytes as hex, lists, structs and maps as JSON. JSON: numbers, booleans, null, lists
and objects as such, everything else as its text; NaN and infinities, which JSON lacks, are null.
Whole columns at a time: a million rows are a matter of seconds.
"""

from __future__ import annotations

import json
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

#: Backslash and quote first, then the line breaks and tabs that captions hold; rarer control
#: characters go one string at a time.
_ESCAPES = (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
_ESCAPED = r'["\\\x00-\x1f]'
_CONTROL = r"[\x00-\x1f]"
#: JSON of a whole float needs a point, or a reader takes the column for integers.
_WHOLE = r"^-?[0-9]+$"


def as_text(column: pa.Array) -> pa.Array:
    """A column of strings; null stays null."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _extension_text(column)
    if pa.types.is_dictionary(kind):
        return as_text(column.dictionary).take(column.indices)
    if is_binary(kind):
        texts = [None if value is None else value.hex() for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_nested(kind):
        return pc.if_else(column.is_valid(), as_json(column), None)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return _zoned_text(column)
    if pa.types.is_interval(kind):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    return column if kind == pa.string() else column.cast(pa.string())


def as_json(column: pa.Array) -> pa.Array:
    """A column of strings, each a whole JSON value; null is `null`."""
    kind = column.type
    if column.null_count == len(column):
        return pa.repeat("null", len(column))
    if pa.types.is_dictionary(kind):
        texts = as_json(column.dictionary).take(column.indices)
    elif isinstance(kind, pa.BaseExtensionType):
        texts = _extension_json(column)
    elif pa.types.is_map(kind):
        texts = _map_json(column)
    elif pa.types.is_struct(kind):
        texts = _struct_json(column)
    elif pa.types.is_nested(kind):
        texts = _list_json(column)
    elif pa.types.is_floating(kind):
        texts = _float_json(column)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        texts = column.cast(pa.string())
    else:
        texts = quoted(as_text(column))
    return pc.fill_null(texts, "null")


def rows_json(batch: pa.RecordBatch, end: str = "") -> pa.Array:
    """Each row of a batch as a JSON object; `end` comes after each."""
    return _objects(batch.schema.names, batch.columns, batch.num_rows, end)


def quoted(texts: pa.Array) -> pa.Array:
    """Strings as JSON strings; null stays null."""
    if not pc.any(pc.match_substring_regex(texts, _ESCAPED)).as_py():
        return pc.binary_join_element_wise('"', texts, '"', "")
    for plain, escaped in _ESCAPES:
        texts = pc.replace_substring(texts, plain, escaped)
    rare = pc.fill_null(pc.match_substring_regex(texts, _CONTROL), False)
    if rare.true_count:
        # The rest of such a string is escaped already: only its control characters are left.
        mended = [
            "".join(c if c >= " " else json.dumps(c)[1:-1] for c in text)
            for text in texts.filter(rare).to_pylist()
        ]
        texts = pc.replace_with_mask(texts, rare, pa.array(mended, texts.type))
    return pc.binary_join_element_wise('"', texts, '"', "")


def is_binary(kind: pa.DataType) -> bool:
    """Bytes in any of Arrow's forms."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _extension_text(column: pa.ExtensionArray) -> pa.Array:
    if column.type.extension_name == "arrow.uuid":
        values = column.storage.to_pylist()
        return pa.array([None if v is None else str(UUID(bytes=v)) for v in values], pa.string())
    return as_text(column.storage)


def _extension_json(column: pa.ExtensionArray) -> pa.Array:
    if column.type.extension_name == "arrow.bool8":
        return as_json(column.cast(pa.bool_()))
    if column.type.extension_name == "arrow.uuid":
        return quoted(_extension_text(column))
    return as_json(column.storage)


def _zoned_text(column: pa.Array) -> pa.Array:
    if column.type.tz != "UTC":
        try:
            return column.cast(pa.string())
        except pa.ArrowException:  # this machine has no database of time zones, or not this zone
            pass
    plain = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    return pc.binary_join_element_wise(plain, "Z", "")


def _float_json(column: pa.Array) -> pa.Array:
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    texts = pc.if_else(pc.is_finite(column), column.cast(pa.string()), None)
    whole = pc.match_substring_regex(texts, _WHOLE)
    return pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)


def _list_json(column: pa.Array) -> pa.Array:
    joined = pc.binary_join(_relisted(column, as_json(column.flatten())), ",")
    return pc.binary_join_element_wise("[", joined, "]", "")


def _map_json(column: pa.Array) -> pa.Array:
    """Maps as objects; a key that comes twice stands there twice, which JSON allows."""
    plain = column.cast(
        pa.list_(pa.struct([("key", column.type.key_type), ("value", column.type.item_type)]))
    )
    entries = plain.flatten()
    keys, values = (entries.field(at) for at in (0, 1))
    pairs = pc.binary_join_element_wise(quoted(as_text(keys)), as_json(values), ":")
    joined = pc.binary_join(_relisted(plain, pairs), ",")
    return pc.binary_join_element_wise("{", joined, "}", "")


def _relisted(column: pa.Array, items: pa.Array) -> pa.Array:
    """A list column's lengths and nulls around other items. (No cast does that: those of list
    views give other values in pyarrow 26.)"""
    lengths = pc.if_else(column.is_valid(), pc.list_value_length(column), 0).cast(pa.int32())
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, items, mask=column.is_null())


def _struct_json(column: pa.Array) -> pa.Array:
    fields = [pc.struct_field(column, [at]) for at in range(column.type.num_fields)]
    names = [column.type.field(at).name for at in range(column.type.num_fields)]
    return pc.if_else(column.is_valid(), _objects(names, fields, len(column)), None)


def _objects(names: list[str], columns: list[pa.Array], count: int, end: str = "") -> pa.Array:
    if not columns:
        return pa.array(["{}" + end] * count, pa.string())
    pieces, text = [], "{"
    for at, (name, column) in enumerate(zip(names, columns, strict=True)):
        text += f"{',' if at else ''}{json.dumps(name, ensure_ascii=False)}:"
        if column.null_count == len(column):
            text += "null"
        elif _needs_only_quotes(column):
            pieces += [f'{text}"', column]
            text = '"'
        else:
            pieces += [text, as_json(column)]
            text = ""
    text += "}" + end
    return pc.binary_join_element_wise(*pieces, text, "") if pieces else pa.repeat(text, count)


def _needs_only_quotes(column: pa.Array) -> bool:
    """Is this a text in every row, with nothing in it to be escaped?"""
    if column.type != pa.string() or column.null_count:
        return False
    return not pc.any(pc.match_substring_regex(column, _ESCAPED)).as_py()
