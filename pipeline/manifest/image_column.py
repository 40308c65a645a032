"""Which column holds the images, when the job says `image: auto`. The rule, in order:

1. By name and value: the first of `NAMES` (case, spaces, `-` and `_` do not matter) whose type
   can hold images and whose first cells look like images. Where these are URLs, a column that
   holds the pictures themselves (bytes, data URIs) goes before it; and a URL column named for no
   picture (`url`, `link`), whose URLs have no image ending, gives way to the one that is, or to
   a column of paths where there are files.
2. By value alone: the only column whose first cells look like images, small copies and masks left
   aside. Two or more are an error that names them, since guessing would caption the wrong pictures.
3. By value, inside of columns: the only value of structs or of JSON whose first ones look like
   images (`image.url`, `data.image`); pictures themselves go before where they are.
4. By name alone: the first of `NAMES` whose type can hold images (an empty manifest, or paths
   without a known ending).

A column looks like images when at least half of its first non-empty cells do: `{bytes, path}`,
bytes that start like an image file, a data URI, a URL, or text with an image ending. By value
alone a URL counts only with an image ending in its path, as links to pages are common.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.local_files import respelled
from pipeline.manifest.columns import (
    holds_images,
    is_bytes,
    is_image_struct,
    listed,
    nearest,
)
from pipeline.patterns import lazy
from pipeline.picture_cell import MAY_WRAP, NotOnePicture, picture_of

NAMES: tuple[str, ...] = (
    "image_url", "url", "image", "images", "image_path", "path", "file_name", "filename", "filepath",
    "file_path", "img", "img_url", "img_path", "image_uri", "image_file", "imageurl", "photo",
    "photo_image_url", "photo_url", "picture", "picture_url", "uri", "src", "link", "image_bytes",
    "file", "jpg", "jpeg", "png", "webp",
)  # fmt: skip
#: The same as `plain_name` makes them.
KNOWN = frozenset(re.sub(r"[^a-z0-9]", "", name) for name in NAMES)
#: First cells that are looked at, and paths of which a file is looked for.
SAMPLE = 100
_FILES = 8
_ENDING = lazy(r"(?i)\.(jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|hei[cf]|avif)([?#].*)?$")
_URL = lazy(r"(?i)^([a-z][a-z0-9+.-]*://|data:image/)")
_WEB = lazy(r"(?i)^https?://")
#: Names that say nothing about what a URL leads to.
_VAGUE = frozenset(("url", "uri", "link", "src", "file", "photourl", "pictureurl"))
#: Names of columns with pictures, and of those that stand for another picture.
_PICTURE = lazy(r"image|img|photo|picture|pic(url|link|src)?$")
_LESSER = lazy(r"thumb|preview|icon|mask|depth|logo|avatar|licen[cs]e|label|segment|blur|tiny")
_SURE = lazy(r"(?i)^(data:image/|package://|tar://)")
#: Bytes that are a text: a URL, a data URI or base64 of a picture; a name.
_TEXT = lazy(MAY_WRAP.encode() + rb"|(?i:\s*(https?://|data:image/))")
_FILE = lazy(rb"(?i)^[ -~\x80-\xff]+\.(jpe?g|png|webp|gif|bmp|tiff?|hei[cf]|avif)$")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def choose(
    schema: pa.Schema,
    sample: Mapping[str, Sequence[object]],
    shown: str,
    nested: Callable[[], Mapping[str, Sequence[object]]] = dict,
    base: Path | None = None,
) -> str:
    """The image column. `sample` has the first cells of the columns of `candidates`, `nested` gives
    those inside of columns, by their dotted names; at `base` relative paths start."""
    named: list[str] = _by_name(schema)
    first = next((name for name in named if _looks(sample.get(name, ()), by_name=True)), None)
    if first is not None and not _all_match(_WEB, sample[first]):
        return first
    able: list[str] = candidates(schema)
    looking = [name for name in able if _in_hand(name, sample.get(name, ()))]
    looking = [name for name in named if name in looking][:1] or looking
    if not looking and first is not None:
        return _less_vague(first, able, sample, base)
    if not looking:
        looking = [name for name in able if _looks(sample.get(name, ()), by_name=False)]
        full = [name for name in looking if not _LESSER.search(plain_name(name))]
        looking = full if len(full) == 1 else looking
    if not looking:
        inner = {name: cells for name, cells in nested().items() if _looks(cells, by_name=False)}
        looking = [name for name in inner if _in_hand(name, inner[name])] or list(inner)
    if len(looking) == 1:
        return looking[0]
    if looking:
        raise ManifestError(
            f"manifest {shown}: {', '.join(map(repr, looking))} could each be the image column; "
            "set manifest.image to the one to caption"
        )
    if named:
        return named[0]
    unable = [f for f in schema if plain_name(f.name) in KNOWN and f.name not in able]
    raise ManifestError(
        f"manifest {shown}: no column of images found; set manifest.image to its name"
        + "".join(f"; {field.name!r} is {field.type}, no image" for field in unable[:3])
        + nearest("image", schema.names, able)
    )


def unwrapped(cell: object) -> object:
    """A cell as the rule looks at it; a list of several pictures stays a list, which looks like none."""
    try:
        return picture_of(cell)
    except NotOnePicture:
        return cell


def others(
    schema: pa.Schema, sample: Mapping[str, Sequence[object]], chosen: str
) -> tuple[str, ...]:
    """The columns beside the chosen one that look like pictures too."""
    able = [name for name in candidates(schema) if name != chosen]
    return tuple(
        name
        for name in able
        if _looks(sample.get(name, ()), by_name=_PICTURE.search(plain_name(name)) is not None)
    )


def _in_hand(name: str, cells: Sequence[object]) -> bool:
    """Do these cells hold the pictures themselves, and not a small copy or a mask?"""
    inside = [cell.get("bytes") if isinstance(cell, Mapping) else cell for cell in cells]
    texts = all(cell[:5].lower() == "data:" for cell in inside if isinstance(cell, str))
    return texts and not _LESSER.search(plain_name(name)) and _looks(inside, by_name=False)


def _less_vague(
    first: str,
    able: Sequence[str],
    sample: Mapping[str, Sequence[object]],
    base: Path | None,
) -> str:
    """`first`, a column of URLs, or the one other that says more clearly that it has pictures."""
    if plain_name(first) not in _VAGUE or _looks(sample[first], by_name=False):
        return first
    others = [name for name in able if name != first and not _LESSER.search(plain_name(name))]
    urls = [name for name in others if _all_match(_WEB, sample.get(name, ()))]
    by_ending = [name for name in urls if _looks(sample[name], by_name=False)]
    by_name = [name for name in urls if _PICTURE.search(plain_name(name))]
    files = [name for name in others if base is not None and _are_files(sample.get(name, ()), base)]
    return next((names[0] for names in (by_ending, by_name, files[:1]) if len(names) == 1), first)


def _are_files(cells: Sequence[object], base: Path) -> bool:
    """Is one of these cells the path of a picture that is there?"""
    paths = [cell for cell in cells if isinstance(cell, str) and _ENDING.search(cell)]
    paths = [path for path in paths if not _URL.match(path)]
    return any(respelled(base, path) is not None for path in paths[:_FILES])


def are_texts(cells: Sequence[object]) -> bool:
    """Do all of these bytes spell texts, as writers leave them that know no text (fastparquet, Hive)?"""
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(
        isinstance(cell, bytes)
        and not cell.startswith(_MAGIC)
        and _looks_like_image(cell, by_name=False)
        and cell[4:8] != b"ftyp"
        for cell in filled
    )


def _all_match(pattern: re.Pattern[str], cells: Sequence[object]) -> bool:
    filled = [cell for cell in cells if cell not in (None, "")]
    return bool(filled) and all(
        isinstance(cell, str) and pattern.match(cell.strip()) for cell in filled
    )


def candidates(schema: pa.Schema) -> list[str]:
    """Columns worth a look at their first cells."""
    return [f.name for f in schema if holds_images(f.type)]


def plain_name(name: str) -> str:
    """A column's name as it is compared: letters and digits, in small."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _by_name(schema: pa.Schema) -> list[str]:
    rank = {plain_name(name): i for i, name in reversed(list(enumerate(NAMES)))}
    able = [f.name for f in schema if holds_images(f.type) and plain_name(f.name) in rank]
    return sorted(able, key=lambda name: rank[plain_name(name)])


