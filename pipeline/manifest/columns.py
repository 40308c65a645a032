"""Several files as one table: the union of their columns, and batches made to fit it.

A column that a file lacks is null there; integers and floats of different widths widen; text
beside numbers is an error that names the file, since a guess would change values.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ManifestError


def union(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for all files (shown name, schema), in order of first appearance."""
    whole: pa.Schema = schemas[0][1]
    for name, schema in schemas[1:]:
        if schema.equals(whole):
            continue
        try:
            whole = pa.unify_schemas([whole, schema], promote_options="permissive")
        except pa.ArrowException as error:
            bad = next(
                f for f in schema if f.name in whole.names and not _agree(whole.field(f.name), f)
            )
            raise ManifestError(
                f"manifest {name}: column {bad.name!r} is {bad.type}, but "
                f"{whole.field(bad.name).type} in the files before; write them alike"
            ) from error
    return whole


def same_header(files: Sequence[tuple[str, pa.Schema, bool]]) -> None:
    """ManifestError where some files begin with their columns' names and others with a row.

    files: shown name, schema, and whether its columns are but numbered.
    """
    shown, first, nameless = files[0]
    for name, schema, numbered in files:
        if (numbered or nameless) and schema.names != first.names:
            raise ManifestError(
                f"manifest {name}: its columns are {', '.join(schema.names[:30])}, but {shown} has "
                f"{', '.join(first.names[:30])}; write a first line that names the columns into "
                "each file, e.g. image,title"
            )


def _agree(field: pa.Field, other: pa.Field) -> bool:
    try:
        pa.unify_schemas([pa.schema([field]), pa.schema([other])], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with exactly the columns and types of `schema`; ManifestError for bytes among texts."""
    if batch.schema.equals(schema):
        return batch
    arrays = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        if at < 0:
            arrays.append(pa.nulls(batch.num_rows, field.type))
        else:
            column = batch.column(at)
            try:
                arrays.append(column if column.type == field.type else column.cast(field.type))
            except pa.ArrowInvalid as error:
                raise ManifestError(
                    f"column {field.name!r} is not {field.type}: {error}"
                ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def path_only(kind: pa.DataType) -> bool:
    """Is this the `{bytes, path}` form of an image?"""
    if not pa.types.is_struct(kind):
        return False
    inner = {f.name: f.type for f in kind}
    return "bytes" in inner and set(inner) <= {"bytes", "path"} and is_bytes(inner["bytes"])


def is_text(kind: pa.DataType) -> bool:
    """Text in any of Arrow's forms, also as a dictionary."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_bytes(kind: pa.DataType) -> bool:
    """Bytes in any of Arrow's forms."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def is_image_struct(kind: pa.DataType) -> bool:
    """A struct of `bytes` and/or `path`, as Hugging Face stores images."""
    if not pa.types.is_struct(kind) or not kind.num_fields:
        return False
    return all(
        (f.name == "bytes" and (is_bytes(f.type) or pa.types.is_null(f.type)))
        or (f.name == "path" and (is_text(f.type) or pa.types.is_null(f.type)))
        for f in kind
    )


def is_list(kind: pa.DataType) -> bool:
    """A list in any of Arrow's forms."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def listed(kind: pa.DataType) -> pa.DataType:
    """What a list holds; another type itself."""
    return kind.value_type if is_list(kind) else kind


def only_elements(column: pa.Array) -> pa.Array:
    """Of each list its one element; null where it has none or several."""
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    starts = pc.subtract(pc.cumulative_sum(lengths), lengths)
    return column.flatten().take(pc.if_else(pc.equal(lengths, 1), starts, None))


def holds_images(kind: pa.DataType) -> bool:
    """May a column of this type be the image column? Lists too, of one picture each."""
    kind = listed(kind)
    return is_text(kind) or is_bytes(kind) or is_image_struct(kind) or bool(pa.types.is_null(kind))


def may_nest(kind: pa.DataType) -> bool:
    """May cells of this type hold values by name: structs, or JSON as text?"""
    return bool(pa.types.is_struct(listed(kind))) or is_text(kind)


def prompt_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a prompt reads such a column: integers and booleans stay, all else becomes
    text (`celltext`)."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return kind
    return pa.string()


def nearest(name: str, names: Sequence[str], able: Sequence[str] | None = None) -> str:
    """`; did you mean 'x'?` or nothing, and the columns there are. able: those that can be meant."""
    close = difflib.get_close_matches(name, names if able is None else able, 1, 0.5)
    hint = f"; did you mean {close[0]!r}? The" if close else "; the"
    shown = ", ".join(names[:30]) + (", …" if len(names) > 30 else "")
    return f"{hint} columns are: {shown}"


def without_bytes(field: pa.Field) -> pa.Field:
    """An image struct of which only the path is read."""
    return field.with_type(pa.struct([f for f in field.type if f.name == "path"]))


def paths_of(column: pa.Array) -> pa.Array:
    """The paths of an image struct column as text."""
    if column.type.get_field_index("path") < 0:
        return pa.nulls(len(column), pa.string())
    return pc.struct_field(column, "path").cast(pa.string())
