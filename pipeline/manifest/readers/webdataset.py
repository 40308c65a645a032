"""Tar shards as WebDataset writes them: members that share a key are one row.

The key is the member's name up to the first dot of its last part; where several pictures share it
(`22.05.png`, `22.10.png`), each is a row with the name up to its last dot. Hidden members are left
out. Columns: `image`, a reference
`tar://MEMBER::SHARD` (the chained form that fsspec also reads; no image byte is read here),
`__key__`, and the text sidecars `txt`, `json` and `cls`, null where a row has none. `where` can
look into the JSON: `json->>'$.width' > '512'`.
"""

from __future__ import annotations

import logging
import tarfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.manifest.file_names import is_image, left_out
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.base import FileInfo, Want, skip
from pipeline.media import ENDINGS

SIDECARS = ("txt", "json", "cls")
SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("image", "__key__", *SIDECARS)])
#: Largest sidecar that is read.
MAX_SIDECAR = 1 << 20
_ROWS = 1024
#: Rows that may wait for a text; images of one key that are looked at together.
_HELD, _TOGETHER = 20_000, 1_024
#: What stands between key and ending of a picture that only accompanies the one of its key.
BESIDE = frozenset(
    "depth disparity mask masks seg segmentation semantic instance panoptic normal normals edge "  # noqa: SIM905 - a list of words
    "edges canny hed lineart scribble pose openpose flow alpha matte albedo saliency heatmap gt "
    "label control cond conditioning thumb thumbnail preview".split()
)
_Row = dict[str, str]
_log = logging.getLogger("pipeline")


@dataclass(frozen=True, slots=True)
class WebdatasetReader:
    """Rows of a tar shard."""

    def look(self, place: ManifestFile) -> FileInfo:
        with place.open() as raw:
            if raw.read(4) == b"\x28\xb5\x2f\xfd":
                raise ManifestError(
                    f"manifest {place.shown}: a tar file packed with zstd; unpack it: zstd -d"
                )
            raw.seek(0)
            try:
                _open(raw).close()
            except tarfile.ReadError as error:
                first = str(error).partition("\n")[0]
                raise ManifestError(
                    f"manifest {place.shown}: not a tar file, or cut in its first member ({first}); "
                    "copy the shard again"
                ) from error
        return FileInfo(schema=SCHEMA)

    def read(self, place: ManifestFile, want: Want) -> Iterator[pa.RecordBatch]:
        return skip(
            self._read(place, sidecars=set() if want.first else set(SIDECARS) & set(want.columns)),
            want.start,
        )

    def _read(self, place: ManifestFile, *, sidecars: set[str]) -> Iterator[pa.RecordBatch]:
        rows: list[_Row] = []
        for row in _rows(place, sidecars):
            rows.append(row)
            if len(rows) >= _ROWS:
                yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
                rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


@dataclass(slots=True)
class _Group:
    """Members next to each other whose names agree up to the first dot."""

    key: str
    #: More than one row has this key.
    several: bool
    #: Member and its name up to the last dot.
    images: list[tuple[str, str]] = field(default_factory=list)
    #: Name up to the last dot -> ending -> content.
    texts: dict[str, _Row] = field(default_factory=dict)

    def chosen(self) -> list[tuple[str, str]]:
        """The pictures that are rows: not what only accompanies another, as `1.mask.png`."""
        rows = [image for image in self.images if not self._beside(image[1])]
        return rows or self.images

    def _beside(self, stem: str) -> bool:
        return stem != self.key and stem[len(self.key) + 1 :].lower() in BESIDE


