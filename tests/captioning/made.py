"""Items, replies and a refusing service for the tests of this folder."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.captioning.pack import Pool
from pipeline.captioning.retry import Action, RetryDecision
from pipeline.model import Asked, Form, Image, Item, Reply, Request, Sent
from pipeline.packsize.limits import PackLimits
from pipeline.verdict import Kind, Verdict

SPLIT = RetryDecision(action=Action.SPLIT, spends=False)
RETRY = RetryDecision(action=Action.RETRY)
FAIL = RetryDecision(action=Action.FAIL)
OK = Verdict(kind=Kind.OK)
REFUSED = Verdict(kind=Kind.SAFETY)


def item(number: int, *, size: int = 0, attempts: int = 1, prompt: str = "What?") -> Item:
    asked = Asked(
        key=f"{number:032x}", id=None, image="", prompt_id="", ordinal=number, attempts=attempts
    )
    image = Image(data=b"x" * size, width=300, height=300)
    return Item(asked=asked, image=image, prompt=prompt)


def again(one: Item) -> Item:
    """The item at its next attempt."""
    return replace(one, asked=replace(one.asked, attempts=one.asked.attempts + 1))


def numbers(request: Request | Sequence[Item]) -> list[int]:
    items = request.items if isinstance(request, Request) else request
    return [one.asked.ordinal for one in items]


def filled(count: int, limits: PackLimits) -> Pool:
    pool = Pool(limits)
    for number in range(count):
        pool.add(item(number))
    return pool


def taken(pool: Pool) -> Request:
    request = pool.take(ended=True, idle=True)
    assert request is not None
    return request


def drained(pool: Pool) -> list[list[int]]:
    """All that is still in the pool, each request answered in full."""
    found = []
    while (request := pool.take(ended=True, idle=True)) is not None:
        found.append(numbers(request))
        pool.done(request, verdict=OK)
    return found


@dataclass
class Outcome:
    requests: int = 0
    captioned: int = 0
    failed: int = 0

    @property
    def settled(self) -> int:
        return self.captioned + self.failed


#: What the service makes of a request: (verdict, decision, what is left unsettled).
Answer = Callable[[Request], tuple[Verdict | None, RetryDecision | None, Sequence[Item]]]


def run(pool: Pool, items: Sequence[Item], answer: Answer, *, flight: int, seed: int) -> Outcome:
    """Feed a pool and answer its requests in any order, `flight` at a time, to the end."""
    rng = random.Random(seed)
    outcome, flying, coming = Outcome(), list[Request](), iter(items)
    ended, settled = False, set[int]()
    while True:
        request = pool.take(ended=ended, idle=ended and not flying)
        if request is None and not ended:
            fresh = next(coming, None)
            ended = fresh is None
            if fresh is not None:
                pool.add(fresh)
            continue
        if request is not None:
            outcome.requests += 1
            flying.append(request)
            if len(flying) < flight:
                continue
        if not flying:
            break
        done = flying.pop(rng.randrange(len(flying)))
        asked = numbers(done)
        assert not settled & set(asked), "asked after it was settled"
        assert not {n for other in flying for n in numbers(other)} & set(asked), "asked twice"
        verdict, decision, left = answer(done)
        settled |= set(asked) - set(numbers(left))
        pool.done(done, left, decision, verdict)
    assert len(pool) == 0
    assert settled == set(numbers(items))
    return outcome


def service(bad: set[int], outcome: Outcome) -> Answer:
    """A service that refuses every request with a bad image in it."""

    def answer(request: Request) -> tuple[Verdict, RetryDecision | None, Sequence[Item]]:
        culprits = bad & set(numbers(request))
        if not culprits:
            outcome.captioned += len(request.items)
            return OK, None, ()
        if len(request.items) == 1:
            outcome.failed += 1
            return REFUSED, None, ()
        return REFUSED, SPLIT, request.items

    return answer


def searched(size: int, share: float, count: int, *, seed: int, flight: int = 1) -> Outcome:
    """A whole run in which exactly a share of the images is refused."""
    bad = set(random.Random(seed).sample(range(count), round(count * share)))
    outcome = Outcome()
    items = [item(number) for number in range(count)]
    pool = Pool(PackLimits(images=size))
    outcome.requests = run(pool, items, service(bad, outcome), flight=flight, seed=seed).requests
    assert outcome.failed == len(bad)
    assert outcome.captioned == count - len(bad)
    return outcome


def sent(count: int, form: Form = "pack") -> Sent:
    return Sent(
        request_id="r1",
        run_id="run",
        recipe="c" * 16,
        profile="test",
        model="m",
        form=form,
        attempt=1,
        at=1_000,
        wait_ms=3,
        items=tuple(item(number).asked for number in range(1, count + 1)),
    )


REPLY = Reply(status=200, headers={}, body=b"", latency_ms=7, at=2_000)


def caption(number: int) -> str:
    return f"This is image {number}."


def listed(count: int) -> list[dict[str, object]]:
    return [{"image": number, "caption": caption(number)} for number in range(1, count + 1)]


def packed(entries: object) -> str:
    return json.dumps({"captions": entries})
