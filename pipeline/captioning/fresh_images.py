"""Images not asked yet, in a queue for each recipe, and how many of each fill the next request.

Those of one request are asked alike, so prompts with different names never share one. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.model import Item
from pipeline.packsize import cost
from pipeline.packsize.limits import PackLimits


@dataclass(slots=True)
class _Open:
    """The images measured so far for the next request."""

    count: int = 0
    tokens: int = cost.PACK_TOKENS
    size: int = 0
    full: bool = False


@dataclass(slots=True)
class _Queue:
    items: deque[Item] = field(default_factory=deque)
    open: _Open = field(default_factory=_Open)


class FreshImages:
    """Queues of images by recipe; mostly there is one."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def __len__(self) -> int:
        return sum(len(queue.items) for queue in self._queues.values())

    def append(self, item: Item) -> None:
        """An image that came."""
        self._queue(item).items.append(item)

    def put_back(self, items: Iterable[Item]) -> None:
        """Images of one request about which nothing is known travel before the others."""
        for item in reversed(tuple(items)):
            self._queue(item).items.appendleft(item)
        self.measure_anew()

    def _queue(self, item: Item) -> _Queue:
        if (queue := self._queues.get(item.recipe)) is None:
            queue = self._queues[item.recipe] = _Queue()
        return queue

    def measure_anew(self) -> None:
        """Limits or the order have changed."""
        for queue in self._queues.values():
            queue.open = _Open()

    def measure(self, limits: PackLimits, most: int) -> None:
        """Measure images until they fill a request or there are no more. most: of one request."""
        for queue in self._queues.values():
            _measure(queue, limits, most)

    @property
    def full(self) -> int:
        """Images of a request that is full; 0: none is."""
        return next((q.open.count for q in self._queues.values() if q.open.full), 0)

    @property
    def waiting(self) -> int:
        """Images of a request that is not full."""
        return next((q.open.count for q in self._queues.values() if q.items), 0)

    def take(self) -> tuple[Item, ...]:
        """The images of the request that `full`, or else `waiting`, is about."""
        queues = self._queues.values()
        queue = next((q for q in queues if q.open.full), None) or next(q for q in queues if q.items)
        items = tuple([queue.items.popleft() for _ in range(queue.open.count)])
        queue.open = _Open()
        return items


def _measure(queue: _Queue, limits: PackLimits, most: int) -> None:
    opened, fresh = queue.open, queue.items
    if most == 1 and fresh:
        opened.count, opened.full = 1, True  # it goes, however large it is
        return
    while not opened.full and opened.count < len(fresh):
        item = fresh[opened.count]
        tokens = opened.tokens + cost.item_tokens(item.image)
        if opened.count == 0 or item.prompt != fresh[opened.count - 1].prompt:
            tokens += cost.text_tokens(item.prompt)
        size = opened.size + cost.item_bytes(item.image)
        out = (opened.count + 1) * limits.caption_tokens
        over = tokens + limits.system_tokens > limits.tokens_in
        over = over or size > limits.raw_bytes or out > limits.tokens_out
        if over and opened.count:
            opened.full = True
            return
        opened.count, opened.tokens, opened.size = opened.count + 1, tokens, size
        # One image always goes, however large it is; what is over its limit is full.
        opened.full = over or opened.count >= most
