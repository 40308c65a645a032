"""What one reply settles: records for its images and its line in the account book. Pure.

Recovery calls the same function on the stored bytes, so nothing here may look at a clock or at
what else the run knows. A pack settles the images whose numbered entry is complete and nothing
else, also when a filter or a broken provider cut the rest off; an image that is asked alone also
settles by a filter or by the model's own refusal. An empty caption settles nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pipeline.captioning.answer import answer_of
from pipeline.captioning.checked import passes
from pipeline.captioning.form_refusals import images_allowed
from pipeline.captioning.parse_reply import (
    ParsedPack,
    caption_of,
    parse_fields,
    parse_pack,
    suspect_of,
)
from pipeline.captioning.record_builder import (
    MAX_REPLY,
    PLAIN,
    Reading,
    RecordBuilder,
    answered_by,
    longer,
)
from pipeline.captioning.retry import TABLE, Action
from pipeline.model import (
    ASKED_AGAIN,
    Completion,
    Derived,
    Record,
    Reply,
    RequestRow,
    Sent,
)
from pipeline.verdict import OPEN, Kind, Scope, Verdict

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
    reading: Reading = PLAIN,
) -> Derived:
    """The records that this reply settles (perhaps none) and its account row (always).

    max_reply: longest text of one caption, in bytes. reading: fields and checks of the job.
    """
    row = RequestRow(
        request_id=sent.request_id,
        run_id=sent.run_id,
        at=sent.at,
        attempt=sent.attempt,
        class_=verdict.kind.value,
        status=reply.status,
        provider=answered_by(sent, completion.provider if completion else None),
        model=sent.model,
        served_model=completion.served_model if completion else None,
        images=len(sent.items),
        prompt_tokens=completion.prompt_tokens if completion else None,
        completion_tokens=completion.completion_tokens if completion else None,
        cost_usd=completion.cost_usd if completion else None,
        latency_ms=reply.latency_ms,
        wait_ms=sent.wait_ms,
        service_tier=completion.service_tier if completion else None,
    )
    builder = RecordBuilder(sent, reply, completion, max_reply, reading)
    return Derived(records=tuple(_records(builder, sent, verdict, completion)), row=row)


def unanswered(sent: Sent) -> RequestRow:
    """The account row of an attempt whose answer never came back: it stays counted as spent."""
    return RequestRow(
        request_id=sent.request_id,
        run_id=sent.run_id,
        at=sent.at,
        attempt=sent.attempt,
        class_="unknown",
        status=None,
        provider=answered_by(sent, None),
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
        allowed = images_allowed(verdict.message, count)
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
    builder: RecordBuilder, sent: Sent, verdict: Verdict, completion: Completion | None
) -> list[Record]:
    if sent.form == "audit":
        return []  # the image has its caption; this answer is only compared with it
    if sent.form == "again":
        return _again(builder, sent, verdict, completion)
    if sent.form == "second":
        return _second(builder, sent, verdict, completion)
    if len(sent.items) > 1:
        return _of_pack(builder, sent, verdict, completion)
    if completion is not None and verdict.kind in _WRITTEN:
        raw = completion.content
        if longer(raw, builder.max_reply):
            return [builder.record(0, raw=raw)]
        if (record := _captioned(builder, sent, raw, verdict)) is not None:
            return [record]
        if verdict.kind is Kind.TRUNCATED:
            return [builder.record(0, code="truncated", error="cut before the first word")]
        return []
    if TABLE[verdict.kind][0] is Action.FAIL and verdict.kind not in OPEN:
        code = verdict.code or _CODES.get(verdict.kind, "refused")
        flags = (*sent.items[0].flags, *builder.refusal_asks(code))
        message = verdict.message or verdict.kind.value
        return [builder.record(0, code=code, error=message, flags=flags)]
    return []


def _captioned(
    builder: RecordBuilder, sent: Sent, raw: str, verdict: Verdict, *flags: str
) -> Record | None:
    """The record of a request's one image, if its answer holds a caption."""
    pack = _one_image(sent, raw, builder.names)
    if not (caption := pack.captions.get(1)):
        return None
    cut = ("truncated",) if verdict.kind is Kind.TRUNCATED else ()
    flags = (*sent.items[0].flags, *cut, *verdict.flags, *flags)
    return builder.typed(1, pack, caption=caption, flags=flags)


def _one_image(sent: Sent, raw: str, fields: Collection[str]) -> ParsedPack:
    """The answer to a request of one image, in whichever form it was asked."""
    if sent.form == "pack":
        return parse_pack(raw, 1, fields=fields)
    if fields and sent.form in ("fields", "second"):
        return parse_fields(raw, fields)
    return ParsedPack(captions={1: caption_of(raw)}, raw={1: raw})


def _of_pack(
    builder: RecordBuilder, sent: Sent, verdict: Verdict, completion: Completion | None
) -> list[Record]:
    """Records for the complete entries of a packed reply."""
    if completion is None or verdict.kind not in _ENTRIES or sent.form != "pack":
        return []
    cut = verdict.kind is not Kind.OK
    pack = parse_pack(completion.content, len(sent.items), cut=cut, fields=builder.names)
    return [
        builder.typed(
            number,
            pack,
            caption=caption,
            flags=(*sent.items[number - 1].flags, *verdict.flags),
        )
        for number, caption in pack.captions.items()
    ]


def _again(
    builder: RecordBuilder, sent: Sent, verdict: Verdict, completion: Completion | None
) -> list[Record]:
    """The records of images whose ill-typed fields were asked again: once, whatever was answered."""
    if not _closes(verdict):
        return []
    content = "" if completion is None else completion.content
    pack = parse_pack(content, len(sent.items), caption=False, fields=builder.names)
    return [
        builder.mended(number, pack.fields.get(number, {}))
        for number in range(1, len(sent.items) + 1)
    ]


def _closes(verdict: Verdict) -> bool:
    """Was a second question answered, one way or another? Limits and outages are no answers."""
    action = TABLE[verdict.kind][0]
    return action is not Action.STOP and (action is not Action.RETRY or verdict.kind in _REPLIED)


def _second(
    builder: RecordBuilder, sent: Sent, verdict: Verdict, completion: Completion | None
) -> list[Record]:
    """The record of an image whose caption was asked again: the second one where it passes."""
    earlier = sent.items[0].earlier
    if earlier is None or not _closes(verdict):
        return []
    record = None
    if completion is not None and verdict.kind in _WRITTEN:
        record = _captioned(builder, sent, completion.content, verdict, ASKED_AGAIN)
    if record is None or builder.checks is None or not passes(builder.checks, record):
        record = earlier
    return [builder.closed(record, earlier)]
