"""The checkpoint as captioning sees it: what is settled, and a place to put what is new.

    async with open_checkpoint(output, …) as checkpoint:
        told, before = await checkpoint.reply(sent, reply)      # on disk when this returns

`reply` stores the raw answer before anything parses it; the records are then derived by a pure
function, here and again by recovery after a crash. A record of a key may be replaced by a later
one of the same key; a failure never replaces a caption, unless it withdraws it (`doubted`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pyarrow as pa

from pipeline import fs
from pipeline.aio import first_cause
from pipeline.clock import Clock
from pipeline.errors import Held, OutputError, remedy
from pipeline.memory import give_back
from pipeline.model import WITHDRAWN, Derived, Record, Reply, RequestRow, Sent
from pipeline.store import codec, parts, tables
from pipeline.store.backlog import Waiting
from pipeline.store.journal import Journal
from pipeline.store.keys import KeyMap
from pipeline.store.lock import Lock, locked
from pipeline.store.publish import Publisher
from pipeline.store.publish_plan import CAPTIONS, FAILURES, FOLDERS, REQUESTS
from pipeline.store.record_shape import is_fit, shape_of
from pipeline.store.record_states import load_new, states
from pipeline.store.redo import chosen
from pipeline.store.remote import owner
from pipeline.store.remote.filesystem import Store
from pipeline.store.remote.owner import Owner
from pipeline.store.remote.replica import Replica, pull
from pipeline.store.tables import Part

Derive = Callable[[Sent, Reply], Derived]
#: Of some keys: None (never settled), `ok`, or the code of the failure.
States = list[str | None]
#: (state of each record's key before, records, line of the account book).
Landed = Callable[[States, Sequence[Record], RequestRow | None], None]
#: Entries read back at once when an output is opened.
_RECOVERED_AT_ONCE = 200
_log = logging.getLogger("pipeline")


class Checkpoint:
    """One output, opened for writing by its one run. Made by `open_checkpoint`."""

    def __init__(
        self,
        output: Path,
        *,
        lock: Lock,
        derive: Derive,
        clock: Clock,
        min_free: int,
        shared: tuple[Store, Owner] | None = None,
    ) -> None:
        self._output, self._derive, self._clock, self._min_free = output, derive, clock, min_free
        self._journal = Journal(output / "_state" / "journal.db", lock)
        replica = Replica(output, *shared, self._journal) if shared else None
        self._publisher = Publisher(output, self._journal, lock, clock, replica)
        self._settled = KeyMap()
        #: Called with what each entry brings once it is on disk, also when its sender was cancelled
        #: meanwhile: whoever counts, counts here, so that what is shown is what is on disk.
        self.on_landed: Landed = _nobody
        self._look_again, self._low = float("-inf"), False

    # --- what is settled -----------------------------------------------------------------------

    def state(self, key: str) -> str | None:
        """None (never settled), `ok`, or the code of its failure."""
        word = self._settled.get(key)
        return None if word == WITHDRAWN else word

    def know(self, states: Mapping[str, str]) -> None:
        """Take keys for settled that have a record in another output: key -> state."""
        for key, state in states.items():
            if key not in self._settled:
                self._settled.set(key, state)

    def __len__(self) -> int:
        """How many keys have a record."""
        return len(self._settled)

    def counts(self) -> dict[str, int]:
        """How many keys are `ok`, and how many failed with each code."""
        return {word: n for word, n in self._settled.counts().items() if word != WITHDRAWN}

    @property
    def captioned(self) -> int:
        """How many keys have a caption."""
        return self.counts().get("ok", 0)

    # --- what is new ---------------------------------------------------------------------------

    async def reply(self, sent: Sent, reply: Reply) -> tuple[Derived, States]:
        """Store an answer, raw; return what it settles once it is on disk, and for each of its
        records the state of its key before. OutputError if it cannot be stored."""

        def landed(seq: int) -> tuple[Derived, States]:
            derived = self._derive(sent, reply)
            before = self._take(seq, derived.records, derived.row, asked=len(sent.items))
            self.on_landed(before, derived.records, derived.row)
            return derived, before

        head = codec.reply_head(sent, reply)
        return await self._journal.append(tables.REPLY, head, reply.body, landed)

    async def no_reply(self, sent: Sent, row: RequestRow) -> None:
        """Store an attempt whose answer never came, as its line in the account book."""

        def landed(seq: int) -> None:
            self._take(seq, (), row)
            self.on_landed([], (), row)

        await self._journal.append(tables.LOST, codec.row_head(sent, row), None, landed)

    async def settle(self, records: Sequence[Record]) -> States:
        """Store records that come from no reply; returns the state of each key before."""
        kept = tuple(records)

        def landed(seq: int) -> States:
            before = self._take(seq, kept)
            self.on_landed(before, kept, None)
            return before

        return await self._journal.append(tables.RECORDS, codec.records_head(kept), None, landed)

    async def withdraw(self, keys: Sequence[str]) -> None:
        """Take out the failures of these keys: what failed has another key now."""
        gone = [Record(key, "", None, "", None, "failed", WITHDRAWN) for key in keys]
        head = codec.records_head(gone)
        await self._journal.append(tables.RECORDS, head, None, lambda seq: self._take(seq, gone))

    async def idle(self) -> None:
        """Wait until everything appended so far has landed."""
        await self._journal.idle()

    @property
    def trouble(self) -> OutputError | Held | None:
        """Why nothing more may be asked, if something could not be written."""
        return self._journal.trouble or self._publisher.lost

    def full(self) -> OutputError | Held | None:
        """Why nothing more may be asked, and how to mend it; None while there is room."""
        now = self._clock.monotonic()
        if now >= self._look_again:
            self._look_again = now + 1.0
            with suppress(OSError):  # deleted: the next commit says so
                self._low = fs.free_bytes(self._output) < self._min_free
        if self.trouble is not None:
            return self.trouble
        if self._low:
            return OutputError(
                f"{self._output}: less than run.min_free ({self._min_free:,} bytes) is left on "
                "its disk: make room and run again"
            )
        if self._publisher.overdue:
            return OutputError(
                f"{self._output}: its parts could not be written for long (the log says why); the "
                "answers are safe in the journal: mend the folder and run again"
            )
        return None

    @property
    def crowded(self) -> bool:
        """Do answers come faster than they are published? Then ask nothing before `room`."""
        return self._publisher.crowded

    async def room(self) -> None:
        """Wait until it is no longer crowded: what waits is held in memory."""
        await self._publisher.room()

    def _take(
        self, seq: int, records: Sequence[Record], row: RequestRow | None = None, *, asked: int = 0
    ) -> States:
        """Know what a stored entry brings; returns the state of each record's key before.

        asked: images of its request, if it has a raw body.
        """
        kept, replaced, captioned, before = [], [], 0, []
        for record in records:
            word = "ok" if record.status == "ok" else str(record.error_code)
            unless = None if record.replaces("ok") else "ok"
            was = self._settled.set(record.key, word, unless=unless)
            before.append(was)
            if not record.replaces(was):
                continue
            captioned += word == "ok"
            if was is not None:
                replaced.append((CAPTIONS if was == "ok" else FAILURES, record.key))
            kept.append(record)
        waiting = Waiting(seq=seq, records=tuple(kept), row=row, keep=captioned < asked)
        self._publisher.add(waiting, replaced)
        return before

    # --- publishing, opening and closing -------------------------------------------------------

    async def finish(self) -> None:
        """Publish everything that has landed, and put small parts together; OutputError when it
        cannot be, Held when another run holds the output."""
        await self._journal.idle()
        try:
            await self._publisher.publish()
            await self._publisher.put_together()
        except (OSError, pa.ArrowException) as error:
            await self._journal.confirm()
            raise OutputError(
                f"{self._output}: parts cannot be written ({error}); the answers are safe in the "
                "journal: mend the folder or make room, and run again"
            ) from error

    # --- shards --------------------------------------------------------------------------------

    async def published(self) -> list[Part]:
        """All published parts, in order."""
        return await self._journal.call(tables.parts)

    async def take_part(self, shard: Path, part: Part) -> bool:
        """Take a shard's part as it is; False, and nothing done, where a key of it has a record
        here, or where it has other columns. OutputError when it cannot be read."""
        if part.folder != REQUESTS:
            path, aside = parts.path_of(shard, part.place), self._publisher.aside
            if not is_fit(path, await aside(shape_of, self._output)):
                return False
            if not await aside(load_new, path, part.folder, self._settled):
                return False
        await self._publisher.take_part(shard, part)
        return True

    async def publish(self) -> None:
        """Publish everything that has landed, and let a shared output follow."""
        await self._journal.idle()
        await self._publisher.publish()

    async def give_up(self) -> None:
        """Let all parts go, once another output has them."""
        await self._publisher.give_up()

    def settled_all(self) -> None:
        """Nothing more will be settled by this run: the memory of the keys is given back."""
        del self._settled
        give_back()

    async def fingerprint(self) -> str:
        """Of all published parts, byte for byte."""
        digest = hashlib.sha256()
        for part in await self._journal.call(tables.parts):
            digest.update(f"{part.folder}/{part.name} {part.sha256}\n".encode())
        return digest.hexdigest()

    async def redo_keys(self, predicate: str | None) -> KeyMap:
        """Keys of captions that an SQL predicate on their columns chooses; UsageError if it is bad."""
        if predicate is None:
            return KeyMap()
        return await self._publisher.aside(chosen, self._output, predicate)

    async def _recover(self) -> None:
        """Look at the parts, load what is settled, derive again what the journal holds.

        Publishes nothing: a full disk must not keep the journal from opening.
        """
        await self._publisher.open()
        self._settled = await self._publisher.aside(states, self._output)
        after = 0
        while entries := await self._journal.call(tables.some_entries, after, _RECOVERED_AT_ONCE):
            for seq, kind, head, body in entries:
                self._read(seq, kind, head, body)
            after = entries[-1][0]

    def _read(self, seq: int, kind: int, head: bytes, body: bytes | None) -> None:
        if kind == tables.REPLY:
            sent, reply = codec.read_reply(head, body)
            derived = self._derive(sent, reply)
            self._take(seq, derived.records, derived.row, asked=len(sent.items))
        elif kind == tables.RECORDS:
            self._take(seq, codec.read_records(head))
        else:
            self._take(seq, (), codec.read_row(head))

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Recover, publish in the background during the block and everything at its end."""
        await self._journal.open()
        try:
            await self._recover()
            ended_well = False
            try:
                async with _background(self._publisher.keep_publishing(), self._publisher.stop):
                    yield
                ended_well = True
            finally:
                try:
                    await self.finish()
                except (OutputError, Held) as error:
                    if ended_well:
                        raise
                    _log.error("%s", error)
        finally:
            await self._journal.close()
            self._publisher.close()


