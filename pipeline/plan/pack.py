"""What travels together: the pool of images on their way, and who leaves next.

Pure and synchronous: `stories/supply.py` does the waiting. Order is deterministic.

A refused pack holds at least one image that the service will not have. It is found by binary
search: one half is asked; if it passes, the culprit is in the other half, if it is refused, the
culprit is in it. Either way the half that must hold the culprit is never asked whole but halved
at once, and the half about which nothing is known goes back to the fresh images and travels
with them. (Asking both halves whole, plain halving, gives about 7.6 captions a request at 1 %
refused images and packs of 16; this gives about 8.9.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.plan import cost
from pipeline.records import Form, Item, Request
from pipeline.retry import Action, Kind, RetryDecision, Verdict

#: Raw image bytes in one request: 20 MB of body at the strictest upstream, base64 is 4/3 of it.
MAX_RAW_BYTES = 14_000_000
#: An image that a pack failed to answer this often travels alone.
ALONE_AFTER = 3

_REFUSALS = frozenset(
    {Kind.REFUSED, Kind.SAFETY, Kind.IMAGE_REJECTED, Kind.IMAGE_UNREACHABLE, Kind.BAD_REQUEST}
)
_TOO_MUCH = frozenset({Kind.TOO_LARGE, Kind.TOO_LONG, Kind.TRUNCATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLimits:
    """What one request may hold."""

    images: int = 1
    raw_bytes: int = MAX_RAW_BYTES
    #: Input tokens: the model's context less what it answers.
    tokens_in: int = 900_000
    #: Output tokens of one answer.
    tokens_out: int = 8_192


def limits_for(images: int, *, context: int | None, max_output: int | None) -> PackLimits:
    """Limits for a model with this context and longest answer (None: not known)."""
    output = max_output or 8_192
    return PackLimits(
        images=images,
        tokens_in=max(1, int((context or 1_000_000) * 0.9) - output),
        tokens_out=output,
    )


class Pool:
    """Images waiting to be asked. One a run; not thread-safe."""

    def __init__(self, limits: PackLimits, *, form: Form = "plain") -> None:
        self._limits = limits
        self._form: Form = "pack" if limits.images > 1 else form
        self._fresh: deque[Item] = deque()
        #: Groups that must hold a culprit: never asked whole.
        self._suspects: deque[tuple[Item, ...]] = deque()
        #: Groups to be asked as they are.
        self._ready: deque[tuple[Item, ...]] = deque()
        #: Asked half (its first key) -> the other half, which is guilty if this one is not.
        self._others: dict[str, tuple[Item, ...]] = {}
        #: Images whose attempts an outage may have used up: asked when nothing else is left.
        self._parked: deque[Item] = deque()

    def __len__(self) -> int:
        groups = (*self._suspects, *self._ready)
        return len(self._fresh) + len(self._parked) + sum(len(group) for group in groups)

    def add(self, item: Item) -> None:
        """A fresh image."""
        self._fresh.append(item)

    def take(self, *, ended: bool, idle: bool) -> Request | None:
        """The next request, or None while it is better to wait.

        ended: no fresh image will come. idle: nothing is in flight that might come back.
        """
        if self._suspects:
            group = self._suspects.popleft()
            if len(group) == 1:
                return self._request(group)
            half = len(group) // 2
            self._others[group[0].asked.key] = group[half:]
            return self._request(group[:half])
        if self._ready:
            return self._request(self._ready.popleft())
        count, full = self._fits()
        if count and (full or idle):
            return self._request(tuple(self._fresh.popleft() for _ in range(count)))
        if ended and idle and self._parked:
            return replace(self._request((self._parked.popleft(),)), parked=True)
        return None

    def done(
        self,
        request: Request,
        left: Sequence[Item] = (),
        decision: RetryDecision | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """A request came to its end; `left` are its images that have no record yet.

        verdict: of the last answer, also when it settled every image.
        """
        other = self._others.pop(request.items[0].asked.key, None)
        refused = verdict is not None and verdict.kind in _REFUSALS
        if other:
            # One of the two halves holds the culprit.
            if refused:
                self._fresh.extendleft(reversed(other))
            else:
                self._suspects.append(other)
        if not left:
            return
        if decision is not None and decision.action is Action.FAIL:
            self._parked.extend(left)
        elif refused and verdict is not None:
            self._refused(tuple(left), verdict.suspect)
        elif verdict is not None and verdict.kind in _TOO_MUCH and len(left) == len(request.items):
            half = len(left) // 2
            self._ready += (tuple(left[:half]), tuple(left[half:]))
        else:
            for item in left:
                if item.asked.attempts >= ALONE_AFTER:
                    self._ready.append((item,))
                else:
                    self._fresh.append(item)

    def _refused(self, group: tuple[Item, ...], suspect: int | None) -> None:
        if suspect is not None and 1 <= suspect <= len(group):
            self._ready.append((group[suspect - 1],))
            rest = (*group[: suspect - 1], *group[suspect:])
            self._fresh.extendleft(reversed(rest))
        else:
            self._suspects.append(group)

    def _fits(self) -> tuple[int, bool]:
        """How many fresh images fit one request, and whether that makes it full."""
        limits, tokens, size = self._limits, 0, 0
        for count, item in enumerate(self._fresh):
            tokens += cost.item_tokens(item.image)
            size += cost.item_bytes(item.image)
            out = (count + 1) * cost.CAPTION_TOKENS
            over = tokens > limits.tokens_in or size > limits.raw_bytes or out > limits.tokens_out
            if count and over:
                return count, True
            if count + 1 == limits.images:
                return count + 1, True
        return len(self._fresh), False

    def _request(self, items: tuple[Item, ...]) -> Request:
        return Request(
            items=items,
            form=self._form if len(items) > 1 or self._form != "pack" else "plain",
            tokens_in=sum(cost.item_tokens(item.image) for item in items)
            + cost.text_tokens(items[0].prompt),
            tokens_out=len(items) * cost.CAPTION_TOKENS,
        )
