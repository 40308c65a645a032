"""Records of one reply: each image's share of its tokens, money and facts, as its job reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import orjson

from pipeline.captioning.caption_text import safe_text
from pipeline.captioning.checked import ASKS, judged
from pipeline.captioning.fields import NO_FIELDS, Fields, ill_typed
from pipeline.captioning.parse_reply import ParsedPack, share
from pipeline.checks.checks import Checks
from pipeline.model import (
    ASK_AGAIN,
    ASK_CAPTION,
    ASKED_AGAIN,
    ILL_TYPED,
    TIER,
    Asked,
    Completion,
    Record,
    Reply,
    Sent,
)
from pipeline.values import dataclass

_N = TypeVar("_N", int, float)
#: Longest error text kept in a record.
ERROR_CHARS = 500
#: What services call the tier of a request that asks for none.
_USUAL = frozenset({"default", "standard", "auto", "on_demand"})
#: Longest caption in bytes, where nothing else is said.
MAX_REPLY = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a job makes of an answer: typed fields, and the checks of its caption."""

    fields: Fields = NO_FIELDS
    checks: Checks | None = None


#: Captions as they come.
PLAIN = Reading()


def longer(text: str, size: int) -> bool:
    """Does this text take more than so many bytes of UTF-8?"""
    if len(text) * 4 <= size:
        return False
    return len(text) > size or len(text.encode("utf-8", "surrogatepass")) > size


class RecordBuilder:
    """Each image's share of one request's tokens, money and facts."""

    def __init__(
        self,
        sent: Sent,
        reply: Reply,
        completion: Completion | None,
        max_reply: int,
        reading: Reading,
    ) -> None:
        count = len(sent.items)
        self._sent, self._reply, self.max_reply = sent, reply, max_reply
        self._fields, self.checks = reading.fields, reading.checks
        self.names = self._fields.names
        self._prompt = share(completion.prompt_tokens if completion else None, count)
        self._output = share(completion.completion_tokens if completion else None, count)
        cost = completion.cost_usd if completion else None
        self._cost = None if cost is None else cost / count
        usage = completion or Completion(content="")
        tier = usage.service_tier
        self._tier = () if tier is None or tier in _USUAL else (TIER + tier,)
        #: From `model` to `finish_reason`.
        self._service = (
            sent.model,
            usage.served_model,
            answered_by(sent, usage.provider),
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
        if wrong := ill_typed(values):
            flags = (*flags, *wrong) if ASKED_AGAIN in flags else (*flags, *wrong, ASK_AGAIN)
        record = self.record(number - 1, caption=caption, raw=pack.raw[number], flags=flags)
        return record._replace(fields=_json(values))

    def refusal_asks(self, code: str) -> tuple[str, ...]:
        """The flag of a refused image that is to be asked in another form."""
        if self.checks is None or code not in ("refused", "safety"):
            return ()
        return (ASK_CAPTION,) if self.checks.actions.get("refusal") in ASKS else ()

    def closed(self, record: Record, earlier: Record, index: int = 0) -> Record:
        """The record of an image that was asked a second time, with what both answers took."""
        kept = [flag for flag in record.flags if flag not in (ASK_AGAIN, ASK_CAPTION, ASKED_AGAIN)]
        return record._replace(
            flags=(*kept, ASKED_AGAIN),
            prompt_tokens=_sum(earlier.prompt_tokens, self._prompt[index]),
            completion_tokens=_sum(earlier.completion_tokens, self._output[index]),
            cost_usd=_sum(earlier.cost_usd, self._cost),
            attempts=earlier.attempts + 1,
            finished_at=self._reply.at,
        )

    def mended(self, number: int, answered: Mapping[str, object]) -> Record:
        """The record of an image with what the second answer says of its ill-typed fields."""
        index = number - 1
        earlier = self._sent.items[index].earlier
        assert earlier is not None
        again, values = self._fields.read(answered), self._fields.of_record(earlier.fields)
        values = {name: again[name] if value is None else value for name, value in values.items()}
        kept = [flag for flag in earlier.flags if not flag.startswith((ILL_TYPED, ASK_AGAIN))]
        mended = earlier._replace(fields=_json(values), flags=(*kept, *ill_typed(values)))
        return self.closed(mended, earlier, index)

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
        kept_raw = kept_raw if kept_raw != caption else None
        flags = asked.flags if flags is None else flags
        flags = (*flags, *self._tier)
        if self.checks is not None and caption:
            flags, code, error = judged(self.checks, caption, flags, may_ask=True)
            if code is not None:
                caption, kept_raw = None, kept_raw or caption
        # In the order of the fields: naming 31 of them takes longer than all the rest.
        return Record(
            asked.key,
            sent.recipe,
            asked.id,
            asked.image,
            caption,
            "ok" if caption else "failed",
            code,
            safe_text(error)[:ERROR_CHARS] if error else None,
            flags,
            None,
            kept_raw,
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
            asked.sent_width,
            asked.sent_height,
        )


def answered_by(sent: Sent, provider: str | None) -> str | None:
    """Who answered: the provider that a gateway names; in a job with several endpoints after the
    name of the one that was asked."""
    return "/".join(filter(None, (sent.endpoint, provider))) or None


def _json(values: Mapping[str, object]) -> str:
    return orjson.dumps(values).decode()


def _sum(before: _N | None, more: _N | None) -> _N | None:
    return more if before is None else before if more is None else before + more
