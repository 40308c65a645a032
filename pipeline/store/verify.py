"""`verify`: the promises, checked on what is on disk, and what can be mended without guessing.

Every byte is read. What a run that was cut short has left (answers in the journal, a file that
has just got its name) is no finding: the next run goes on from there. Recording a damaged file's
new digest would be guessing, so that is never done.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import fs, schema
from pipeline.errors import CODES, OutputError
from pipeline.store import tables
from pipeline.store.keys import KeyMap
from pipeline.store.parts import leftovers, part_files, path_of, read_part, readable, strangers
from pipeline.store.publish_plan import CAPTIONS, FAILURES, REQUESTS, REVIEWS, Place
from pipeline.store.reviews import JOURNAL, VERBS
from pipeline.store.shards import shard_folders
from pipeline.store.tables import Part
from pipeline.verdict import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as promised."""

    path: str
    problem: str
    #: Can `--repair` mend it?
    mendable: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """What the journal says of the files."""

    parts: dict[Place, Part]
    planned: dict[Place, Part]
    #: Parts that may be gone already, as another one takes their records.
    going: frozenset[Place] = frozenset()

    @property
    def places(self) -> list[Place]:
        return sorted(self.parts.keys() | self.planned.keys())


def check_output(output: Path) -> list[Finding]:
    """Every promise that the disk can tell about, over all shards together; [] when all hold."""
    files = list[Finding]()
    shards = shard_folders(output)
    for folder in [output, *shards] if has_journal(output) or not shards else shards:
        path = folder / "_state" / "journal.db"
        if not path.exists():
            problem = "has no journal: is this the output of a job?"
            return [Finding(path=str(folder), problem=problem, mendable=True)]
        if tables.log_is_lost(path):
            log = tables.log_of(path)
            return [Finding(path=str(log), problem="is missing, with answers in it", mendable=True)]
        try:
            known = _known(path)
        except (sqlite3.Error, OutputError) as error:
            return [Finding(path=str(path), problem=f"cannot be read: {error}")]
        files += _files(folder, known)
    modes = [finding for folder in [output, *shards] for finding in _modes(folder)]
    return [*files, *_records(output), *_requests(output), *_reviews(output), *modes]


def has_journal(output: Path) -> bool:
    """Has a run written here? The main output of shards that are not joined yet has none."""
    return (output / "_state" / "journal.db").exists()


def repair(output: Path) -> list[str]:
    """Mend what needs no guessing: left-over temporary files, modes of `_state`. What was done."""
    done = []
    for path in leftovers(output):
        path.unlink()
        done.append(f"removed {path}")
    for path in _open_to_others(output):
        path.chmod(fs.PRIVATE_DIR if path.is_dir() else fs.PRIVATE_FILE)
        done.append(f"made private {path}")
    return done