def _looks(cells: Sequence[object], *, by_name: bool) -> bool:
    filled = [cell for cell in cells if cell not in (None, "", b"")]
    good = sum(_looks_like_image(cell, by_name=by_name) for cell in filled)
    return bool(filled) and 2 * good >= len(filled)


def _looks_like_image(cell: object, *, by_name: bool) -> bool:
    if isinstance(cell, bytes):
        if cell.startswith(_MAGIC) or cell[4:12] in (b"ftypavif", b"ftypheic", b"ftypmif1"):
            return True
        return _TEXT.match(cell) is not None or (
            len(cell) < 4_096 and _FILE.search(cell) is not None
        )
    if isinstance(cell, Mapping):
        content, path = cell.get("bytes"), cell.get("path")
        return bool(content or path)
    if not isinstance(cell, str):
        return False
    text = cell.strip()
    return bool(_ENDING.search(text) or _SURE.match(text) or (by_name and _URL.match(text)))


def check(schema: pa.Schema, name: str, shown: str) -> None:
    """`manifest.image` as the job names it: there, and of a type that can hold images."""
    if name not in schema.names:
        raise ManifestError(
            f"manifest {shown}: no column {name!r} (manifest.image)" + nearest(name, schema.names)
        )
    kind = schema.field(name).type
    if not holds_images(kind):
        raise ManifestError(
            f"manifest {shown}: column {name!r} is {kind}, an unsupported type for images; it must "
            "hold text (URL or path), bytes, {bytes, path}, or lists of one of these"
        )


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The one of three types in which image cells, or those of its lists, are handed on."""
    kind = listed(kind)
    if is_image_struct(kind):
        inner = {"bytes": pa.binary(), "path": pa.string()}
        return pa.struct([pa.field(f.name, inner[f.name]) for f in kind])
    return pa.binary() if is_bytes(kind) else pa.string()
