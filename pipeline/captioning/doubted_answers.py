"""Answers that are no longer trusted: something else came on the connection that they came on.

Which of the two was ours cannot be known, so their images are asked again and the new answer
takes the old one's place. Images are loaded anew for that: what was sent is not kept.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.errors import ImageError
from pipeline.model import Image, Item

if TYPE_CHECKING:
    from pipeline.images.load import Images
    from pipeline.ratelimit.gate import Gate, Permit
    from pipeline.service.client import Client

_log = logging.getLogger("pipeline")
_NO_IMAGE = Image()


class Attempt:
    """One request on its way: called as it leaves, kept while its answer may be doubted."""

    __slots__ = ("_gate", "_permit", "items", "request_id")

    def __init__(
        self, gate: Gate, permit: Permit, items: tuple[Item, ...], request_id: str
    ) -> None:
        self._gate, self._permit = gate, permit
        self.items = tuple(
            item if item.image.data is None else replace(item, image=_NO_IMAGE) for item in items
        )
        self.request_id = request_id

    def __call__(self) -> None:
        self._gate.written(self._permit)


@dataclass(slots=True)
class Doubts:
    """What a run must ask again; one a run."""

    client: Client
    images: Images
    #: Key -> the request whose answer is in doubt.
    open: dict[str, str] = field(default_factory=dict)
    _connections: int = 0

    async def again(self, *, last: bool = False) -> list[Item]:
        """The images of answers that became doubtful since the last call, ready to be asked.

        last: nothing is under way any more; wait for bytes that are still on their way.
        """
        attempts = await self.client.last_look() if last else self.client.doubted()
        items: dict[str, Item] = {}
        for attempt in attempts:
            assert isinstance(attempt, Attempt)
            for item in attempt.items:
                self.open[item.asked.key] = attempt.request_id
                try:
                    items[item.asked.key] = await self._loaded(item)
                except ImageError as error:
                    _log.warning("%s: cannot be asked again: %s", item.asked.image, error.message)
        self._say(len(items))
        return list(items.values())

    async def _loaded(self, item: Item) -> Item:
        image = item.image
        if image.url is None:
            image = await self.images.load(item.source, inline=True)
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
            for key in keys:
                self.open.pop(key, None)

    def close(self) -> None:
        """At the end of the run: name what could not be asked again."""
        if self.open:
            requests = ", ".join(f"'{name}'" for name in sorted(set(self.open.values()))[:50])
            _log.warning(
                "%d captions came on a connection with more than one answer and could not be "
                'asked again in this run; do so with --redo "request_id IN (%s)"',
                len(self.open),
                requests,
            )


__all__ = ["Attempt", "Doubts"]
