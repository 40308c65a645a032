"""The checkpoint as the stories see it: what is settled, and a place to put what is new.

    async with open_checkpoint(output, …) as checkpoint:
        told = await checkpoint.reply(sent, reply)      # on disk when this returns

`reply` stores the raw answer before anything parses it; the records are then derived by a pure
function, here and again by recovery after a crash. Parts are published at least once a minute
and at the end; a publication that fails is put off and never fails an append.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import orjson
import pyarrow as pa

from pipeline import fs
from pipeline.aio import first_cause
from pipeline.checkpoint import codec, journal, parts
from pipeline.checkpoint.bodies import Bodies
from pipeline.checkpoint.journal import Journal, Part
from pipeline.checkpoint.keyset import KeySet
from pipeline.checkpoint.lock import locked
from pipeline.clock import Clock
from pipeline.errors import OutputError, UsageError
from pipeline.records import Derived, Record, Reply, RequestRow, Sent

#: Publish when so many records wait, or the oldest has waited so long.
PUBLISH_ROWS, PUBLISH_SECONDS = parts.PART_ROWS, 60.0

T = TypeVar("T")
Derive = Callable[[Sent, Reply], Derived]
_log = logging.getLogger("pipeline")


@dataclass(frozen=True, slots=True)
class _News:
    """What one journal entry brings."""

    records: tuple[Record, ...]
    row: RequestRow | None


@dataclass(slots=True)
class _Settled:
    """The keys that have a record: captions, and failures with their codes."""

    ok: KeySet = field(default_factory=KeySet)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        if record.status == "ok":
            self.ok.add(record.key)
            self.failed.pop(record.key, None)
        elif record.key not in self.ok:
            self.failed[record.key] = str(record.error_code)

    def state(self, key: str) -> str | None:
        """None, `ok`, or the failure's code."""
        return self.failed.get(key) or ("ok" if key in self.ok else None)


