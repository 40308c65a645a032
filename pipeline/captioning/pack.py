"""What travels together: the pool of images on their way, and who leaves next.

Pure and synchronous: `captioning/request_source.py` does the waiting. Order is deterministic: manifest
order, and what comes back goes to the front.

A refused pack holds at least one image that the service will not have; it is searched for by halves
(`captioning/culprits.py`). An image left over alone is still asked: its own refusal is its reason.
When it is answered, no image was the reason but the size, and packs stay below it.
A size that the service has not answered yet is tried by one pack at a time, so that what it
refuses is refused once.
Images settled in one request, at 1 % refused images: 8.9 by packs of 16, 10.9 by packs of 32;
when both halves are asked whole it is 7.6 and 7.8. (`auto.images_per_request` is the formula.)

Rows whose prompts differ may share a pack: each prompt then stands at its image
(`prompt_format.pack_label`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pipeline.captioning.culprits import Culprits, Group
from pipeline.captioning.fresh_images import FreshImages
from pipeline.captioning.retry import Action, RetryDecision
from pipeline.model import ASK_CAPTION, Form, Item, Request
from pipeline.packsize import cost
from pipeline.packsize.limits import PackLimits
from pipeline.verdict import Kind, Verdict

#: At this attempt an image that packs failed to answer travels alone.
ALONE_AFTER = 3
#: So many images missed at once at that attempt go in quarters first.
CROWD = 8
#: Packs in a row whose answers settled no image, after which packs become smaller.
BARREN = 2
#: Images answered in packs of a reduced size before the size grows again by a quarter.
GROW_AFTER = 32
#: Images that wait to be asked again for typed fields while there are fresh ones.
MOST_AGAIN = 64

_REFUSALS = frozenset(
    {Kind.REFUSED, Kind.SAFETY, Kind.IMAGE_REJECTED, Kind.IMAGE_UNREACHABLE, Kind.BAD_REQUEST}
)
#: The images were taken and an answer was written: none of them is refused.
_ANSWERED = frozenset({Kind.OK, Kind.TRUNCATED})
_CUT = frozenset({Kind.TRUNCATED, Kind.NO_ROOM})
_TOO_MUCH = frozenset({Kind.TOO_LARGE, Kind.TOO_LONG})
#: Answers that one image of a pack may break; searched for it once the pack's attempts are used.
_BROKEN = frozenset({Kind.TRANSIENT, Kind.EMPTY, Kind.MALFORMED})
#: Answers, good or bad, that tell whether packs of this size are understood.
_TELLING = frozenset({Kind.OK, Kind.TRUNCATED, Kind.EMPTY, Kind.MALFORMED})


class Pool:
    """Images waiting to be asked. One a run; not thread-safe."""

    def __init__(
        self,
        limits: PackLimits,
        *,
        form: Form = "plain",
        sizes: Iterable[int] = (),
        proven: int | None = None,
        on_limit: Callable[[str, int], None] = lambda _name, _limit: None,
        culprits: Culprits | None = None,
    ) -> None:
        """sizes: of the first packs, one after the other, as a pilot tries them. proven: images
        in a pack that the service is known to answer; None: any. on_limit: called with `images`,
        `unread` or `raw_bytes` and the most that the service takes, when that is learned.
        culprits: with what earlier runs have left of them."""
        self._limits = limits
        self._sizes = iter(sizes)
        #: Images in a pack now; smaller than `limits.images` while packs go unanswered.
        self._most = next(self._sizes, limits.images)
        #: Packs in a row that settled nothing, and images answered in packs of the size of now.
        self._fruitless_packs = self._streak = 0
        self._proven, self._on_limit = proven, on_limit
        #: First key of the pack under way that is larger than any that was answered.
        self._trial_key: str | None = None
        self._single: Form = "plain" if form == "pack" else form
        self._fresh = FreshImages()
        self._culprits = Culprits() if culprits is None else culprits
        #: Groups to be asked as they are.
        self._ready: deque[tuple[Item, ...]] = deque()
        self._audits: deque[Item] = deque()
        #: Images asked again for typed fields.
        self._again: deque[Item] = deque()
        #: Images asked again, alone, for another caption.
        self._seconds: deque[Item] = deque()
        #: Groups whose attempts an outage may have used up: asked when nothing else is left.
        self._parked: deque[tuple[Item, ...]] = deque()
        #: Keys of the images that were parked and are asked again.
        self._unparked: set[str] = set()

    def __len__(self) -> int:
        groups = (*self._ready, *self._parked)
        queues = (self._culprits, self._fresh, self._audits, self._again, self._seconds)
        return sum(len(queue) for queue in queues) + sum(len(group) for group in groups)

    def add(self, item: Item) -> None:
        """A fresh image, or one that is asked again about its record."""
        earlier = item.asked.earlier
        if earlier is None:
            if not self._culprits.take_in(item):
                self._fresh.append(item)
        else:
            (self._seconds if ASK_CAPTION in earlier.flags else self._again).append(item)

    def audit(self, item: Item) -> None:
        """An image that has its caption, to be asked again alone for comparison."""
        self._audits.append(item)

    def allow(self, images: int) -> None:
        """Packs of so many images from now on, as `auto.choose` says in the course of a run."""
        self._limits = replace(self._limits, images=min(images, self._limits.most))
        self._resize(images)

    @property
    def holding(self) -> bool:
        """Is the next pack ready, and waits for what becomes of the one that tries its size?"""
        return bool(self._fresh.full) and self._waits(self._fresh.full)

    def _untried(self, images: int) -> bool:
        """Is a pack under way that tries a size, and this one would be another?"""
        return self._trial_key is not None and images > max(1, self._proven or 0)

    def _waits(self, images: int) -> bool:
        """Must a pack of so many images wait, also until a search has told why one was refused?"""
        if self._proven is None or images <= max(1, self._proven):
            return False
        return self._trial_key is not None or self._culprits.size_in_doubt

    def take(self, *, ended: bool, idle: bool) -> Request | None:
        """The next request, or None while it is better to wait.

        ended: no fresh image will come. idle: nothing is in flight that might come back.
        """
        if ended:
            self._culprits.gathered_all()
        if (request := self._next_half(ended=ended)) is not None:
            return request
        if self._ready and not self._waits(len(self._ready[0])):
            return self._request(self._ready.popleft())
        if self._audits:
            return self._request((self._audits.popleft(),), form="audit")
        # A caption is worth more than a field, so these wait; but they hold their pictures.
        if len(self._again) >= max(MOST_AGAIN, self._most) or (
            idle and self._again and not self._fresh
        ):
            return self._request(self._fitting(self._again), form="again")
        if len(self._seconds) >= MOST_AGAIN or (idle and self._seconds and not self._fresh):
            return self._request((self._seconds.popleft(),), form="second")
        self._fresh.measure(self._limits, self._most)
        ready = self._fresh.full or (self._fresh.waiting if idle else 0)
        if ready and not self._waits(ready):
            items = self._fresh.take()
            if (size := next(self._sizes, None)) is not None:
                self._resize(size)
            return self._request(items)
        if ended and idle and self._parked:
            for group in self._parked:
                # One image may be what breaks the service: halves tell it from the others.
                self._ready += _halves(group)
                self._unparked.update(item.asked.key for item in group)
            self._parked.clear()
            return self._request(self._ready.popleft())
        return None

    def _next_half(self, *, ended: bool) -> Request | None:
        """The next request of a search, unless a fresh pack goes before it."""
        images = self._culprits.next_images
        if images is None or self._untried(images):
            return None
        self._fresh.measure(self._limits, self._most)
        ready = self._fresh.full and not self._waits(self._fresh.full)
        if (ready or not ended) and self._culprits.wait(coming=not ready):
            return None
        return self._request(self._culprits.halve())

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
        if request.form in ("audit", "again", "second"):
            return
        kind = verdict.kind if verdict is not None else None
        progress = len(left) < len(request.items)
        key = request.items[0].asked.key
        self._trial_key = None if self._trial_key == key else self._trial_key
        if self._proven is not None and kind in _ANSWERED and progress:
            self._proven = max(self._proven, len(request.items))
        searched = kind in _REFUSALS or (kind in _BROKEN and _splits(decision))
        half = self._culprits.other_half(request.items)
        if half is None and len(request.items) > 1 and (searched or kind in _ANSWERED):
            self._culprits.note(answered=not searched)
        other, refused = half or Group()
        if other and kind in _ANSWERED:
            self._suspect(request, Group(other, refused), other)
        elif other and left and not searched and kind not in _TOO_MUCH and not _gives_up(decision):
            # Nothing was learned: the culprit may still be in either half.
            self._suspect(request, Group((*left, *other), refused), other)
            return
        else:
            self._back(other)
        if refused and not other and kind in _ANSWERED:
            self._cap_below(refused)
        if kind in _TELLING:
            self._learn(request, progress=progress, written=kind in _ANSWERED)
        if not left:
            return
        if _gives_up(decision):
            self._parked.append(tuple(left))
        elif searched and verdict is not None:
            self._refused(request, tuple(left), verdict, other)
        elif verdict is not None and verdict.images is not None:
            self._back(left)
            self._limit_images(verdict.images)
        elif kind in _TOO_MUCH or (kind in _CUT and len(left) == len(request.items)):
            self._too_much(request, tuple(left), kind)
        else:
            self._ready += _apart([item for item in left if item.asked.attempts >= ALONE_AFTER])
            self._back(item for item in left if item.asked.attempts < ALONE_AFTER)

    def _back(self, items: Iterable[Item]) -> None:
        """Images about which nothing is known: they travel with the fresh ones, before them."""
        self._fresh.put_back(items)

    def _limit_images(self, images: int, why: str = "images") -> None:
        """The service takes no more images than so many; why: the limit's name."""
        if images < self._limits.most:
            fewer = min(images, self._limits.images)
            self._limits = replace(self._limits, images=fewer, most=images)
            self._on_limit(why, images)
            self._ready = deque(part for group in self._ready for part in _parts(group, images))
        self._resize(self._most)

    def _cap_below(self, refused: int) -> None:
        """A request of so many images was refused although each of them was answered."""
        if self._proven is not None and self._proven < refused:
            self._limit_images(max(1, self._proven))

    def _suspect(self, request: Request, group: Group, other: tuple[Item, ...]) -> None:
        """One of a group must be why a request was refused; other: the half that did not travel."""
        self._culprits.suspect(group, (*request.items, *other), proven=self._proven)

    def _refused(
        self,
        request: Request,
        left: tuple[Item, ...],
        verdict: Verdict,
        other: tuple[Item, ...],
    ) -> None:
        """Look for the culprit, or for the one that the service named (by its number, from 1)."""
        named, suspect = None, verdict.suspect
        if suspect is not None and 1 <= suspect <= len(request.items):
            named = request.items[suspect - 1].asked.key
        culprits = tuple(item for item in left if item.asked.key == named)
        if culprits:
            self._ready.append(culprits)
            self._back(item for item in left if item.asked.key != named)
        else:
            refused = len(request.items) if verdict.kind is Kind.BAD_REQUEST else 0
            self._suspect(request, Group(left, refused), other)

    def _too_much(self, request: Request, left: tuple[Item, ...], kind: Kind | None) -> None:
        """The pack was too much for the service: smaller ones from now on."""
        halves = _halves(left)
        size = max(sum(cost.item_bytes(item.image) for item in half) for half in halves)
        if kind is Kind.TOO_LARGE and size:
            if size < self._limits.raw_bytes:
                self._limits = replace(self._limits, raw_bytes=size)
                self._on_limit("raw_bytes", size)
            self._back(left)
        elif kind is Kind.TOO_LONG:
            tokens = max(self._tokens(half, "pack")[0] for half in halves)
            self._limits = replace(self._limits, tokens_in=min(self._limits.tokens_in, tokens))
            self._back(left)
        elif kind is Kind.TOO_LARGE:
            self._back(left)
            self._limit_images(max(1, len(request.items) // 2))
        else:
            self._ready += halves
            self._resize(min(self._most, len(request.items) // 2))
        self._fresh.measure_anew()

    def _learn(self, request: Request, *, progress: bool, written: bool) -> None:
        """Packs shrink while the model answers none of their images, and grow back slowly. Where
        none was read yet, what was `written` is not asked for twice: a quarter of the pack goes,
        and then images go alone."""
        if len(request.items) == 1 < self._most:
            return
        if not progress:
            self._streak, self._fruitless_packs = 0, self._fruitless_packs + 1
            unread = written and self._proven == 0
            if unread or self._fruitless_packs >= BARREN:
                self._fruitless_packs = 0
                smaller = self._most < self._limits.images
                quarter = 1 if smaller or self._most < 3 else max(2, self._most // 4)
                self._resize(quarter if unread else self._most // 2)
                if self._most == 1 and self._proven == 0:
                    self._limit_images(1, "unread")
            return
        self._fruitless_packs = 0
        if len(request.items) >= self._most < self._limits.images:
            self._streak += len(request.items)
            if self._streak >= GROW_AFTER:
                self._resize(self._most + max(1, self._most // 4))

    def _resize(self, images: int) -> None:
        self._most = max(1, min(self._limits.images, images))
        self._streak = 0
        self._fresh.measure_anew()

    def _fitting(self, queue: deque[Item]) -> tuple[Item, ...]:
        """The first images of a queue that one request holds; at least one, all asked alike."""
        items = [queue.popleft()]
        size = cost.item_bytes(items[0].image)
        while queue and len(items) < self._most and queue[0].recipe == items[0].recipe:
            size += cost.item_bytes(queue[0].image)
            if size > self._limits.raw_bytes:
                break
            items.append(queue.popleft())
        return tuple(items)

    def _request(self, items: tuple[Item, ...], *, form: Form | None = None) -> Request:
        form = form or ("pack" if len(items) > 1 else self._single)
        if self._proven is not None and len(items) > max(1, self._proven):
            self._trial_key = items[0].asked.key
        tokens_in, tokens_out = self._tokens(items, form)
        return Request(
            items=items,
            form=form,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            parked=items[0].asked.key in self._unparked,
        )

    def _tokens(self, items: tuple[Item, ...], form: Form) -> tuple[int, int]:
        """Estimated tokens of a request, in and out."""
        limits = self._limits
        return cost.request_tokens(
            items, form, caption=limits.caption_tokens, system=limits.system_tokens
        )


def _halves(group: tuple[Item, ...]) -> list[tuple[Item, ...]]:
    """Both halves of a group; of a single image, itself."""
    half = len(group) // 2
    return [part for part in (group[:half], group[half:]) if part]


def _parts(group: tuple[Item, ...], most: int) -> list[tuple[Item, ...]]:
    """A group in parts of at most so many images."""
    return [group[at : at + most] for at in range(0, len(group), most)]


def _apart(missed: list[Item]) -> list[tuple[Item, ...]]:
    """Images that packs keep missing: each alone. A whole pack that was missed twice in a row is
    more likely bad luck than all of its images' fault: it first goes in quarters."""
    crowd = len(missed) >= CROWD and all(item.asked.attempts == ALONE_AFTER for item in missed)
    return _parts(tuple(missed), len(missed) // 4 if crowd else 1)


def _splits(decision: RetryDecision | None) -> bool:
    return decision is not None and decision.action is Action.SPLIT


def _gives_up(decision: RetryDecision | None) -> bool:
    return decision is not None and decision.action is Action.FAIL
