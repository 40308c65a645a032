"""A shared output follows the one that this host keeps for it in the state folder.

The whole output stands locally, published by the usual protocol; then every part that differs is
put: parts of `captions/` that are there already, then `failures/`, new `captions/` last. In this
order a reader of the shared output, too, never meets a key twice, however far behind it was: keys
only leave a part that is there. Putting the same bytes again changes nothing, so whatever is cut
short is simply done again. While the store cannot be reached the run goes on; what waits is safe here.

Small parts that were put together at the end of a run (one a minute makes thousands) go before
their common one comes, of which a copy lies in `_state/` meanwhile: should this machine never come
back, a take-over finds those records there.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline import fs
from pipeline.errors import OutputError
from pipeline.store import tables
from pipeline.store.journal import Journal
from pipeline.store.parts import read_part, write_part
from pipeline.store.publish_plan import CAPTIONS, FOLDERS, KEYS, REVIEWS
from pipeline.store.remote import owner
from pipeline.store.remote.filesystem import Store, put_whole, steadily
from pipeline.store.remote.owner import Owner
from pipeline.store.tables import Part

#: Files beside the parts that are put when they change; small ones are brought by a take-over.
FILES = (
    ("", "dataset.parquet"),
    ("", "failures.csv"),
    ("", "pilot.json"),
    ("", "pilot.html"),
    ("_state", "model.json"),
)
#: What begins the name of a copy, before those of its folder and its part.
COPY = "merged-"
Aside = Callable[..., Awaitable[Any]]
_log = logging.getLogger("pipeline")


def behind(
    published: Iterable[Part], stored: dict[tuple[str, str], tuple[str, int] | None]
) -> list[Part]:
    """The parts to put, in the order that never shows a key twice. Pure."""
    late = [part for part in published if (stored.get(part.place) or ("",))[0] != part.sha256]
    new = {part.place for part in late if part.folder != CAPTIONS or part.place not in stored}
    return sorted(late, key=lambda part: (part.place in new, FOLDERS.index(part.folder), part.name))


class Replica:
    """The way from the local output to the shared one. Made under the local lock."""

    def __init__(self, folder: Path, store: Store, owner: Owner, journal: Journal) -> None:
        self._folder, self._store, self._mine, self._journal = folder, store, owner, journal
        #: Are no copies left by a run that was cut short?
        self._tidied = False

    async def push(self, aside: Aside) -> None:
        """Bring the shared output up to date; OutputError when it cannot be, Held when it is lost."""
        await aside(owner.confirm, self._store, self._mine)
        stored = await self._journal.call(tables.sent)
        published = await self._journal.call(tables.parts)
        late = behind(published, stored)
        gone = _gone(published, stored)
        copies = [part for part in late if part.place not in stored] if gone else []
        for part in copies:
            data = await aside(bytes_of, self._folder, part)
            await aside(put_whole, self._store, _copy_of(part), data, new=False)
        for place in gone:
            await aside(_remove, self._store, "/".join(place))
            await self._journal.call(tables.forget_sent, place)
        for part in late:
            data = await aside(bytes_of, self._folder, part)
            await self._put(aside, part, data, new=part.place not in stored)
        if copies or not self._tidied:
            for name in await aside(_listed, self._store, "_state"):
                if name.startswith(COPY):
                    await aside(_remove, self._store, f"_state/{name}")
            self._tidied = True
        for folder, name in FILES:
            path = self._folder / folder / name
            if not path.exists():
                continue
            look = path.stat()
            mark = f"{look.st_size}-{look.st_mtime_ns}"
            file = Part(
                folder=folder, name=name, rows=0, sha256=mark, size=look.st_size, mtime_ns=0
            )
            if stored.get(file.place) != (mark, look.st_size):
                await aside(_put_file, self._store, file, path)
                await self._journal.call(tables.arrived, file)

    async def _put(self, aside: Aside, part: Part, data: bytes, *, new: bool) -> None:
        await self._journal.call(tables.send, part)
        await aside(put_whole, self._store, name_of(part), data, new=new)
        await self._journal.call(tables.arrived, part)

    async def mend(self, aside: Aside) -> None:
        """Put again what is no longer there as it was put; OutputError names files of strangers."""
        stored = await self._journal.call(tables.sent)
        published = {part.place: part for part in await self._journal.call(tables.parts)}
        for folder in FOLDERS:
            sizes = await aside(_listed, self._store, folder)
            for name in sizes.keys() - {name for where, name in stored if where == folder}:
                if name.endswith(".parquet"):
                    raise OutputError(
                        f"{self._store.shown}/{folder}/{name}: this part is not one that the "
                        "journal knows; move it away, or use another output.path"
                    )
            for place, there in stored.items():
                if place[0] != folder or there is None or sizes.get(place[1]) == there[1]:
                    continue
                if (part := published.get(place)) is None:
                    continue  # put together with others; the next push removes it
                _log.warning("%s/%s: has changed, put again", self._store.shown, name_of(part))
                await self._put(aside, part, await aside(bytes_of, self._folder, part), new=False)


def name_of(part: Part) -> str:
    """A part's name in the store."""
    return f"{part.folder}/{part.name}" if part.folder else part.name


