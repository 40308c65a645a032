"""Answers that are no longer trusted: something else came on the connection that they came on.

Which of the two was ours cannot be known, so their captions are withdrawn: each becomes a failure
(`doubted`), on disk before anything else happens, which this run asks again, or the next one.
Images are loaded anew for that: what was sent is not kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.clock import micros
from pipeline.errors import ImageError
from pipeline.model import DOUBTED, Image, Item, Record, Sent

if TYPE_CHECKING:
    from pipeline.images.load import Images
    from pipeline.ratelimit.protocol import RequestGate
    from pipeline.ratelimit.rules.base import Permit
    from pipeline.service.client import Client
    from pipeline.store.store import Checkpoint

_log = logging.getLogger("pipeline")
_NO_IMAGE = Image()


class Attempt:
    """One request on its way: called as it leaves, kept while its answer may be doubted."""

    __slots__ = ("_gate", "_permit", "items", "sent")

    def __init__(
        self, gate: RequestGate, permit: Permit, items: tuple[Item, ...], sent: Sent
    ) -> None:
        self._gate, self._permit = gate, permit
        self.items = tuple(
            item if item.image.data is None else replace(item, image=_NO_IMAGE) for item in items
        )
        self.sent = sent

    def __call__(self) -> None:
        self._gate.written(self._permit)

    def withdrawn(self, item: Item, at: int) -> Record:
        """What takes the place of an image's record. at: µs since the epoch."""
        asked, sent = item.asked, self.sent
        return Record(
            key=asked.key,
            recipe=sent.recipe,
            id=asked.id,
            image=asked.image,
            caption=None,
            status="failed",
            error_code=DOUBTED,
            error="more than one answer came on the connection of this image's answer",
            flags=asked.flags,
            prompt_id=asked.prompt_id,
            model=sent.model,
            request_id=sent.request_id,
            attempts=asked.attempts,
            pack_size=len(sent.items),
            image_sha256=asked.image_sha256,
            width=asked.width,
            height=asked.height,
            sent_width=asked.sent_width,
            sent_height=asked.sent_height,
            run_id=sent.run_id,
            finished_at=at,
        )


@dataclass(slots=True)
class Doubts:
    """What a run must ask again; one a run."""

    client: Client
    images: Images
    checkpoint: Checkpoint
    #: Keys that have no other answer yet.
    open: set[str] = field(default_factory=set)
    _connections: int = 0

    async def arise(self) -> None:
        """Wait until an answer becomes doubtful."""
        await self.client.doubt()

    async def again(self, *, last: bool = False) -> list[Item]:
        """The images of answers that became doubtful since the last call, ready to be asked.

        last: nothing is under way any more; wait for bytes that are still on their way.
        """
        items = []
        for item in await self._withdraw(last=last):
            try:
                items.append(await self._loaded(item))
            except ImageError as error:
                _log.warning("%s: cannot be asked again: %s", item.asked.image, error.message)
        return items

    async def _withdraw(self, *, last: bool) -> list[Item]:
        """The images of answers that became doubtful; no longer captioned, durably."""
        doubted = await self.client.last_look() if last else self.client.doubted()
        items: dict[str, Item] = {}
        records: dict[str, Record] = {}
        now = micros(self.client.clock.now())
        for attempt in doubted:
            assert isinstance(attempt, Attempt)
            if attempt.sent.form != "audit":  # that one was only compared
                for item in attempt.items:
                    items[item.asked.key] = item
                    records[item.asked.key] = attempt.withdrawn(item, now)
        if records:
            await self.checkpoint.settle(list(records.values()))
        self.open |= items.keys()
        self._say(len(items))
        return list(items.values())

    async def _loaded(self, item: Item) -> Item:
        image = item.image
        if image.url is None:
            image = await self.images.load(item.source, inline=True)
            if image.sha256 != item.asked.image_sha256:
                raise ImageError("missing_file", "the picture is another one now")
        return replace(item, image=image, asked=replace(item.asked, attempts=1))

    def _say(self, images: int) -> None:
        from pipeline.service.exchange import TRUSTED_AGAIN

        spoiled = self.client.spoiled
        if spoiled == self._connections:
            return
        before, self._connections = self._connections, spoiled
        _log.warning(
            "the service sent more than one answer on a connection (%d so far): %d images whose "
            "answers came on it are asked again",
            spoiled,
            images,
        )
        if before < TRUSTED_AGAIN <= spoiled:
            _log.warning(
                "from now on each request has a connection of its own; is there a broken gateway "
                "or proxy before the service?"
            )

    def answered(self, keys: list[str]) -> None:
        """These images have a new answer."""
        if self.open:
            self.open.difference_update(keys)

    async def close(self) -> None:
        """At the end of the run, however it ends: withdraw what became doubtful last."""
        await self._withdraw(last=True)
        if self.open:
            _log.warning(
                "%d images whose answers came on a connection with more than one answer could not "
                "be asked again in this run; the next one does",
                len(self.open),
            )


__all__ = ["Attempt", "Doubts"]
