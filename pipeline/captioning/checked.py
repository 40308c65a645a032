"""What checks make of a record: its flags, and whether its caption is kept, asked again or none."""

from __future__ import annotations

from pipeline.captioning.caption_text import caption_of
from pipeline.checks.checks import Checks
from pipeline.model import ASK_CAPTION, ASKED_AGAIN, CHECK, CHECK_FAILED, Record

#: Actions that ask a second question.
ASKS = frozenset({"retry", "fallback"})
_REFUSAL = CHECK + "refusal"


def checked(checks: Checks, record: Record, *, may_ask: bool) -> Record:
    """The record with the flags of its caption's checks (`check:NAME`) and what follows from them.

    may_ask: its answer has just come, so that it may be asked again. Of a stored record nothing is
    asked: what a check that was changed says of it is only derived again.
    """
    text = record.caption
    if text is None and _failed_by_check(record):
        text = caption_of(record.caption_raw or "")
    if not text:
        return record
    names = checks.of(text, cut="truncated" in record.flags)
    flags = tuple([flag for flag in record.flags if not flag.startswith(CHECK)])
    flags += tuple([CHECK + name for name in names])
    actions = {checks.actions[name] for name in names}
    asks = may_ask and not ASKS.isdisjoint(actions) and ASKED_AGAIN not in flags
    if asks:
        flags += (ASK_CAPTION,)
    refused = "refusal" in names
    if refused or ("fail" in actions and not asks):
        return record._replace(
            caption=None,
            status="failed",
            error_code="refused" if refused else CHECK_FAILED,
            error="the model refused in words" if refused else f"checks: {', '.join(names)}",
            flags=flags,
            caption_raw=record.caption_raw or record.caption,
        )
    if flags == record.flags and record.caption is not None:
        return record
    raw = None if record.caption_raw == text else record.caption_raw
    return record._replace(
        caption=text, status="ok", error_code=None, error=None, flags=flags, caption_raw=raw
    )


def _failed_by_check(record: Record) -> bool:
    return record.error_code == CHECK_FAILED or (
        record.error_code == "refused" and _REFUSAL in record.flags
    )


def passes(checks: Checks, record: Record) -> bool:
    """Is a second answer's caption better than the first, which a check asked again?"""
    names = [flag.removeprefix(CHECK) for flag in record.flags if flag.startswith(CHECK)]
    return record.status == "ok" and all(checks.actions[name] == "keep" for name in names)


__all__ = ["ASKS", "checked", "passes"]
