"""What an answer comes to: its reading, why it may end the run, the record of a failed image.

reply -> derive -> finalize.records_of -> parse_reply (which caption is which image's) -> shares (records)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Protocol

from pipeline.captioning.caption_text import safe_text
from pipeline.captioning.fields import Fields
from pipeline.captioning.finalize import records_of, refined
from pipeline.captioning.prompt_format import pack_instruction
from pipeline.captioning.record_builder import (
    ERROR_CHARS,
    MAX_REPLY,
    PLAIN,
    Reading,
    answered_by,
    longer,
)
from pipeline.checks.checks import Checks
from pipeline.clock import Clock, http_date, micros
from pipeline.errors import Exit, StopReason
from pipeline.model import Completion, Derived, Item, Record, Reply, Sent
from pipeline.service.classify import classify
from pipeline.service.endpoint import Endpoint
from pipeline.values import dataclass
from pipeline.verdict import Kind, Verdict

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig


class RunFacts(Protocol):
    """What every record of a run bears."""

    @property
    def run_id(self) -> str: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def endpoint(self) -> Endpoint: ...
    @property
    def job_model(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyOutcome(Derived):
    """What a reply settles, with the reading it came from."""

    verdict: Verdict
    completion: Completion | None


def deriving(job: JobConfig) -> Callable[[Sent, Reply], ReplyOutcome]:
    """`derive` for a job's `endpoint.max_reply`, `reply.fields` and `checks`."""
    return partial(derive, max_reply=job.endpoint.max_reply, reading=reading_of(job))


def reading_of(job: JobConfig) -> Reading:
    """What a job makes of an answer. JobError where a check cannot be made."""
    return Reading(fields=Fields(job.reply.fields), checks=checks_of(job))


def checks_of(job: JobConfig) -> Checks:
    """The checks of a job, compiled. JobError where what they need is not installed."""
    texts = job.prompt.texts.values()
    prompts = [*texts, job.prompt.system or "", pack_instruction("", 8)]
    return Checks(job.checks, prompts)


def derive(
    sent: Sent, reply: Reply, *, max_reply: int = MAX_REPLY, reading: Reading = PLAIN
) -> ReplyOutcome:
    """Read a stored reply. Pure: recovery after a crash comes to the same records."""
    verdict, completion = classify(reply, now=reply.at / 1e6)
    verdict = refined(sent, verdict, completion)
    settled = records_of(sent, reply, verdict, completion, max_reply=max_reply, reading=reading)
    if completion is not None and longer(completion.content, max_reply):
        completion = replace(completion, content="")  # nobody reads it again, and it is large
    return ReplyOutcome(
        records=settled.records, row=settled.row, verdict=verdict, completion=completion
    )


def date_of(reply: Reply) -> float | None:
    """The service's clock by its `Date` header (epoch seconds), which corrects ours."""
    return _epoch(reply.headers.get("date", ""))


@lru_cache(maxsize=8)  # all answers of one second say the same
def _epoch(date: str) -> float | None:
    try:
        return http_date(date)
    except ValueError:
        return None


def stop_reason(verdict: Verdict) -> StopReason:
    """Why a verdict ends the whole run."""
    message = verdict.message or verdict.kind.value
    if verdict.kind is Kind.BUDGET:
        return StopReason(
            exit=Exit.LATER,
            message=f"the key's budget is spent: {message}",
            resume_after=verdict.until,
        )
    if verdict.kind is Kind.ACCOUNT_FATAL:
        return StopReason(
            exit=Exit.KEY,
            message=f"the service refuses this key: {message}",
            resume_after=None,
        )
    return StopReason(
        exit=Exit.SERVICE,
        message=f"the service cannot serve this model or request: {message}",
        resume_after=None,
    )


def no_caption(run: RunFacts, item: Item, sent: Sent, outcome: ReplyOutcome) -> Record:
    """The record of an image whose last answer holds no caption for it."""
    verdict, completion = outcome.verdict, outcome.completion
    record = failure(
        run,
        item,
        code=verdict.code or ("truncated" if verdict.kind is Kind.TRUNCATED else "empty"),
        message=verdict.message or "no caption for this image in the reply",
        sent=sent,
        completion=completion,
    )
    thoughts = verdict.kind is Kind.NO_ROOM and completion and safe_text(completion.content)
    return record._replace(caption_raw=thoughts or None)


def failure(
    run: RunFacts,
    item: Item,
    *,
    code: str,
    message: str,
    sent: Sent | None = None,
    completion: Completion | None = None,
) -> Record:
    """The record of an image that has no caption, and why. sent: its last request, if any."""
    asked = item.asked
    return Record(
        key=asked.key,
        recipe=item.recipe,
        id=asked.id,
        image=asked.image,
        caption=None,
        status="failed",
        error_code=code,
        error=safe_text(message)[:ERROR_CHARS],
        flags=asked.flags,
        prompt_id=asked.prompt_id,
        model=run.job_model or run.endpoint.settings.model,
        served_model=completion.served_model if completion else None,
        provider=answered_by(sent, completion.provider if completion else None) if sent else None,
        request_id=sent.request_id if sent else None,
        finish_reason=completion.finish_reason if completion else None,
        attempts=asked.attempts if sent else 0,
        pack_size=len(sent.items) if sent else 0,
        image_sha256=asked.image_sha256,
        width=asked.width,
        height=asked.height,
        sent_width=asked.sent_width,
        sent_height=asked.sent_height,
        run_id=run.run_id,
        finished_at=micros(run.clock.now()),
    )
