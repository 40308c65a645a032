"""Parts: plan, write aside, sync, read back, rename, sync the folder, mark.

A plan is stored in the journal before anything is written, and names for every file exactly
which records it takes, so that redoing it after a crash (at whatever point) ends in the same
files. Steps are ordered: a failure leaves `failures/` before its caption enters `captions/`, so
that a reader who globs both never meets a key twice.

Parts hold at most 10,000 records. The last one grows by being rewritten under its own name with
one rename; a record that is replaced rewrites the part that holds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import fs, schema
from pipeline.checkpoint.journal import Part
from pipeline.errors import OutputError
from pipeline.records import Record, RequestRow

PART_ROWS = 10_000
CAPTIONS, FAILURES, REQUESTS = "captions", "failures", "requests"
FOLDERS = (CAPTIONS, FAILURES, REQUESTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One file to write: what it holds, less the keys in `drop`, plus some of the new records."""

    folder: str
    name: str
    #: Keys (request ids) of the new records that enter this file.
    put: tuple[str, ...] = ()
    #: Keys to take out of the file.
    drop: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON for the journal."""
        return {"folder": self.folder, "name": self.name, "put": self.put, "drop": self.drop}


def step_of(plain: dict[str, Any]) -> Step:
    """A step back from its JSON."""
    return Step(
        folder=plain["folder"],
        name=plain["name"],
        put=tuple(plain["put"]),
        drop=tuple(plain["drop"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is to be published together, by key (request id); one record per key."""

    captions: dict[str, Record]
    failures: dict[str, Record]
    requests: dict[str, RequestRow]

    def of(self, folder: str) -> dict[str, Record] | dict[str, RequestRow]:
        """The new records of one folder."""
        if folder == REQUESTS:
            return self.requests
        return self.captions if folder == CAPTIONS else self.failures

    def table(self, step: Step) -> pa.Table:
        """The new records that a step puts into its file."""
        if step.folder == REQUESTS:
            return schema.requests_table([self.requests[key] for key in step.put])
        records = self.captions if step.folder == CAPTIONS else self.failures
        return schema.records_table([records[key] for key in step.put])


def news_of(records: Iterable[Record], rows: Iterable[RequestRow]) -> News:
    """One record per key: a caption beats a failure, else the later one wins."""
    best: dict[str, Record] = {}
    for record in records:
        old = best.get(record.key)
        if old is None or record.status == "ok" or old.status != "ok":
            best[record.key] = record
    return News(
        captions={key: r for key, r in best.items() if r.status == "ok"},
        failures={key: r for key, r in best.items() if r.status != "ok"},
        requests={row.request_id: row for row in rows},
    )


def make_plan(
    news: News, published: Sequence[Part], where: dict[str, tuple[str, str]]
) -> list[Step]:
    """The files to write, in order. Pure.

    published: the parts there are. where: key -> (folder, name) of the record that a new one
    replaces.
    """
    steps: list[Step] = []
    # 1. Out of failures/: keys that have a caption now.
    gone: dict[str, list[str]] = {}
    for key in news.captions:
        folder, name = where.get(key, ("", ""))
        if folder == FAILURES:
            gone.setdefault(name, []).append(key)
    steps += [Step(folder=FAILURES, name=n, drop=tuple(keys)) for n, keys in gone.items()]
    # 2. Replaced where they stand; the rest fills the last part and then new ones.
    for folder in FOLDERS:
        places: dict[str, list[str]] = {}
        fresh: list[str] = []
        for key in news.of(folder):
            held, name = where.get(key, ("", ""))
            (places.setdefault(name, []) if held == folder else fresh).append(key)
        steps += [Step(folder=folder, name=n, put=tuple(put)) for n, put in places.items()]
        steps += _fill(folder, fresh, [part for part in published if part.folder == folder])
    return steps


