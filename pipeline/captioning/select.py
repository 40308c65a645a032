"""Which rows to ask: the manifest streams by once, and each row is judged by its own key.

A row is asked when its key has not come before in this manifest and has no record yet, or has one
that this run was told to replace. Key, image and prompt come from one read of the row; nothing
about a row is remembered by its position, so a manifest that changes between two runs, or under a
run, can put no caption under another image's key.

A short manifest is counted by such a pass before the first request. Of a long one the counts are
estimates until its last row has been read.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Container, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.aio import from_thread
from pipeline.captioning.naming import Naming
from pipeline.errors import CODES
from pipeline.manifest.row_counts import about_rows
from pipeline.model import Row
from pipeline.packsize.sample import spread_places
from pipeline.store.keys import KeyMap

if TYPE_CHECKING:
    from pipeline.captioning.inputs import JobInputs
    from pipeline.captioning.options import RunOptions
    from pipeline.manifest.open import Manifest
    from pipeline.store.store import Checkpoint

#: Rows that are counted before the first request: about 10 µs each.
COUNTED_ROWS = 10_000
#: A row and the 16 bytes of its key.
Candidate = tuple[Row, bytes]
State = Callable[[str], str | None]
Again = Callable[[str, str], bool]


@dataclass(slots=True, kw_only=True)
class Counts:
    """A manifest, counted against the records that the output holds."""

    rows: int = 0
    #: Distinct keys: of images, or of images and prompts where each image is asked with several.
    images: int = 0
    captioned: int = 0
    #: Code -> images that have a failure.
    failed: dict[str, int] = field(default_factory=dict)
    #: Images to ask.
    asked: int = 0
    #: False: an estimate, made before all rows were read.
    exact: bool = True
    #: True: these are the rows that were looked at, and there are more, nobody knows how many.
    more: bool = False


class Selector:
    """Chooses candidates and counts what passes by. One for each pass over a manifest."""

    def __init__(
        self,
        naming: Naming,
        state: State,
        again: Again,
        *,
        positions: Container[int] | None = None,
        elsewhere: KeyMap | None = None,
    ) -> None:
        """positions: of all candidates, those to choose, by number; None: all. elsewhere: keys that
        another shard asks."""
        self._naming, self._state, self._again, self._positions = naming, state, again, positions
        self._elsewhere = elsewhere
        self._seen = KeyMap()
        self._candidates = 0
        self.counts = Counts()
        #: Failures of places whose pictures were read since, and have a key of their own.
        self.outdated: set[str] = set()
        #: The first row whose key has a caption.
        self.captioned: Candidate | None = None

    def named(self, batches: Iterator[list[Row]]) -> Iterator[list[Candidate]]:
        """The rows with their keys. Blocking: of pictures known by their bytes, files are looked
        at."""
        naming = self._naming
        for rows in batches:
            if len(naming.prompts) > 1:
                rows = [asked for row in rows for asked in naming.rows(row)]
            yield [(row, naming.key_bytes(row)) for row in rows]

    def choose(self, rows: list[Candidate], limit: int | None = None) -> list[Candidate]:
        """The rows to ask among these, at most `limit` over all calls."""
        counts, chosen = self.counts, []
        counts.rows += len(rows) // self._naming.prompts_per_row
        for row, raw in rows:
            key = raw.hex()
            if self._naming.contents is not None and isinstance(row.image, str) and not row.bad:
                place = self._naming.place_key(row).hex()
                if place != key and self._state(place) not in (None, "ok"):
                    self.outdated.add(place)
            if self._elsewhere is not None and key in self._elsewhere:
                continue
            if self._seen.set(key, "") is not None:
                continue
            counts.images += 1
            known = self._state(key)
            if known == "ok":
                counts.captioned += 1
                self.captioned = self.captioned or (row, raw)
            elif known is not None:
                counts.failed[known] = counts.failed.get(known, 0) + 1
            if (
                known is not None
                and not self._again(key, known)
                and not self._naming.changed(row, raw)
            ):
                continue
            number, self._candidates = self._candidates, self._candidates + 1
            if self._positions is not None and number not in self._positions:
                continue
            if limit is None or counts.asked < limit:
                counts.asked += 1
                chosen.append((row, raw))
        return chosen

    def takes(self, raw: bytes) -> bool:
        """Is a chosen row to be asked whose bytes gave it this key?"""
        key = raw.hex()
        if self._elsewhere is not None and key in self._elsewhere:
            return False
        if self._seen.set(key, "") is not None:
            return False
        known = self._state(key)
        return known is None or self._again(key, known)

    def among(self, rows: list[Candidate], keys: KeyMap) -> list[Candidate]:
        """The rows whose keys are among these and have not come before."""
        return [
            (row, raw)
            for row, raw in rows
            if keys.get(raw.hex()) == "" and not keys.set(raw.hex(), "came")
        ]


def asks_again(options: RunOptions, *chosen: Container[str]) -> Again:
    """(key, its state) -> ask it again? Transient failures always are, the rest when told.

    chosen: keys that are asked again whatever their state is.
    """

    def again(key: str, state: str) -> bool:
        if any(key in keys for keys in chosen):
            return True
        if state == "ok":
            return False
        return options.retry_failed or state in options.retry or not CODES.get(state, True)

    return again


def count(
    batches: Iterator[list[Row]], selector: Selector, *, limit: int | None, most: int | None = None
) -> Counts | None:
    """One pass over the manifest; None when it has more than `most` rows. Blocking."""
    for rows in selector.named(batches):
        selector.choose(rows, limit)
        if most is not None and selector.counts.rows > most:
            return None
    return selector.counts


class Selection:
    """What a run will ask: how much, and the rows themselves, as they are read."""

    def __init__(self, counts: Counts, selector: Selector, manifest: Manifest) -> None:
        #: As known before the first request.
        self.counts = counts
        #: True once every row of the manifest was read.
        self.complete = counts.exact
        self._selector, self._manifest = selector, manifest
        self._limit: int | None = None
        self._head: list[Candidate] = []
        self._stream: AsyncGenerator[list[Candidate], None] | None = None

    def limit_to(self, limit: int | None) -> None:
        """Choose no more than this."""
        self._limit = limit

    async def begin(self) -> bool:
        """Read up to the first row to ask, once; False when there is none."""
        if self._stream is None:
            self._stream = self._choose()
            self._head = await anext(self._stream, [])
        return bool(self._head)

    async def candidates(self) -> AsyncGenerator[list[Candidate], None]:
        """The rows to ask with their keys, in manifest order. ManifestError (65) when the manifest
        changes meanwhile."""
        assert self._stream is not None
        async with aclosing(self._stream):
            yield self._head
            self._head = []
            async for chosen in self._stream:
                yield chosen

    async def again(self, keys: KeyMap) -> AsyncGenerator[list[Candidate], None]:
        """The rows with these keys, once each, by another pass over the manifest."""
        async with aclosing(from_thread(self._named)) as batches:
            async for rows in batches:
                yield self._selector.among(rows, keys)

    def takes(self, raw: bytes) -> bool:
        """Is a chosen row to be asked whose bytes gave it this key?"""
        return self._selector.takes(raw)

    def _named(self) -> Iterator[list[Candidate]]:
        return self._selector.named(self._manifest.batches())

    async def close(self) -> None:
        """Stop reading."""
        if self._stream is not None:
            await self._stream.aclose()

    async def _choose(self) -> AsyncGenerator[list[Candidate], None]:
        counts = self._selector.counts
        async with aclosing(from_thread(self._named)) as batches:
            async for rows in batches:
                if chosen := self._selector.choose(rows, self._limit):
                    yield chosen
                if self._limit is not None and counts.asked >= self._limit:
                    return
        self.complete = True

    @property
    def captioned(self) -> Candidate | None:
        """A row that was captioned before, if one has been read."""
        return self._selector.captioned

    @property
    def seen(self) -> Counts:
        """What the rows read so far came to, each as it was when it was read."""
        return self._selector.counts


async def open_selection(
    inputs: JobInputs,
    checkpoint: Checkpoint,
    options: RunOptions,
    again: Again,
    rng: random.Random,
) -> Selection:
    """Count what is left, where that is quick or a pilot or a join needs it, and be ready to read it."""
    manifest, naming = inputs.manifest, inputs.naming

    def selector(positions: Container[int] | None = None) -> Selector:
        return Selector(
            naming, checkpoint.state, again, positions=positions, elsewhere=inputs.elsewhere
        )

    counts, positions = None, None
    # Whoever asks nothing reads no row otherwise.
    most = COUNTED_ROWS if options.pilot is None and not options.join else None
    if most is None or (manifest.rows or 0) <= most:
        counts = await asyncio.to_thread(
            count, manifest.batches(), selector(), limit=options.limit, most=most
        )
    if counts is None:
        about = manifest.file_rows
        if about is None:
            about = await asyncio.to_thread(about_rows, manifest.format, manifest.places)
        rows = max(about or 0, COUNTED_ROWS)
        counts = estimate(
            rows, checkpoint.counts(), options.limit, prompts_per_row=naming.prompts_per_row
        )
        counts.more = about is None and options.limit is None
    elif options.pilot is not None:
        each = naming.prompts_per_row  # an image with all its prompts: those of one stand together
        images = spread_places(-(-counts.asked // each), -(-options.pilot // each), rng)
        asked = (position * each + prompt for position in images for prompt in range(each))
        positions = frozenset(position for position in asked if position < counts.asked)
        counts.asked = len(positions)
    if naming.contents is not None and counts.asked:
        counts.exact = False  # pictures to be read may have a caption, or be copies
    selection = Selection(counts, selector(positions), manifest)
    selection.limit_to(counts.asked if counts.exact else options.limit)
    return selection


def estimate(
    rows: int, states: dict[str, int], limit: int | None, *, prompts_per_row: int = 1
) -> Counts:
    """The counts of a long manifest before it was read: each row an image of its own, each record of
    the output one of them. prompts_per_row: prompts that each is asked with. Pure."""
    failed, images = dict(states), rows * prompts_per_row
    captioned = min(images, failed.pop("ok", 0))
    left = max(1, images - captioned - sum(failed.values()))
    return Counts(
        rows=rows,
        images=images,
        captioned=captioned,
        failed=failed,
        asked=left if limit is None else min(limit, left),
        exact=False,
    )
