"""`verify`: the promises, checked on what is on disk, and what can be mended without guessing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import fs, schema
from pipeline.checkpoint import journal, parts
from pipeline.checkpoint.keyset import KeySet
from pipeline.errors import CODES, OutputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as promised."""

    path: str
    words: str
    #: Can `--repair` mend it?
    mendable: bool = False


def check_output(output: Path) -> list[Finding]:
    """Every promise that the disk can tell about; [] when all hold."""
    return [*_parts(output), *_records(output), *_modes(output)]


def repair(output: Path) -> list[str]:
    """Mend what needs no guessing: left-over temporary files, modes of `_state`. What was done."""
    done = []
    for folder in parts.FOLDERS:
        for path in (output / folder).glob(".part-*.tmp"):
            path.unlink()
            done.append(f"removed {path}")
    for path in [output / "_state", *(output / "_state").rglob("*")]:
        if path.stat().st_mode & 0o077:
            path.chmod(fs.PRIVATE_DIR if path.is_dir() else fs.PRIVATE_FILE)
            done.append(f"made private {path}")
    return done


def _known(output: Path) -> list[journal.Part] | None:
    path = output / "_state" / "journal.db"
    if not path.exists():
        return None
    db = sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, timeout=5)
    try:
        return journal.parts(db)
    finally:
        db.close()


def _parts(output: Path) -> Iterator[Finding]:
    try:
        known = _known(output)
    except sqlite3.Error as error:
        yield Finding(path=str(output / "_state" / "journal.db"), words=f"not readable: {error}")
        return
    if known is None:
        yield Finding(path=str(output), words="has no journal: is this the output of a job?")
        return
    names = {(part.folder, part.name) for part in known}
    for part in known:
        path = output / part.folder / part.name
        if not path.exists():
            yield Finding(path=str(path), words="a published part is missing")
        elif fs.sha256_file(path) != part.sha256:
            yield Finding(
                path=str(path), words=f"has changed since it was published (was {part.sha256})"
            )
    for folder in parts.FOLDERS:
        for path in sorted((output / folder).iterdir() if (output / folder).exists() else []):
            if path.name.endswith(".tmp"):
                yield Finding(path=str(path), words="left over by a crash", mendable=True)
            elif (folder, path.name) not in names:
                yield Finding(path=str(path), words="is no part that the journal knows")


def _records(output: Path) -> Iterator[Finding]:
    keys = KeySet()
    for folder, wanted in ((parts.CAPTIONS, "ok"), (parts.FAILURES, "failed")):
        for path in sorted((output / folder).glob("*.parquet")):
            try:
                held = pq.read_schema(path)
                table = parts.read_part(path, ["key", "caption", "status", "error_code"])
            except (OutputError, pa.ArrowException, OSError) as error:
                yield Finding(path=str(path), words=f"cannot be read: {error}")
                continue
            if not held.equals(schema.RECORDS):
                yield Finding(path=str(path), words="has another schema than records have")
            doubled = empty = odd = 0
            for row in table.to_pylist():
                doubled += not keys.add(row["key"])
                if wanted == "ok":
                    empty += not row["caption"]
                else:
                    odd += row["error_code"] not in CODES
                odd += row["status"] != wanted
            for count, words in (
                (doubled, "keys stand here a second time"),
                (empty, "captions are empty"),
                (odd, "records have the wrong status or no known error code"),
            ):
                if count:
                    yield Finding(path=str(path), words=f"{count} {words}")


def _modes(output: Path) -> Iterator[Finding]:
    state = output / "_state"
    if not state.exists():
        return
    for path in [state, *sorted(state.rglob("*"))]:
        if path.stat().st_mode & 0o077:
            yield Finding(path=str(path), words="is readable by others", mendable=True)