def _fill(folder: str, fresh: Sequence[str], published: Sequence[Part]) -> list[Step]:
    """Steps that put fresh records into the last part and new ones, 10,000 at most each."""
    steps: list[Step] = []
    last = max(published, key=lambda part: part.name, default=None)
    number = int(last.name[5:13]) if last is not None else 0
    start = min(max(0, PART_ROWS - last.rows), len(fresh)) if last is not None else 0
    if last is not None and start:
        steps.append(Step(folder=folder, name=last.name, put=tuple(fresh[:start])))
    for begin in range(start, len(fresh), PART_ROWS):
        number += 1
        put = tuple(fresh[begin : begin + PART_ROWS])
        steps.append(Step(folder=folder, name=f"part-{number:08d}.parquet", put=put))
    return steps


def write_step(output: Path, step: Step, news: News) -> Part | None:
    """Carry out one step; None when the file became empty and was removed. Idempotent.

    Raises OSError, or OutputError when the file read back is not what was written.
    """
    folder = output / step.folder
    final = folder / step.name
    column = "request_id" if step.folder == REQUESTS else "key"
    added = news.table(step)
    pieces = [added]
    if final.exists():
        held = read_part(final)
        mine = pa.array([*step.drop, *step.put], pa.string())
        keep = pc.invert(pc.is_in(held.column(column), value_set=mine))
        pieces = [held.filter(keep), added]
    whole = pa.concat_tables(pieces).replace_schema_metadata(schema.METADATA)
    if whole.num_rows == 0:
        final.unlink(missing_ok=True)
        fs.sync_dir(folder)
        return None
    data = encode(whole)
    tmp = folder / f".{step.name}.tmp"
    fs.write_tmp(tmp, data)
    digest = hashlib.sha256(data).hexdigest()
    if fs.sha256_file(tmp) != digest or pq.read_metadata(tmp).num_rows != whole.num_rows:
        raise OutputError(f"{tmp}: what was read back is not what was written; check the disk")
    fs.publish(tmp, final)
    stat = final.stat()
    return Part(
        folder=step.folder,
        name=step.name,
        rows=whole.num_rows,
        sha256=digest,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
    )


def encode(table: pa.Table) -> memoryview:
    """A table as the bytes of a Parquet file: zstd, page checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return memoryview(sink.getvalue())


def read_part(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read one part; OutputError names it when it is not readable."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"{path}: this part cannot be read ({error}); see verify") from error


def check_part(output: Path, part: Part) -> None:
    """OutputError when a published part is gone or not the same bytes; cheap if untouched."""
    path = output / part.folder / part.name
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise OutputError(
            f"{path}: a published part is missing; put it back, or remove {output} to start anew"
        ) from None
    if (stat.st_size, stat.st_mtime_ns) == (part.size, part.mtime_ns):
        return
    if fs.sha256_file(path) != part.sha256:
        raise OutputError(
            f"{path}: a published part has changed since it was written; "
            "put the original back (verify names its digest)"
        )


def locate(output: Path, published: Sequence[Part], keys: set[str]) -> dict[str, tuple[str, str]]:
    """Where the published records of these keys are: key -> (folder, name)."""
    found: dict[str, tuple[str, str]] = {}
    if not keys:
        return found
    wanted = pa.array(sorted(keys), pa.string())
    for part in published:
        if part.folder != REQUESTS:
            held = read_part(output / part.folder / part.name, ["key"]).column("key")
            for key in held.filter(pc.is_in(held, value_set=wanted)).to_pylist():
                found[key] = (part.folder, part.name)
    return found


def tidy(output: Path, published: Sequence[Part], planned: set[tuple[str, str]]) -> None:
    """Check every part and remove left-over temporary files.

    OutputError names a part that is missing, changed or unknown; nothing else is deleted.
    """
    known = {(part.folder, part.name) for part in published}
    for part in published:
        if (part.folder, part.name) not in planned:
            check_part(output, part)
    for folder in FOLDERS:
        for path in sorted((output / folder).iterdir()):
            if path.name.startswith(".part-") and path.name.endswith(".tmp"):
                path.unlink()
            elif path.suffix == ".parquet" and (folder, path.name) not in known | planned:
                raise OutputError(
                    f"{path}: this part is not one that the journal knows; "
                    "move it away, or choose another output.path"
                )
