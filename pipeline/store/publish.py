"""What waits in the journal becomes parts: once a minute, when there is a part of it, at the end.

    stage (write aside, sync, read back) -> plan (its SHA-256 into the journal) -> name it ->
    sync the folder -> next file … -> mark all, and the entries as published -> delete them

Small parts are put together at the end of a run, and when there are many:

    stage -> plan (it and the old ones) -> delete the old ones -> sync the folder -> name it ->
    sync the folder -> mark

All file work happens in a thread of its own and outside any transaction; deleting goes in small
steps, so that appends come first. A publication that fails is put off and tried again with what
has come since; it never fails an append. Nothing has to be finished first: the next publication
looks up which of its keys the unfinished one has placed already, and replaces those in place.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import pyarrow as pa

from pipeline.clock import Clock
from pipeline.errors import Held, OutputError
from pipeline.memory import give_back
from pipeline.store import bodies, parts, tables
from pipeline.store.backlog import Backlog, Portion, Waiting
from pipeline.store.journal import Journal
from pipeline.store.lock import Lock
from pipeline.store.publish_plan import (
    CAPTIONS,
    FAILURES,
    FOLDERS,
    KEYS,
    PART_ROWS,
    REQUESTS,
    Place,
    Step,
    make_plan,
    mergeable,
    merges,
    name_of,
    news_of,
    next_number,
)
from pipeline.store.remote.replica import Replica
from pipeline.store.shards import joined_names, link_in
from pipeline.store.tables import Part

#: Longest that something new waits to be published.
PUBLISH_SECONDS = 60.0
#: Small parts of a folder above which they are put together while the run goes on: one a minute are
#: so many in eight hours.
MOST_SMALL = 500
#: Waiting records above which nothing more may be asked: publishing has failed for long.
BACKLOG = 50 * PART_ROWS
#: Waiting records above which it is waited for a publication that is under way: 0.7 KB each.
CROWDED = PART_ROWS * 3 // 2
#: Bytes of waiting texts that are published at once, and above which nothing more is asked
#: meanwhile: captions of usual length stay far below.
LONG_TEXTS = 32 * 2**20
#: Published entries deleted at once, between two commits.
_DELETED_AT_ONCE = 250
#: Bodies copied at once.
_BODIES_AT_ONCE = 8

P = ParamSpec("P")
T = TypeVar("T")
Marks = dict[str, set[str]]
_log = logging.getLogger("pipeline")


class Publisher:
    """Holds what is in the journal and in no part yet."""

    def __init__(
        self, output: Path, journal: Journal, lock: Lock, clock: Clock, replica: Replica | None
    ) -> None:
        self._output, self._journal, self._lock, self._clock = output, journal, lock, clock
        #: The shared output that follows this one, if any; is it behind?
        self._replica, self._behind = replica, replica is not None
        #: Set when this run no longer holds the output.
        self.lost: OutputError | Held | None = None
        self._bodies = output / "_state" / "bodies"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._waiting = Backlog()
        #: Keys that may stand in a published part already, by folder.
        self._marks: Marks = {CAPTIONS: set(), FAILURES: set()}
        self._one = asyncio.Lock()
        self._oldest = self._not_before = clock.monotonic()
        self._wake = asyncio.Event()
        self._closing = False
        #: Is a publication under way? Did the last one fail?
        self._writing = self._failed = False
        #: Set when one ends, well or not.
        self._written = asyncio.Event()

    @property
    def overdue(self) -> bool:
        """Does much wait because publishing has failed for long? One that is slow is waited for."""
        waiting = self._waiting
        return self._failed and (waiting.size > BACKLOG or waiting.text > 8 * LONG_TEXTS)

    @property
    def crowded(self) -> bool:
        """Does too much wait for a publication that is under way?"""
        waiting = self._waiting
        return self._writing and (waiting.size > CROWDED or waiting.text > 2 * LONG_TEXTS)

    async def room(self) -> None:
        """Wait while it is crowded. A publication that fails is not waited for."""
        while self.crowded:
            self._written.clear()
            await self._written.wait()

    async def aside(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Heavy file work: in the publishing thread, one at a time, never on the loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(act, *args, **kwargs))

    # --- opening -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find every part as the journal knows it. OutputError names one that is not."""
        await self._settle_planned()
        await self._settle_merge()
        published = await self._journal.call(tables.parts)
        await self.aside(parts.tidy, self._output, published)
        await self.aside(bodies.prune, self._bodies, now=self._clock.now())
        if self._replica is not None:
            await self._replica.mend(self.aside)

    async def _settle_planned(self) -> None:
        """After an unfinished publication: which planned files did get their name?"""
        planned = await self._journal.call(tables.parts, "planned")
        if planned:
            published = await self._journal.call(tables.parts)
            named = await self.aside(parts.resolve, self._output, published, planned)
            await self._journal.call(tables.mark_parts, named)

    async def _settle_merge(self) -> None:
        """Finish putting parts together where that was cut short, or give it up."""
        if merge := await self._journal.call(tables.merging):
            await self.confirm()
            done = await self.aside(parts.resume_swap, self._output, *merge)
            await self._journal.call(tables.mark_merge, done=done)

    # --- what waits ----------------------------------------------------------------------------

    def add(self, waiting: Waiting, replaced: Sequence[tuple[str, str]]) -> None:
        """Take what an entry brings. replaced: (folder, key) that may hold an older record."""
        for folder, key in replaced:
            self._marks[folder].add(key)
        if not self._waiting:
            self._oldest = self._clock.monotonic()
            self._wake.set()
        self._waiting.add(waiting)
        if self._full():
            self._wake.set()

    def _full(self) -> bool:
        """Is there enough for a part, in rows or in bytes?"""
        return self._waiting.size >= PART_ROWS or self._waiting.text >= LONG_TEXTS

    def _due(self) -> float | None:
        """Seconds until the next publication is due; None while there is nothing new."""
        if not self._waiting:
            return max(0.0, self._not_before - self._clock.monotonic()) if self._behind else None
        now = self._clock.monotonic()
        wait = 0.0 if self._full() else self._oldest + PUBLISH_SECONDS - now
        return max(wait, self._not_before - now)

    async def keep_publishing(self) -> None:
        """Publish whenever it is due, until `stop`."""
        while not self._closing:
            due = self._due()
            if due is None or due > 0:
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await self._wake.wait()
                continue
            try:
                await self.publish()
            except Held as error:
                self.lost = error
            except (OSError, OutputError, pa.ArrowException) as error:
                await self._put_off(error)
            if self.lost is not None:
                _log.error("%s", self.lost)
                self._not_before = float("inf")

    async def _put_off(self, error: Exception) -> None:
        """Try again later what could not be published, unless the output is lost."""
        try:
            await self._journal.confirm()
        except (OutputError, Held) as gone:
            self.lost = self.lost or gone
        if self.lost is None:
            _log.warning("parts wait, the answers are safe in the journal: %s", error)
            self._not_before = self._clock.monotonic() + PUBLISH_SECONDS

    def stop(self) -> None:
        """Let `keep_publishing` end."""
        self._closing = True
        self._wake.set()

    # --- publishing ----------------------------------------------------------------------------

    async def publish(self) -> None:
        """Publish everything that waits now. OutputError or OSError when it cannot be."""
        async with self._one, self._noting():
            await self._settle_merge()
            # The journal knows: the last time may have been cancelled just before it told us.
            self._waiting.drop(await self._journal.call(tables.published))
            if not self._waiting:
                await self._push()
                return
            await self.confirm()
            begun, taken = self._clock.monotonic(), self._waiting.all()
            marks, self._marks = self._marks, {CAPTIONS: set(), FAILURES: set()}
            try:
                named = await self._write(taken, marks)
                await self._journal.call(tables.mark_parts, named, upto=taken[-1].last)
                self._waiting.drop(taken[-1].last)
            except BaseException:
                for folder, keys in marks.items():
                    self._marks[folder] |= keys
                raise
            self._oldest = begun
            while await self._journal.call(tables.forget_entries, _DELETED_AT_ONCE):
                pass
            del taken
            await self.aside(give_back)
            await self._push()
            if await self._many():
                await self._put_together()

    async def _many(self) -> bool:
        """Are there too many small parts for a run that goes on?"""
        small = mergeable(await self._journal.call(tables.parts))
        return max(Counter(part.folder for part in small).values(), default=0) > MOST_SMALL

    @asynccontextmanager
    async def _noting(self) -> AsyncIterator[None]:
        """Note that a publication is under way, and how it ended. From its first step on, so that
        nobody asks between two of them."""
        self._writing = True
        try:
            yield
            self._failed = False
        except Exception:
            self._failed = True
            raise
        finally:
            self._writing = False
            self._written.set()

    async def put_together(self) -> None:
        """Make few parts of many small ones. OutputError or OSError when it cannot be; then all
        are as they were, or the next opening finishes it."""
        async with self._one:
            await self._settle_merge()
            await self._put_together()

    async def _put_together(self) -> None:
        published = await self._journal.call(tables.parts)
        sizes = await self.aside(parts.sizes_of, self._output, mergeable(published))
        for place, old in merges(published, sizes):
            new = await self.aside(parts.stage_merged, self._output, place, old)
            await self._replace(new, old)
        await self._push()

    async def take_part(self, shard: Path, part: Part) -> None:
        """Take a shard's part for one of this output, unless it was taken before."""
        async with self._one:
            published = await self._journal.call(tables.parts)
            taken = {p.name: p.sha256 for p in published if p.folder == part.folder}
            names = joined_names(shard, part)
            if part.sha256 in [taken.get(name) for name in names]:
                return
            name = names[names[0] in taken]
            # What takes its name is known first; a link keeps the bytes and their time.
            await self._journal.call(tables.plan_part, replace(part, name=name))
            await self.confirm()
            new = await self.aside(link_in, self._output, shard, part, name)
            await self._journal.call(tables.mark_taken, new)

    async def give_up(self) -> None:
        """Let all parts go, for the output that has taken them: one without rows takes their place."""
        async with self._one:
            await self._settle_merge()
            published = await self._journal.call(tables.parts)
            for folder in FOLDERS:
                old = [part for part in published if part.folder == folder]
                if not sum(part.rows for part in old):
                    continue
                place = folder, name_of(next_number(old, folder))
                new = await self.aside(parts.stage_empty, self._output, place)
                await self._replace(new, old)
            await self._push()

    async def _replace(self, new: Part, old: Sequence[Part]) -> None:
        """Let a part that lies aside take the place of others."""
        await self._journal.call(tables.plan_merge, new, old)
        await self.confirm()
        await self.aside(parts.swap, self._output, new, old)
        await self._journal.call(tables.mark_merge, done=True)

    async def confirm(self) -> None:
        """Does this run still hold the output? OutputError or Held when it does not."""
        try:
            await self.aside(self._lock.confirm)
        except (OutputError, Held) as error:
            self.lost = error
            raise

    async def _push(self) -> None:
        """Let the shared output follow."""
        if self._replica is not None:
            self._behind = True
            await self._replica.push(self.aside)
            self._behind = False

    async def _write(self, taken: Sequence[Portion], marks: Marks) -> list[Part]:
        """Write all files of one publication, in order."""
        await self._settle_planned()
        suspects = {part.place for part in await self._journal.call(tables.parts, "planned")}
        published = await self._journal.call(tables.parts)
        steps = await self.aside(_plan, self._output, taken, published, marks, suspects)
        await self._keep_bodies([seq for portion in taken for seq in portion.kept])
        known = {part.place: part for part in published}
        named = []
        for step in steps:
            base = known.get((step.folder, step.name))
            part = await self.aside(parts.stage, self._output, step, base)
            await self._journal.call(tables.plan_part, part)
            await self.confirm()
            await self.aside(parts.give_name, self._output, part)
            named.append(part)
        return named

    async def _keep_bodies(self, seqs: Sequence[int]) -> None:
        if not seqs:
            return
        now, left = self._clock.now(), list(seqs)
        while left:
            file = await self.aside(bodies.BodyFile, self._bodies, now=now, number=left[0])
            try:
                while left and file.size < bodies.FILE_BYTES:
                    batch, left = left[:_BODIES_AT_ONCE], left[_BODIES_AT_ONCE:]
                    await self.aside(file.add, await self._journal.call(tables.some_bodies, batch))
            finally:
                await self.aside(file.close)
            await self.aside(bodies.prune, self._bodies, now=now)

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown()


def _plan(
    output: Path,
    taken: Sequence[Portion],
    published: Sequence[Part],
    marks: Marks,
    suspects: set[Place],
) -> list[Step]:
    """What to write. suspects: parts that an unfinished publication may have written."""
    news = news_of(taken)
    settled, requests = set[str](), set[str]()
    if suspects or any(marks.values()):
        settled = {key for portion in taken for key in portion.records["key"].to_pylist()}
    if suspects:
        requests = set(news[REQUESTS][KEYS[REQUESTS]].to_pylist())
    wanted: dict[Place, set[str]] = {}
    for part in published:
        if part.place in suspects:
            wanted[part.place] = requests if part.folder == REQUESTS else settled
        elif part.folder != REQUESTS:
            wanted[part.place] = marks[part.folder] & settled
    return make_plan(news, published, parts.locate(output, published, wanted))