class Checkpoint:
    """One output, opened for writing by its one run. Made by `open_checkpoint`."""

    def __init__(self, output: Path, *, derive: Derive, clock: Clock, min_free: int) -> None:
        state = output / "_state"
        self._output, self._derive, self._clock, self._min_free = output, derive, clock, min_free
        self._journal = Journal(state / "journal.db")
        self._bodies = Bodies(state / "bodies", clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._settled = _Settled()
        #: Keys that had a record already when they were settled.
        self._replaced: set[str] = set()
        #: Journal entry -> what it brings, not yet published, and how many rows that is.
        self._news: dict[int, _News] = {}
        self._rows = 0
        #: A plan that is stored and not yet carried out to its end.
        self._plan: tuple[int, list[parts.Step]] | None = None
        self._publishing = asyncio.Lock()
        self._oldest = self._not_before = clock.monotonic()
        self._wake = asyncio.Event()
        self._look_again, self._full = float("-inf"), False
        self.closing = False

    def wake(self) -> None:
        """Let the publisher look again."""
        self._wake.set()

    # --- what is settled -----------------------------------------------------------------------

    def state(self, key: str) -> str | None:
        """None (never settled), `ok`, or the code of its failure."""
        return self._settled.state(key)

    def __len__(self) -> int:
        """How many keys have a record."""
        return len(self._settled.ok) + len(self._settled.failed)

    @property
    def captioned(self) -> int:
        """How many keys have a caption."""
        return len(self._settled.ok)

    # --- what is new ---------------------------------------------------------------------------

    async def reply(self, sent: Sent, reply: Reply) -> Derived:
        """Store an answer, raw; return what it settles once it is on disk. OutputError if not."""
        head = codec.sent_head(sent, reply)

        def landed(seq: int) -> Derived:
            told = self._derive(sent, reply)
            self._take(seq, told.records, told.row)
            if not told.records:
                self._bodies.keep(sent.request_id, reply)
            return told

        return await self._journal.append(journal.REPLY, head, reply.body, landed)

    async def no_reply(self, sent: Sent, row: RequestRow) -> None:
        """Store an attempt whose answer never came, as its line in the account book."""
        head = codec.sent_head(sent, None, row)
        await self._journal.append(journal.LOST, head, None, lambda seq: self._take(seq, (), row))

    async def settle(self, records: Sequence[Record]) -> None:
        """Store records that come from no reply."""
        kept = tuple(records)
        await self._journal.append(
            journal.RECORDS,
            codec.records_head(kept),
            None,
            lambda seq: self._take(seq, kept, None),
        )

    def full(self) -> bool:
        """Is the disk too full to ask for more? Looked at once a second."""
        now = self._clock.monotonic()
        if now >= self._look_again:
            self._look_again = now + 1.0
            self._full = fs.free_bytes(self._output) < self._min_free
        return self._full

    def _take(self, seq: int, records: tuple[Record, ...], row: RequestRow | None) -> None:
        for record in records:
            if self._settled.state(record.key) is not None:
                self._replaced.add(record.key)
            self._settled.add(record)
        if not self._news:
            self._oldest = self._clock.monotonic()
            self._wake.set()
        self._news[seq] = _News(records, row)
        self._rows += max(1, len(records))
        if self._rows >= PUBLISH_ROWS:
            self._wake.set()

    # --- publishing ----------------------------------------------------------------------------

    async def publish(self) -> None:
        """Publish everything that waits. OutputError or OSError when it cannot be."""
        async with self._publishing:
            if self._plan is not None:
                await self._carry_out(*self._plan)
            if not self._news:
                return
            upto = max(self._news)
            news = self._upto(upto)
            # A new failure never replaces a caption.
            for key in [key for key in news.failures if key in self._settled.ok]:
                del news.failures[key]
            replaced = self._replaced & (news.captions.keys() | news.failures.keys())
            published = await self._journal.call(journal.parts)
            where = await self._aside(parts.locate, self._output, published, replaced)
            steps = parts.make_plan(news, published, where)
            await self._journal.call(partial(_store_plan, upto=upto, steps=steps))
            self._plan = upto, steps
            await self._carry_out(upto, steps)

    async def _carry_out(self, upto: int, steps: Sequence[parts.Step]) -> None:
        """Write the files of a stored plan, in order, and mark it done. Idempotent."""
        news = self._upto(upto)
        for step in steps:
            part = await self._aside(parts.write_step, self._output, step, news)
            await self._journal.call(partial(_mark_part, step=step, part=part))
        await self._journal.call(partial(_mark_done, upto=upto))
        self._plan = None
        for seq in [seq for seq in self._news if seq <= upto]:
            del self._news[seq]
        for step in steps:
            self._replaced.difference_update(step.put)
        self._rows = sum(max(1, len(one.records)) for one in self._news.values())
        self._oldest = self._clock.monotonic()

    def _upto(self, upto: int) -> parts.News:
        taken = [self._news[seq] for seq in sorted(self._news) if seq <= upto]
        return parts.news_of(
            (record for one in taken for record in one.records),
            (one.row for one in taken if one.row is not None),
        )

    async def _aside(self, act: Callable[..., T], *arguments: object) -> T:
        """Heavy file work in the publishing thread: one at a time, never on the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, act, *arguments)

    def _due(self) -> float | None:
        """Seconds until the next publication is due; None while there is nothing new."""
        if not self._news:
            return None
        now = self._clock.monotonic()
        wait = 0.0 if self._rows >= PUBLISH_ROWS else self._oldest + PUBLISH_SECONDS - now
        return max(wait, self._not_before - now)

    async def keep_publishing(self) -> None:
        """Publish once a minute while something is new, or when a part's worth waits."""
        while not self.closing:
            due = self._due()
            if due is None or due > 0:
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await self._wake.wait()
                continue
            try:
                await self.publish()
            except (OSError, OutputError, pa.ArrowException) as error:
                _log.warning("parts wait, the answers are safe in the journal: %s", error)
                self._not_before = self._clock.monotonic() + PUBLISH_SECONDS

    # --- opening -------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Check the parts, load what is settled, derive again what the journal holds.

        Publishes nothing: a full disk must not keep the journal from opening.
        """
        published = await self._journal.call(journal.parts)
        self._plan = await self._journal.call(_load_plan)
        planned = {(step.folder, step.name) for step in self._plan[1]} if self._plan else set()
        await self._aside(parts.tidy, self._output, published, planned)
        await self._aside(self._load)
        for seq, kind, head, body in await self._journal.call(journal.entries):
            self._take(seq, *self._read(kind, head, body))

    def _load(self) -> None:
        for path in sorted((self._output / parts.CAPTIONS).glob("*.parquet")):
            for key in parts.read_part(path, ["key"]).column("key").to_pylist():
                self._settled.ok.add(key)
        for path in sorted((self._output / parts.FAILURES).glob("*.parquet")):
            table = parts.read_part(path, ["key", "error_code"])
            keys, codes = table.column("key").to_pylist(), table.column("error_code").to_pylist()
            self._settled.failed.update(zip(keys, codes, strict=True))

    def _read(
        self, kind: int, head: bytes, body: bytes | None
    ) -> tuple[tuple[Record, ...], RequestRow | None]:
        if kind == journal.REPLY:
            told = self._derive(*codec.read_reply(head, body))
            return told.records, told.row
        if kind == journal.RECORDS:
            return codec.read_records(head), None
        return (), codec.read_row(head)

    async def finish(self) -> None:
        """Publish everything now; OutputError when it cannot be."""
        try:
            await self.publish()
        except (OSError, pa.ArrowException) as error:
            raise OutputError(
                f"{self._output}: parts cannot be written ({error}); the answers are safe in the "
                "journal: make room and run again"
            ) from error

    async def close(self) -> None:
        """Publish what waits and let go of everything."""
        try:
            await self.finish()
        finally:
            await self._journal.close()
            self._thread.shutdown()

    async def redo_keys(self, predicate: str | None) -> frozenset[str]:
        """Keys of captions that an SQL predicate on their columns chooses; UsageError if it is bad."""
        if predicate is None:
            return frozenset()
        return await self._aside(chosen, self._output, predicate)


def chosen(output: Path, predicate: str) -> frozenset[str]:
    """Keys of the published captions for which `predicate` holds."""
    import duckdb

    paths = sorted(str(path) for path in (output / parts.CAPTIONS).glob("*.parquet"))
    if not paths:
        return frozenset()
    with duckdb.connect() as db:
        try:
            relation = db.read_parquet(paths)
            found = relation.filter(predicate).project("key").fetchall()
        except duckdb.Error as error:
            words = str(error).splitlines()[0]
            raise UsageError(f"--redo: {words}") from None
    return frozenset(key for (key,) in found)


def _store_plan(db: sqlite3.Connection, *, upto: int, steps: Sequence[parts.Step]) -> None:
    plan = orjson.dumps({"upto": upto, "steps": [step.plain() for step in steps]})
    journal.transaction(db, ("INSERT OR REPLACE INTO meta VALUES ('plan', ?)", (plan,)))


def _load_plan(db: sqlite3.Connection) -> tuple[int, list[parts.Step]] | None:
    found = db.execute("SELECT value FROM meta WHERE name = 'plan'").fetchone()
    if found is None:
        return None
    plan = orjson.loads(found[0])
    return plan["upto"], [parts.step_of(step) for step in plan["steps"]]


def _mark_part(db: sqlite3.Connection, *, step: parts.Step, part: Part | None) -> None:
    if part is None:
        gone = "DELETE FROM parts WHERE folder = ? AND name = ?"
        journal.transaction(db, (gone, (step.folder, step.name)))
        return
    journal.transaction(
        db,
        (
            "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)",
            (part.folder, part.name, part.rows, part.sha256, part.size, part.mtime_ns),
        ),
    )


def _mark_done(db: sqlite3.Connection, *, upto: int) -> None:
    journal.transaction(
        db,
        ("DELETE FROM entries WHERE seq <= ?", (upto,)),
        ("DELETE FROM meta WHERE name = 'plan'", ()),
    )


@asynccontextmanager
async def open_checkpoint(
    output: Path, *, derive: Derive, clock: Clock, min_free: int = 0
) -> AsyncIterator[Checkpoint]:
    """Hold an output for writing; recover first, publish everything at the end.

    Held (76) when another run has it, OutputError (73) when it cannot be written or does not
    verify.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        fs.make_private_dir(output / "_state")
        for folder in parts.FOLDERS:
            (output / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: this folder cannot be written ({error.strerror})") from error
    with locked(output / "_state" / "lock", now=clock.now()):
        checkpoint = Checkpoint(output, derive=derive, clock=clock, min_free=min_free)
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await checkpoint.recover()
                    group.create_task(checkpoint.keep_publishing())
                    yield checkpoint
                finally:
                    checkpoint.closing = True
                    checkpoint.wake()
        except BaseExceptionGroup as failed:
            raise first_cause(failed) from None
        finally:
            await checkpoint.close()
