"""The frozen values that the stages hand on. Data flows one way: a stage returns a new value.

    Row -> Item (Asked + Image + prompt) -> Request -> Sent + Reply -> Record + RequestRow

`Sent` and `Reply` are what the journal holds; a `Record` is a pure function of the two, so a
crash after the reply costs nothing: recovery derives the record again.
What is made for every image is built by position: names take half as long again.
Times are integer microseconds since the epoch (UTC); tokens are integers, money is US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Literal, NamedTuple

from pipeline.values import dataclass

#: What a manifest cell may hold for an image.
ImageValue = str | bytes | Mapping[str, object] | None
#: How the request asks: one image in plain text, one image as JSON with typed fields, N numbered
#: images, one image to compare, N numbered images for the fields that were ill-typed, one image
#: for another caption.
Form = Literal["plain", "fields", "pack", "audit", "again", "second"]


@dataclass(frozen=True, slots=True)
class Row:
    """One manifest row."""

    #: The image cell as it stands.
    image: ImageValue
    #: The `manifest.id` cell as text, if one is configured.
    id: str | None = None
    #: The cells that the prompt template names.
    columns: Mapping[str, object] = field(default_factory=dict)
    #: Why this row cannot be read (`bad_row`), else None.
    bad: str | None = None
    #: Which of the job's prompts it is asked with, by number.
    prompt: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """An image ready for the wire: either a URL that the service will fetch, or encoded bytes."""

    url: str | None = None
    #: Encoded JPEG, PNG or WebP.
    data: bytes | None = None
    mime: str | None = None
    #: Of the source bytes as they were read (not of `data`); None when only the URL is sent.
    sha256: str | None = None
    #: Pixels as sent, after rotation and shrinking.
    width: int | None = None
    height: int | None = None
    #: Pixels of the source, after rotation: (width, height).
    original: tuple[int, int] | None = None
    #: Facts worth keeping with the record, e.g. `resized`, `first_frame`.
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of an item that outlives its request: what a record needs beside the reply."""

    key: str
    id: str | None
    #: The image as shown in records: URL without its signature, path, or `sha256:…`.
    image: str
    #: The prompt's name, or 16 hex of its words where the job has one prompt without a name.
    prompt_id: str
    #: Unused; journals of earlier versions name it.
    ordinal: int = 0
    image_sha256: str | None = None
    #: Of the source, after rotation; None also where an earlier version asked.
    width: int | None = None
    height: int | None = None
    #: Of the picture as it was sent.
    sent_width: int | None = None
    sent_height: int | None = None
    flags: tuple[str, ...] = ()
    #: Attempts that this image has had, this one included; waits for a limit do not count.
    attempts: int = 1
    #: The record of the first answer, where the image is asked again about it.
    earlier: Record | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A row on its way: wire-ready image, rendered prompt and key."""

    asked: Asked
    image: Image
    prompt: str
    #: The manifest cell, to load the image again in another form.
    source: ImageValue = None
    #: How it is asked; those of one request are asked alike.
    recipe: str = ""

    def with_image(self, image: Image) -> Item:
        """The item with the bytes that are sent, and what its record says of them."""
        width, height = image.original or (None, None)
        asked = replace(
            self.asked,
            image_sha256=image.sha256,
            width=width,
            height=height,
            sent_width=image.width,
            sent_height=image.height,
            flags=image.flags,
        )
        return replace(self, asked=asked, image=image)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Items that travel together."""

    items: tuple[Item, ...]
    form: Form
    #: Estimated tokens, in and out.
    tokens_in: int = 0
    tokens_out: int = 0
    #: Asked again after all others: an outage may have used up its attempts.
    parked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One HTTP attempt: what was asked, kept beside its reply."""

    request_id: str
    run_id: str
    recipe: str
    #: Profile name, e.g. `openrouter`.
    profile: str
    model: str
    form: Form
    #: 1 for the first attempt of this request.
    attempt: int
    #: When the request left, µs.
    at: int
    #: Time spent at the gate before it left.
    wait_ms: int
    items: tuple[Asked, ...]
    #: The endpoint's name in a job with several.
    endpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer, whole and unparsed."""

    status: int
    #: Lower-case names; only those that carry meaning (limits, ids, dates, type).
    headers: Mapping[str, str]
    body: bytes
    #: From the permit to the last byte.
    latency_ms: int
    #: When the last byte arrived, µs.
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a chat completion says, whichever dialect it came in."""

    content: str
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    refusal: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    served_model: str | None = None
    provider: str | None = None
    generation_id: str | None = None
    #: Characters of reasoning that came beside the content.
    reasoning: int = 0
    #: The tier that it was served and billed at, where the service tells.
    service_tier: str | None = None


#: Error code of a record that withdraws a caption: its answer can no longer be trusted.
DOUBTED = "doubted"
#: Failure code that is in the journal alone: the failure before it is nobody's any more.
WITHDRAWN = "withdrawn"


#: Flag of a failure that cost no request: digest of the settings under which its image was read.
SETTINGS = "settings:"
#: Flags of a record: the field of this name was ill-typed and is null; the image waits to be asked
#: again for its fields, or for its caption; it was.
ILL_TYPED, ASK_AGAIN, ASK_CAPTION = "ill_typed:", "ask_again", "ask_again:caption"
ASKED_AGAIN = "asked_again"
#: Flag of a record: its caption did not pass the check of this name. Error code where it is none.
CHECK, CHECK_FAILED = "check:", "check_failed"
#: Flag of a record that was answered at another tier than the usual one, which may have another price.
TIER = "tier:"
#: Flag of a failure that was a caption until the job's checks were changed.
RECHECKED = "rechecked"


class Record(NamedTuple):
    """One image's result: a caption, or the reason why there is none. Columns of `captions/`.

    A tuple, as there is one for every image: made in a third of the time of a value with names,
    and thousands of them are turned into columns as they are.
    """

    key: str
    recipe: str
    id: str | None
    image: str
    caption: str | None
    status: Literal["ok", "failed"]
    error_code: str | None = None
    error: str | None = None
    flags: tuple[str, ...] = ()
    #: JSON text of the typed reply fields.
    fields: str | None = None
    #: The model's text for this image before clean-up, when it differs from the caption.
    caption_raw: str | None = None
    prompt_id: str = ""
    model: str = ""
    served_model: str | None = None
    provider: str | None = None
    request_id: str | None = None
    generation_id: str | None = None
    finish_reason: str | None = None
    #: Tokens and cost are this image's share of its request; the shares add up to the whole.
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    #: Of the request.
    latency_ms: int | None = None
    attempts: int = 0
    pack_size: int = 0
    image_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    run_id: str = ""
    #: µs since the epoch.
    finished_at: int = 0
    sent_width: int | None = None
    sent_height: int | None = None

    def replaces(self, state: str | None) -> bool:
        """May it take the place of a record in this state (`ok` or a failure's code)? A failure
        never replaces a caption, unless it withdraws it."""
        withdraws = self.error_code == DOUBTED or RECHECKED in self.flags
        return state != "ok" or self.status == "ok" or withdraws


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One line of the account book: an HTTP attempt. Columns of `requests/`.

    `class_` is the column `class`: a `verdict.Kind` value, or `unknown` for an attempt whose
    answer never came back (it stays counted as spent).
    """

    request_id: str
    run_id: str
    at: int
    attempt: int
    class_: str
    status: int | None
    provider: str | None
    model: str
    served_model: str | None
    images: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    latency_ms: int | None
    wait_ms: int
    #: The tier that it was billed at, where the service told it.
    service_tier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What one reply settles: records for some or all of its items, and its account row."""

    records: tuple[Record, ...]
    row: RequestRow


class LimitTold(NamedTuple):
    """A limit as an answer's headers tell it."""

    unit: Literal["requests", "tokens"]
    #: Seconds.
    window: float
    limit: int
    remaining: int
    #: Seconds until it is as new; None: not told.
    reset: float | None

    @property
    def is_bucket(self) -> bool:
        """Does it seem to refill all the time? Then reset is used / limit x window (within 2 %); a
        clock's window agrees by chance now and then."""
        used = self.limit - self.remaining
        if self.reset is None or used < 1:
            return False
        refill = used / self.limit * self.window
        return abs(self.reset - refill) <= 0.02 * refill + 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be asked of one endpoint; None = no such limit known."""

    requests_per_minute: float | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    #: Used today as the service itself counts, where it tells.
    used_today: int | None = None
    #: Zone whose midnight starts a new day at the service.
    reset_zone: str = "UTC"
    #: What the "day" is: `day` (midnight to midnight in `reset_zone`), `month`, `5h` (hours aligned to
    #: the epoch), `credit` (never again), or `bucket` (a day's worth that refills all the time).
    window: str = "day"
    #: Is the limit a minute a guess, to be halved by refusals and regained slowly?
    learnt: bool = False
    #: Do answers tell limits, so that what was told is worth remembering?
    announced: bool = False
    #: Whose limit the day is: `account` (all models together) or `model`.
    day_scope: Literal["account", "model"] = "account"
    #: Where each number comes from, for `plan` and `check`: name -> words.
    sources: Mapping[str, str] = field(default_factory=dict)
