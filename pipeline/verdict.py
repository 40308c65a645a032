"""What one response is: the closed list of classes, and a response classified."""

from __future__ import annotations

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
    #: The service is full, whoever asks: says nothing about our pace or the image.
    busy: bool = False
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


#: Refusals that may be the image's fault or the service's: which of the two is known from what
#: else is answered, so a reply alone settles no image (`captioning/attribution.py`).
OPEN = frozenset(
    {Kind.BAD_REQUEST, Kind.IMAGE_REJECTED, Kind.TOO_LARGE, Kind.TOO_LONG, Kind.NO_ROOM}
)
#: No image's fault: the key, the model or the job.
FATAL = frozenset({Kind.ACCOUNT_FATAL, Kind.CONFIG_FATAL})
