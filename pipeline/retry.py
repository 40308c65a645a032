"""What to do after an answer: one pure table, decided here, acted on by `stories/caption.py`.

`Kind` is the closed list of what a response can be; the service's words are mapped to it by
`api/classify.py`. Limits are waits, never attempts: the gate (`quota/`) holds the scope back.
"""

from __future__ import annotations

import random
from enum import StrEnum

from pipeline.values import dataclass


class Kind(StrEnum):
    """What one response is. The value stands in the account book's `class` column."""

    OK = "ok"
    TRUNCATED = "truncated"  # finish_reason length: usable, cut
    NO_ROOM = "no_room"  # finish_reason length before the first word: thinking took max_tokens
    EMPTY = "empty"  # a success without a caption in it
    MALFORMED = "malformed"  # a 200 that cannot be read
    REFUSED = "refused"  # the model will not
    SAFETY = "safety"  # content filter or moderation
    IMAGE_REJECTED = "image_rejected"  # the service cannot use this image
    IMAGE_UNREACHABLE = "image_unreachable"  # the service could not fetch the URL
    TOO_LARGE = "too_large"  # 413
    TOO_LONG = "too_long"  # context length
    BAD_REQUEST = "bad_request"  # any other 4xx that is about this request
    TRANSIENT = "transient"  # 5xx, 408, reset, deadline, upstream trouble
    ACCOUNT_MINUTE = "account_minute"
    MODEL_MINUTE = "model_minute"
    ACCOUNT_DAY = "account_day"
    MODEL_DAY = "model_day"
    UPSTREAM = "upstream"  # the provider's shared pool; says nothing about our pace
    ACCOUNT_FATAL = "account_fatal"  # 401, out of credit: exit 77
    CONFIG_FATAL = "config_fatal"  # model gone, parameter impossible: exit 69
    BUDGET = "budget"  # a budget that resets at a told instant: exit 75


class Scope(StrEnum):
    """What a pause holds back."""

    NONE = "none"
    ITEM = "item"
    MODEL = "model"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A response, classified. `wait` is seconds told by the service, `until` an instant (epoch s)."""

    kind: Kind
    scope: Scope = Scope.NONE
    #: Error code for the record if this ends the image; None for success.
    code: str | None = None
    #: The service's own words, trimmed, without secrets.
    message: str = ""
    wait: float | None = None
    until: float | None = None
    #: The limit's size where the service named it (X-RateLimit-Limit).
    limit: int | None = None
    #: Number in its pack (from 1) of the image that the service named, if it did.
    suspect: int | None = None
    #: For the record: a finish word that is not known.
    flags: tuple[str, ...] = ()
    #: Nothing tells its class, or it comes of how model and server are set up: it may be said to
    #: every image alike.
    systemic: bool = False
    #: A 403 without a word about the key: it may be about this image, or pass.
    forbidden: bool = False
    #: No later answer will be another: out of credit.
    final: bool = False
    #: Most images in a request, where the service named it when it refused more.
    images: int | None = None


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

    attempts: attempts spent on them, this one included; allowed: `retry.attempts`.
    by_url: the images went as URLs, so their bytes may still be tried.
    """
    single, pack, spends = TABLE[verdict.kind]
    action = pack if packed else single
    if action is Action.RELOAD and not by_url:
        action = Action.SPLIT if packed else Action.FAIL
    if action is Action.RETRY and spends:
        if attempts >= allowed:
            # One image may be what breaks every reply: a pack is searched, an image fails.
            return RetryDecision(action=Action.SPLIT if packed else Action.FAIL, spends=not packed)
        told = verdict.wait or 0.0
        pause = verdict.kind is not Kind.OK
        return RetryDecision(
            action=action, delay=max(told, backoff(attempts, rng)) if pause else 0.0
        )
    # The search for a culprit is no attempt of its neighbours: nothing was asked of them alone.
    return RetryDecision(action=action, spends=spends and action is not Action.SPLIT)