class _Rows:
    """Rows of a shard in its order. One waits, and with it those behind, while a text that is
    wanted may still come: plain `tar` puts all texts behind all pictures."""

    def __init__(self, place: ManifestFile, sidecars: set[str]) -> None:
        self._place, self._name, self._sidecars = place, place.name, sidecars
        self._queue: deque[_Row] = deque()
        self._waiting: dict[str, list[_Row]] = {}
        self._loose: dict[str, _Row] = {}
        self._beside: list[str] = []
        self._left = 0
        self._pictures = False

    def plain(self, group: _Group) -> _Row:
        """The row of a group of one picture, where no text is wanted and nothing waits."""
        self._pictures = True
        return {"image": f"tar://{group.images[0][0]}::{self._name}", "__key__": group.key}

    def add(self, group: _Group) -> None:
        """Make its pictures rows, and give its texts to whom they belong."""
        self._pictures = self._pictures or bool(group.images)
        chosen = group.chosen()
        self._left += len(group.images) - len(chosen)
        if len(chosen) < len(group.images) and not self._beside:
            self._beside = [name for name, stem in group.images if (name, stem) not in chosen]
        several = group.several or len(chosen) > 1
        alone = list(group.texts) if len(chosen) == 1 and not several else []
        for name, stem in chosen:
            key = stem if several else group.key
            row: _Row = {"image": f"tar://{name}::{self._name}", "__key__": key}
            for stems in dict.fromkeys((stem, group.key, *alone)):
                for texts in (group.texts.get(stems), self._loose.pop(stems, None)):
                    row.update({k: v for k, v in (texts or {}).items() if k not in row})
                if not self._sidecars <= row.keys():
                    self._waiting.setdefault(stems, []).append(row)
            self._queue.append(row)
        for stem, texts in group.texts.items():
            if (stem != group.key or not chosen) and stem not in alone:
                self._give(stem, texts)

    def _give(self, stem: str, texts: _Row) -> None:
        rows = self._waiting.get(stem)
        for row in rows or ():
            row.update({k: v for k, v in texts.items() if k not in row})
        if rows is None and len(self._loose) < _HELD:
            self._loose[stem] = texts

    def ready(self) -> list[_Row]:
        """The rows at the front that lack nothing; all, when too many wait."""
        if len(self._queue) > _HELD:
            return self.rest()
        rows = []
        while self._queue and self._sidecars <= self._queue[0].keys():
            rows.append(self._queue.popleft())
        if not self._queue:
            self._waiting.clear()
        return rows

    def rest(self) -> list[_Row]:
        """All rows that wait."""
        rows = list(self._queue)
        self._queue.clear()
        self._waiting.clear()
        return rows

    def say_what_is_left(self) -> None:
        """One line each for texts without a picture, pictures that only accompany another, and a
        shard without any."""
        if not self._pictures:
            _say(f"{self._place.shown}: no picture in this shard (looked for {' '.join(ENDINGS)})")
        if self._loose:
            _say(
                f"{self._place.shown}: {len(self._loose):,} texts belong to no picture, e.g. "
                f"{next(iter(self._loose))!r}; a text has its picture's name up to the ending"
            )
        if self._left:
            _say(
                f"{self._place.shown}: {self._left:,} pictures accompany another and are no rows, "
                f"e.g. {self._beside[0]!r}"
            )


@lru_cache(maxsize=1024)
def _say(message: str) -> None:
    """Once, however often a shard is read."""
    _log.warning("%s", message)


def _rows(place: ManifestFile, sidecars: set[str]) -> Iterator[_Row]:
    """The pictures of a shard, with the texts that have their names."""
    rows, group = _Rows(place, sidecars), _Group("", several=False)
    with place.open() as raw:
        try:
            with _open(raw) as tar:
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined] # it keeps all headers it has seen
                    name = member.name
                    if not member.isreg() or left_out(name):
                        continue
                    key, stem, ending = _split(name)
                    full = len(group.images) >= _TOGETHER and stem not in group.texts
                    if key != group.key or (full and stem != group.images[-1][1]):
                        if sidecars or len(group.images) != 1 or group.several:
                            rows.add(group)
                            yield from rows.ready()
                        else:
                            yield rows.plain(group)
                        group = _Group(key, several=full and key == group.key)
                    if is_image(name):
                        group.images.append((name, stem))
                    elif ending in sidecars and member.size <= MAX_SIDECAR:
                        file = tar.extractfile(member)
                        assert file is not None
                        content = file.read().decode("utf-8", "replace").strip()
                        group.texts.setdefault(stem, {})[ending] = content
        except (tarfile.TarError, EOFError, OSError) as error:
            raise ManifestError(
                f"manifest {place.shown}: damaged or cut after row {group.key!r}: {error}; "
                "copy the shard again"
            ) from error
    rows.add(group)
    yield from rows.ready()
    yield from rows.rest()
    rows.say_what_is_left()


def _split(name: str) -> tuple[str, str, str]:
    """`a/b.c.jpg` -> (`a/b`, `a/b.c`, `jpg`)."""
    folder, slash, last = name.rpartition("/")
    if last.count(".") == 1 and not slash:
        stem, _, ending = name.partition(".")  # nearly every name
        return stem, stem, ending.lower()
    stem, _, ending = last.rpartition(".")
    return folder + slash + last.partition(".")[0], folder + slash + stem, ending.lower()


def _open(raw: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=raw, mode="r:*")


WEBDATASET = WebdatasetReader()