def _known(path: Path) -> _Known:
    db = tables.look(path)
    try:
        if (damage := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise OutputError(damage)
        merging = tables.merging(db)
        return _Known(
            {part.place: part for part in tables.parts(db)},
            {part.place: part for part in tables.parts(db, "planned")}
            | ({} if merging is None else {merging[0].place: merging[0]}),
            frozenset() if merging is None else frozenset(part.place for part in merging[1]),
        )
    finally:
        db.close()


def _files(output: Path, known: _Known) -> Iterator[Finding]:
    """Every part is there and is what was published; nothing else looks like one."""
    yield from _published(output, known)
    for path in strangers(output, set(known.places)):
        yield Finding(path=str(path), problem="is no part that the journal knows")
    for path in leftovers(output):
        yield Finding(path=str(path), problem="was left over by a crash", mendable=True)


def _published(output: Path, known: _Known) -> Iterator[Finding]:
    for place in known.places:
        path, base = path_of(output, place), known.parts.get(place)
        may_be = [part for part in (base, known.planned.get(place)) if part is not None]
        try:
            digest = fs.sha256_file(path)
        except FileNotFoundError:
            if base is not None and place not in known.going:
                yield Finding(path=str(path), problem=f"is missing ({base.rows:,} rows)")
            continue
        if all(digest != part.sha256 for part in may_be):
            problem = f"has changed since it was published (SHA-256 was {may_be[0].sha256})"
            yield Finding(path=str(path), problem=problem)


def _records(output: Path) -> Iterator[Finding]:
    """Each key once over both folders, of each shard by itself until the join; captions have words,
    failures have a known reason."""
    keys = defaultdict[Path, KeyMap](KeyMap)
    for folder, status in ((CAPTIONS, "ok"), (FAILURES, "failed")):
        for path in part_files(output, folder):
            yield from _guarded(path, _of_records(path, status, keys[path.parents[1]]))


def _of_records(path: Path, status: str, keys: KeyMap) -> Iterator[Finding]:
    table = _table(path, schema.RECORDS, ["key", "caption", "status", "error_code"])
    if status == "ok":
        trimmed = pc.utf8_trim_whitespace(pc.fill_null(table["caption"], ""))
        wrong = _count(pc.equal(trimmed, "")), "captions are empty"
    else:
        known = pc.is_in(table["error_code"], pa.array(sorted(CODES)))
        wrong = _count(pc.invert(known)), "failures have no known code"
    other = pc.not_equal(table["status"], status)
    yield from _counted(
        path,
        (_again(keys, table["key"].to_pylist()), "keys stand here a second time"),
        (_count(other), "records have another status than their folder"),
        wrong,
    )


def _requests(output: Path) -> Iterator[Finding]:
    """Each attempt once in the account book, with a known class."""
    seen = KeyMap()
    for path in part_files(output, REQUESTS):
        yield from _guarded(path, _of_requests(path, seen))


def _of_requests(path: Path, seen: KeyMap) -> Iterator[Finding]:
    table = _table(path, schema.REQUESTS, ["request_id", "class"])
    ids = [
        hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()
        for request_id in table["request_id"].to_pylist()
    ]
    classes = pa.array([*(kind.value for kind in Kind), "unknown"])
    yield from _counted(
        path,
        (_again(seen, ids), "attempts stand here a second time"),
        (_count(pc.invert(pc.is_in(table["class"], classes))), "attempts have no known class"),
    )


def _reviews(output: Path) -> Iterator[Finding]:
    """Decisions of people are as they were published, and say something about a key."""
    journal, files = output / "_state" / JOURNAL, part_files(output, REVIEWS)
    if journal.exists():
        try:
            known = _known(journal)
        except (sqlite3.Error, OutputError) as error:
            yield Finding(path=str(journal), problem=f"cannot be read: {error}")
            return
        yield from _published(output, known)
        files = [path for path in files if (REVIEWS, path.name) in known.places]
    for path in files:
        yield from _guarded(path, _of_reviews(path))


def _of_reviews(path: Path) -> Iterator[Finding]:
    table = _table(path, schema.REVIEWS, ["key", "decision"])
    odd = pc.invert(pc.match_substring_regex(table["key"], "^[0-9a-f]{32}$"))
    verbs = pc.is_in(table["decision"], pa.array(VERBS))
    yield from _counted(
        path,
        (_count(odd), "decisions are about no key"),
        (_count(pc.invert(verbs)), "decisions are none that there is"),
    )


class _Differs(Exception):
    """A part has another schema than it should have."""


def _table(path: Path, wanted: pa.Schema, columns: list[str]) -> pa.Table:
    stored = pq.read_schema(path)
    right = stored.equals(wanted) or stored.equals(schema.earlier(wanted))
    if right and (stored.metadata or {}).items() >= schema.METADATA.items():
        return read_part(path, columns)
    raise _Differs


def _guarded(path: Path, findings: Iterator[Finding]) -> Iterator[Finding]:
    """What is found in one part, or what keeps it from being read."""
    try:
        with readable(path):
            yield from findings
    except _Differs:
        yield Finding(path=str(path), problem="has another schema than it should have")
    except OutputError as error:
        yield Finding(path=str(path), problem=f"cannot be read ({error.__cause__})")


def _again(seen: KeyMap, keys: list[str]) -> int:
    """How many of these keys were met before; remembers them all."""
    again = 0
    for key in keys:
        again += key in seen
        seen.set(key, "")
    return again


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0


def _counted(path: Path, *counts: tuple[int, str]) -> Iterator[Finding]:
    for count, problem in counts:
        if count:
            yield Finding(path=str(path), problem=f"{count:,} {problem}")


def _modes(output: Path) -> Iterator[Finding]:
    for path in _open_to_others(output):
        yield Finding(path=str(path), problem="is readable by others", mendable=True)


def _open_to_others(output: Path) -> list[Path]:
    """What of `_state` is not private."""
    state = output / "_state"
    every = [state, *sorted(state.rglob("*"))]
    return [path for path in every if not path.is_symlink() and path.stat().st_mode & 0o077]
