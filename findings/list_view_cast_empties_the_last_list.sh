#!/usr/bin/env bash
# pyarrow 26.0.1: a list_view column that is cast to list loses its last list.
#
# list_view is the type for lists that other engines hand over without rewriting them. `cast(pa.list_(...))`
# is the way back to the type that everything else reads; it writes n offsets where a list of n needs n + 1,
# so that the last list comes out empty, without an error. In a chunked column that is the last list of
# every chunk: tags or captions disappear once per batch. `validate(full=True)` notices; nothing calls it.
# Rebuilding the column with `pa.array(column.to_pylist(), pa.list_(...))` is right.
#
# Seen: [["x", "y"], ["z"], None, ["w"]] becomes [["x", "y"], ["z"], None, []]; in two chunks both lose one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1
venv/bin/python - <<'PYTHON'
import pyarrow as pa

kept = [["x", "y"], ["z"], None, ["w"]]
for view, plain in ((pa.list_view, pa.list_), (pa.large_list_view, pa.large_list)):
    tags = pa.array(kept, view(pa.string()))
    assert tags.to_pylist() == kept
    cast = tags.cast(plain(pa.string()))
    print(f"pyarrow {pa.__version__}, {tags.type} to {cast.type}: {cast.to_pylist()}")
    assert cast.to_pylist() == [*kept[:-1], []], "the cast keeps the last list now"
    try:
        cast.validate(full=True)
    except pa.ArrowInvalid as error:
        print("validate:", error)
    else:
        raise SystemExit("validate finds nothing any more")
chunks = pa.chunked_array([pa.array([["a"], ["b"]], pa.list_view(pa.string())) for _ in range(2)])
cast = chunks.cast(pa.list_(pa.string())).to_pylist()
print("two chunks:", cast)
assert cast == [["a"], [], ["a"], []], "chunks keep their last lists now"
PYTHON