def _gone(
    published: Iterable[Part], stored: dict[tuple[str, str], tuple[str, int] | None]
) -> list[tuple[str, str]]:
    """Parts that the store has and that were put together with others here."""
    return sorted({place for place in stored if place[0] in FOLDERS} - {p.place for p in published})


def _copy_of(part: Part) -> str:
    return f"_state/{COPY}{part.folder}-{part.name}"


def _remove(store: Store, name: str) -> None:
    def once() -> None:
        with suppress(FileNotFoundError):  # an earlier try came through
            store.remove(name)

    steadily(store.shown, once)


def _listed(store: Store, folder: str) -> dict[str, int]:
    return steadily(store.shown, store.sizes, folder)


def bytes_of(folder: Path, part: Part) -> bytes:
    """A part as it stands on this machine, proved."""
    data = (folder / part.folder / part.name).read_bytes()
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise OutputError(f"{folder}/{name_of(part)}: is not what was published; see verify")
    return data


def _put_file(store: Store, file: Part, path: Path) -> None:
    steadily(store.shown, store.put_file, name_of(file), path)


def pull(store: Store, folder: Path) -> None:
    """Bring what is published into an empty local output; OutputError when it cannot be read."""
    db = tables.connect(folder / "_state" / "journal.db")
    try:
        for where in FOLDERS:
            (folder / where).mkdir()
            for name in sorted(_listed(store, where)):
                if name.endswith(".parquet"):
                    part = _brought(store, folder, where, name)
                    tables.mark_parts(db, [part])
                    tables.arrived(db, part)
            for part in _only_in_copies(store, folder, where):
                tables.mark_parts(db, [part])
            fs.sync_dir(folder / where)
    finally:
        db.close()
    (folder / REVIEWS).mkdir()
    for name in sorted(_listed(store, REVIEWS)):
        if name.endswith(".parquet"):
            data = steadily(store.shown, store.read, f"{REVIEWS}/{name}")
            fs.write_atomic(folder / REVIEWS / name, data or b"")
    for where, name in FILES:
        if not where:
            continue  # made anew by the next run
        data = steadily(store.shown, store.read, f"{where}/{name}")
        if data is not None:
            fs.write_atomic(folder / where / name, data, private=True)


def _only_in_copies(store: Store, folder: Path, where: str) -> Iterator[Part]:
    """Parts of those records that another host had in no part when it was cut short, while it put
    parts together. They are new to the store."""
    here = sorted((folder / where).iterdir())
    for copy in sorted(_listed(store, "_state")):
        name = copy.removeprefix(f"{COPY}{where}-")
        if name == copy or (folder / where / name).exists():
            continue
        if (data := steadily(store.shown, store.read, f"_state/{copy}")) is None:
            continue
        table = read_part(io.BytesIO(data), name=f"{store.shown}/_state/{copy}")
        for path in here:
            known = read_part(path, [KEYS[where]]).column(0).combine_chunks()
            table = table.filter(pc.invert(pc.is_in(table.column(KEYS[where]), value_set=known)))
        if table.num_rows:
            yield write_part(folder, (where, name), table)


def _brought(store: Store, folder: Path, where: str, name: str) -> Part:
    data = steadily(store.shown, store.read, f"{where}/{name}")
    shown = f"{store.shown}/{where}/{name}"
    if data is None:
        raise OutputError(f"{shown}: has gone while it was read; try again")
    rows = read_part(io.BytesIO(data), name=shown).num_rows
    path = folder / where / name
    fs.write_tmp(path, data)
    look = path.stat()
    return Part(
        folder=where,
        name=name,
        rows=rows,
        sha256=hashlib.sha256(data).hexdigest(),
        size=look.st_size,
        mtime_ns=look.st_mtime_ns,
    )
