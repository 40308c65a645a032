"""What one reply settles: records for its images and its line in the account book. Pure.

Recovery calls the same function on the stored bytes, so nothing here may look at a clock or at
what else the run knows. A pack settles the images whose numbered entry is complete and nothing
else, also when a filter or a broken provider cut the rest off; an image that is asked alone also
settles by a filter or by the model's own refusal. An empty caption settles nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeVar

import orjson

from pipeline.captioning import shape
from pipeline.captioning.answer import answer_of
from pipeline.captioning.fields import NO_FIELDS, Fields, ill_typed
from pipeline.captioning.parse_reply import (
    ParsedPack,
    caption_of,
    parse_fields,
    parse_pack,
    safe_text,
    share,
    suspect_of,
)
from pipeline.captioning.retry import TABLE, Action
from pipeline.model import (
    ASK_AGAIN,
    ASKED_AGAIN,
    ILL_TYPED,
    Asked,
    Completion,
    Derived,
    Record,
    Reply,
    RequestRow,
    Sent,
)
from pipeline.verdict import OPEN, Kind, Scope, Verdict

_N = TypeVar("_N", int, float)
#: Longest error text kept in a record.
ERROR_CHARS = 500
#: Longest caption in bytes, where nothing else is said.
MAX_REPLY = 1_000_000
#: The model wrote what it was asked for, to the end or to its limit.
_WRITTEN = frozenset({Kind.OK, Kind.TRUNCATED})
#: A pack's reply of these kinds may hold complete entries: the rest of it was cut off.
_ENTRIES = _WRITTEN | {Kind.SAFETY, Kind.TRANSIENT}
#: An answer came, though nothing could be read in it.
_REPLIED = frozenset({Kind.EMPTY, Kind.MALFORMED})
#: Refusals whose words may be about the number of images.
_ABOUT_REQUEST = frozenset(
    {Kind.BAD_REQUEST, Kind.IMAGE_REJECTED, Kind.TOO_LARGE, Kind.TOO_LONG, Kind.TRANSIENT}
    | {Kind.CONFIG_FATAL}
)
_THINKS = (
    "the answer ends within the model's thoughts: raise endpoint.params.max_tokens, or switch "
    "thinking off (endpoint.params.reasoning_effort: none)"
)
#: The record's error code where the verdict names none.
_CODES = {
    Kind.SAFETY: "safety",
    Kind.IMAGE_REJECTED: "image_rejected",
    Kind.TOO_LARGE: "too_large",
    Kind.TOO_LONG: "too_long",
}


def records_of(
    sent: Sent,
    reply: Reply,
    verdict: Verdict,
    completion: Completion | None,
    *,
    max_reply: int = MAX_REPLY,
    fields: Fields = NO_FIELDS,
) -> Derived:
    """The records that this reply settles (perhaps none) and its account row (always).

    max_reply: longest text of one caption, in bytes. fields: the typed ones that were asked for.
    """
    row = RequestRow(
        request_id=sent.request_id,
        run_id=sent.run_id,
        at=sent.at,
        attempt=sent.attempt,
        class_=verdict.kind.value,
        status=reply.status,
        provider=completion.provider if completion else None,
        model=sent.model,
        served_model=completion.served_model if completion else None,
        images=len(sent.items),
        prompt_tokens=completion.prompt_tokens if completion else None,
        completion_tokens=completion.completion_tokens if completion else None,
        cost_usd=completion.cost_usd if completion else None,
        latency_ms=reply.latency_ms,
        wait_ms=sent.wait_ms,
    )
    shares = _Shares(sent, reply, completion, max_reply, fields)
    return Derived(records=tuple(_records(shares, sent, verdict, completion)), row=row)


def unanswered(sent: Sent) -> RequestRow:
    """The account row of an attempt whose answer never came back: it stays counted as spent."""
    return RequestRow(
        request_id=sent.request_id,
        run_id=sent.run_id,
        at=sent.at,
        attempt=sent.attempt,
        class_="unknown",
        status=None,
        provider=None,
        model=sent.model,
        served_model=None,
        images=len(sent.items),
        prompt_tokens=None,
        completion_tokens=None,
        cost_usd=None,
        latency_ms=None,
        wait_ms=sent.wait_ms,
    )


def refined(sent: Sent, verdict: Verdict, completion: Completion | None) -> Verdict:
    """The verdict, with what only the request tells: that a refusal is about the number of its
    images, that a text holds thoughts and no answer, and at which image a filter cut a packed
    reply (its suspect)."""
    count = len(sent.items)
    if completion is not None and verdict.kind in _WRITTEN:
        answer = answer_of(completion.content)
        if answer.unfinished:
            return Verdict(kind=Kind.NO_ROOM, scope=Scope.ITEM, code="truncated", message=_THINKS)
        if verdict.kind is Kind.OK and not answer.text.strip():
            empty = "only thoughts came, and no caption"
            return Verdict(kind=Kind.EMPTY, scope=Scope.ITEM, code="empty", message=empty)
    if sent.form != "pack" or count == 1 or verdict.kind in _WRITTEN:
        return verdict
    if completion is None and verdict.kind in _ABOUT_REQUEST:
        allowed = shape.images_allowed(verdict.message, count)
        if allowed is None:
            return verdict
        return replace(
            verdict, kind=Kind.TOO_LARGE, code="too_large", images=allowed, systemic=False
        )
    if completion is None or verdict.kind is not Kind.SAFETY or verdict.suspect:
        return verdict
    suspect = suspect_of(completion.content, count)
    return verdict if suspect is None else replace(verdict, suspect=suspect)


def _records(
    shares: _Shares, sent: Sent, verdict: Verdict, completion: Completion | None
) -> list[Record]:
    if sent.form == "audit":
        return []  # the image has its caption; this answer is only compared with it
    if sent.form == "again":
        return _again(shares, sent, verdict, completion)
    if len(sent.items) > 1:
        return _of_pack(shares, sent, verdict, completion)
    if completion is not None and verdict.kind in _WRITTEN:
        raw = completion.content
        if longer(raw, shares.max_reply):
            return [shares.record(0, raw=raw)]
        pack = _one_image(sent, raw, shares.names)
        if caption := pack.captions.get(1):
            cut = ("truncated",) if verdict.kind is Kind.TRUNCATED else ()
            flags = (*sent.items[0].flags, *cut, *verdict.flags)
            return [shares.typed(1, pack, caption=caption, flags=flags)]
        if verdict.kind is Kind.TRUNCATED:
            return [shares.record(0, code="truncated", error="cut before the first word")]
        return []
    if TABLE[verdict.kind][0] is Action.FAIL and verdict.kind not in OPEN:
        code = verdict.code or _CODES.get(verdict.kind, "refused")
        return [shares.record(0, code=code, error=verdict.message or verdict.kind.value)]
    return []


def _one_image(sent: Sent, raw: str, fields: Collection[str]) -> ParsedPack:
    """The answer to a request of one image, in whichever form it was asked."""
    if sent.form == "pack":
        return parse_pack(raw, 1, fields=fields)
    if sent.form == "fields":
        return parse_fields(raw, fields)
    return ParsedPack(captions={1: caption_of(raw)}, raw={1: raw})


def _of_pack(
    shares: _Shares, sent: Sent, verdict: Verdict, completion: Completion | None
) -> list[Record]:
    """Records for the complete entries of a packed reply."""
    if completion is None or verdict.kind not in _ENTRIES or sent.form != "pack":
        return []
    cut = verdict.kind is not Kind.OK
    pack = parse_pack(completion.content, len(sent.items), cut=cut, fields=shares.names)
    return [
        shares.typed(
            number,
            pack,
            caption=caption,
            flags=(*sent.items[number - 1].flags, *verdict.flags),
        )
        for number, caption in pack.captions.items()
    ]


def _again(
    shares: _Shares, sent: Sent, verdict: Verdict, completion: Completion | None
) -> list[Record]:
    """The records of images whose ill-typed fields were asked again: once, whatever was answered."""
    action = TABLE[verdict.kind][0]
    if action is Action.STOP or (action is Action.RETRY and verdict.kind not in _REPLIED):
        return []
    content = "" if completion is None else completion.content
    pack = parse_pack(content, len(sent.items), caption=False, fields=shares.names)
    return [
        shares.mended(number, pack.fields.get(number, {}))
        for number in range(1, len(sent.items) + 1)
    ]


def longer(text: str, size: int) -> bool:
    """Does this text take more than so many bytes of UTF-8?"""
    if len(text) * 4 <= size:
        return False
    return len(text) > size or len(text.encode("utf-8", "surrogatepass")) > size


class _Shares:
    """Each image's share of one request's tokens, money and facts."""

    def __init__(
        self,
        sent: Sent,
        reply: Reply,
        completion: Completion | None,
        max_reply: int,
        fields: Fields,
    ) -> None:
        count = len(sent.items)
        self._sent, self._reply, self.max_reply, self._fields = sent, reply, max_reply, fields
        self.names = fields.names
        self._prompt = share(completion.prompt_tokens if completion else None, count)
        self._output = share(completion.completion_tokens if completion else None, count)
        cost = completion.cost_usd if completion else None
        self._cost = None if cost is None else cost / count
        usage = completion or Completion(content="")
        #: From `model` to `finish_reason`.
        self._service = (
            sent.model,
            usage.served_model,
            usage.provider,
            sent.request_id,
            usage.generation_id,
            usage.finish_reason,
        )

    def typed(
        self, number: int, pack: ParsedPack, *, caption: str, flags: tuple[str, ...]
    ) -> Record:
        """The record of an image (its number from 1) whose entry holds a caption."""
        if not self._fields:
            return self.record(number - 1, caption=caption, raw=pack.raw[number], flags=flags)
        values = self._fields.read(pack.fields.get(number, {}))
        wrong = ill_typed(values)
        flags = (*flags, *wrong, ASK_AGAIN) if wrong else flags
        record = self.record(number - 1, caption=caption, raw=pack.raw[number], flags=flags)
        return record._replace(fields=_json(values))

    def mended(self, number: int, answered: Mapping[str, object]) -> Record:
        """The record of an image with what the second answer says of its ill-typed fields."""
        index = number - 1
        earlier = self._sent.items[index].earlier
        assert earlier is not None
        again, values = self._fields.read(answered), self._fields.of_record(earlier.fields)
        values = {name: again[name] if value is None else value for name, value in values.items()}
        kept = [flag for flag in earlier.flags if not flag.startswith((ILL_TYPED, ASK_AGAIN))]
        return earlier._replace(
            fields=_json(values),
            flags=(*kept, *ill_typed(values), ASKED_AGAIN),
            prompt_tokens=_sum(earlier.prompt_tokens, self._prompt[index]),
            completion_tokens=_sum(earlier.completion_tokens, self._output[index]),
            cost_usd=_sum(earlier.cost_usd, self._cost),
            attempts=earlier.attempts + 1,
            finished_at=self._reply.at,
        )

    def record(
        self,
        index: int,
        *,
        caption: str | None = None,
        raw: str | None = None,
        flags: tuple[str, ...] | None = None,
        code: str | None = None,
        error: str | None = None,
    ) -> Record:
        sent = self._sent
        asked: Asked = sent.items[index]
        if raw is not None and longer(raw, self.max_reply):
            caption, raw, code = None, None, "too_long"
            error = f"the caption is longer than endpoint.max_reply ({self.max_reply:,} bytes)"
        kept_raw = None if raw is None or raw == caption else safe_text(raw)
        # In the order of the fields: naming 29 of them takes longer than all the rest.
        return Record(
            asked.key,
            sent.recipe,
            asked.id,
            asked.image,
            caption,
            "ok" if caption else "failed",
            code,
            safe_text(error)[:ERROR_CHARS] if error else None,
            asked.flags if flags is None else flags,
            None,
            kept_raw if kept_raw != caption else None,
            asked.prompt_id,
            *self._service,
            self._prompt[index],
            self._output[index],
            self._cost,
            self._reply.latency_ms,
            asked.attempts,
            len(sent.items),
            asked.image_sha256,
            asked.width,
            asked.height,
            sent.run_id,
            self._reply.at,
        )


def _json(values: Mapping[str, object]) -> str:
    return orjson.dumps(values).decode()


def _sum(before: _N | None, more: _N | None) -> _N | None:
    return more if before is None else before if more is None else before + more