def _nobody(_before: States, _records: Sequence[Record], _row: RequestRow | None) -> None:
    """Nobody counts."""


@asynccontextmanager
async def _background(
    work: Coroutine[None, None, None], stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Run `work` beside the block, until `stop`; its failure ends the block."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(work)
            try:
                yield
            finally:
                stop()
    except BaseExceptionGroup as failed:
        raise first_cause(failed) from None


@asynccontextmanager
async def open_checkpoint(
    output: Path,
    *,
    derive: Derive,
    clock: Clock,
    min_free: int = 0,
    store: Store | None = None,
    take_over: bool = False,
) -> AsyncIterator[Checkpoint]:
    """Hold an output for writing; recover first, publish everything at the end.

    store: the shared output that `output` stands for on this machine. take_over: although
    another host owns it. Held (76) when another run or host has it, OutputError (73) when it
    cannot be written or does not verify.
    """
    shared = None
    with ExitStack() as stack:
        try:
            if store is None:
                owner.refuse_by_another_path(output)
            if store is not None and take_over:
                problem = await asyncio.to_thread(
                    owner.take_over, store, output, now=clock.now(), pull=pull
                )
                if problem is not None:
                    _log.warning("%s", problem)
            _make_folders(output)
            lock = stack.enter_context(locked(output / "_state" / "lock", now=clock.now()))
        except OSError as error:
            raise OutputError(
                f"{output}: this folder cannot be written ({error.strerror or error}){remedy(error)}"
            ) from error
        if store is not None:
            shared = store, await asyncio.to_thread(owner.claim, store, output, now=clock.now())
            stack.enter_context(owner.holding(store, lock))
        checkpoint = Checkpoint(
            output, lock=lock, derive=derive, clock=clock, min_free=min_free, shared=shared
        )
        async with checkpoint.opened():
            yield checkpoint


def _make_folders(output: Path) -> None:
    """All folders of an output, durable."""
    fs.make_dir(output)
    fs.make_private_dir(output / "_state")
    fs.make_private_dir(output / "_state" / "bodies")
    for folder in FOLDERS:
        fs.make_dir(output / folder)
