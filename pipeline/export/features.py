"""The `huggingface` metadata of a Parquet file: which columns are pictures, classes, sequences.

`datasets` takes a column's feature from there where it fits the column, else from its Arrow type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

KEY = b"huggingface"
IMAGE = {"_type": "Image"}
#: Arrow types of our columns -> dtypes of `datasets`.
_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}


def read_features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The features that a file declares; none where it declares them in no form known here."""
    try:
        features = json.loads((metadata or {}).get(KEY, b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def with_features(
    schema: pa.Schema, declared: Mapping[str, Any], *, images: str | None = None
) -> pa.Schema:
    """The schema, declaring the manifest's features as far as its columns are still there.

    images: the column that holds pictures now. A schema about which nothing special is to be said
    stays as it is.
    """
    features = {}
    for field in schema:
        if field.name == images:
            features[field.name] = IMAGE
        elif (feature := declared.get(field.name)) is not None:
            pictures = json.dumps(IMAGE) in json.dumps(feature)  # in a list, too
            if not pictures or pa.types.is_nested(field.type):
                features[field.name] = feature
    if not features:
        return schema
    for field in schema:
        if field.name not in features and (own := _plain(field.type)) is not None:
            features[field.name] = own
    ordered = {name: features[name] for name in schema.names if name in features}
    text = json.dumps({"info": {"features": ordered}}).encode()
    return schema.with_metadata({**(schema.metadata or {}), KEY: text})


def _plain(kind: pa.DataType) -> dict[str, Any] | None:
    """The feature of a simple column; None leaves it to the loader."""
    if kind in _DTYPES:
        return {"dtype": _DTYPES[kind], "_type": "Value"}
    if pa.types.is_list(kind) and kind.value_type in _DTYPES:
        # `Sequence` is read by old and new releases; new ones alone know `List`.
        return {"feature": _plain(kind.value_type), "_type": "Sequence"}
    return None
