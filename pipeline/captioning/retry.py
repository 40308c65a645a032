"""What to do after an answer: one pure table, decided here, acted on by `captioning/ask.py`.

`Kind` is the closed list of what a response can be; the service's words are mapped to it by
`service/classify.py`. Limits are waits, never attempts: the gate holds the scope back, for as long as
`ratelimit/rules/backoff.py` says where the service does not. `backoff` here is for the other errors.
"""

from __future__ import annotations

import random
from enum import StrEnum

from pipeline.values import dataclass
from pipeline.verdict import Kind, Verdict


class Action(StrEnum):
    DONE = "done"
    RETRY = "retry"
    SPLIT = "split"
    RELOAD = "reload"  # send the bytes instead of the URL
    FAIL = "fail"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    action: Action
    #: Seconds to hold this item back before it asks again (the gate's own waits come on top).
    delay: float = 0.0
    #: Whether this was one of the image's attempts.
    spends: bool = True


#: Kind -> (action for one image, action for the unsettled rest of a pack, spends an attempt).
TABLE: dict[Kind, tuple[Action, Action, bool]] = {
    Kind.OK: (Action.DONE, Action.RETRY, True),
    Kind.TRUNCATED: (Action.DONE, Action.SPLIT, True),
    Kind.NO_ROOM: (Action.FAIL, Action.SPLIT, True),
    Kind.EMPTY: (Action.RETRY, Action.RETRY, True),
    Kind.MALFORMED: (Action.RETRY, Action.RETRY, True),
    Kind.REFUSED: (Action.FAIL, Action.SPLIT, True),
    Kind.SAFETY: (Action.FAIL, Action.SPLIT, True),
    Kind.IMAGE_REJECTED: (Action.FAIL, Action.SPLIT, True),
    Kind.IMAGE_UNREACHABLE: (Action.RELOAD, Action.RELOAD, True),
    Kind.TOO_LARGE: (Action.FAIL, Action.SPLIT, True),
    Kind.TOO_LONG: (Action.FAIL, Action.SPLIT, True),
    Kind.BAD_REQUEST: (Action.FAIL, Action.SPLIT, True),
    Kind.TRANSIENT: (Action.RETRY, Action.RETRY, True),
    Kind.ACCOUNT_MINUTE: (Action.RETRY, Action.RETRY, False),
    Kind.MODEL_MINUTE: (Action.RETRY, Action.RETRY, False),
    Kind.ACCOUNT_DAY: (Action.RETRY, Action.RETRY, False),
    Kind.MODEL_DAY: (Action.RETRY, Action.RETRY, False),
    Kind.UPSTREAM: (Action.RETRY, Action.RETRY, False),
    Kind.ACCOUNT_FATAL: (Action.STOP, Action.STOP, False),
    Kind.CONFIG_FATAL: (Action.STOP, Action.STOP, False),
    Kind.BUDGET: (Action.STOP, Action.STOP, False),
}

#: First backoff, its growth and its ceiling, in seconds. The official OpenRouter SDK starts at
#: 0.5 s, grows by 1.5 and stops at 60 s; we double, as our attempts are fewer.
BACKOFF_START, BACKOFF_GROWTH, BACKOFF_CEILING = 1.0, 2.0, 60.0

#: Attempts of one request that a full service may refuse before they are the image's: with the
#: backoff above a quarter of an hour in which others are answered.
BUSY_ATTEMPTS = 20


def backoff(attempt: int, rng: random.Random) -> float:
    """Full-jitter exponential backoff after the attempt-th failure (from 1), in seconds."""
    ceiling = min(BACKOFF_CEILING, BACKOFF_START * BACKOFF_GROWTH ** (attempt - 1))
    return ceiling * (0.5 + 0.5 * rng.random())


def decide(
    verdict: Verdict,
    *,
    attempts: int,
    allowed: int,
    packed: bool,
    by_url: bool,
    rng: random.Random,
) -> RetryDecision:
    """What to do with the images that this reply left unsettled.

    attempts: attempts spent on them, this one included; allowed: `retry.attempts`. Where the
    service was full both are of the request, as that costs no image an attempt.
    by_url: the images went as URLs, so their bytes may still be tried.
    """
    single, pack, spends = TABLE[verdict.kind]
    action = pack if packed else single
    if action is Action.RELOAD and not by_url:
        action = Action.SPLIT if packed else Action.FAIL
    if action is Action.RETRY and spends:
        allowed = max(allowed, BUSY_ATTEMPTS) if verdict.busy else allowed
        if attempts >= allowed:
            # One image may be what breaks every reply: a pack is searched, an image fails.
            return RetryDecision(action=Action.SPLIT if packed else Action.FAIL, spends=not packed)
        wait = verdict.wait or 0.0
        pause = verdict.kind is not Kind.OK
        return RetryDecision(
            action=action,
            delay=max(wait, backoff(attempts, rng)) if pause else 0.0,
            spends=not verdict.busy,
        )
    # The search for a culprit is no attempt of its neighbours: nothing was asked of them alone.
    return RetryDecision(action=action, spends=spends and action is not Action.SPLIT)
