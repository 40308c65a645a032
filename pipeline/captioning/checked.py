"""What checks make of a record: its flags, and whether its caption is kept, asked again or none."""

from __future__ import annotations

from pipeline.captioning.caption_text import caption_of
from pipeline.checks.checks import Checks
from pipeline.model import ASK_CAPTION, ASKED_AGAIN, CHECK, CHECK_FAILED, Record

#: Actions that ask a second question.
ASKS = frozenset({"retry", "fallback"})
_REFUSAL = CHECK + "refusal"


def judged(
    checks: Checks, caption: str, flags: tuple[str, ...], *, may_ask: bool
) -> tuple[tuple[str, ...], str | None, str | None]:
    """The flags of a record with this caption, and the code and words of its failure, if it is one.

    may_ask: its answer has just come, so that it may be asked again.
    """
    names = checks.of(caption, cut="truncated" in flags)
    if flags:
        flags = tuple([flag for flag in flags if not flag.startswith(CHECK)])
    if not names:
        return flags, None, None
    flags += tuple([CHECK + name for name in names])
    actions = {checks.actions[name] for name in names}
    asks = may_ask and not ASKS.isdisjoint(actions) and ASKED_AGAIN not in flags
    if asks:
        flags += (ASK_CAPTION,)
    if "refusal" in names:
        return flags, "refused", "the model refused in words"
    if "fail" in actions and not asks:
        return flags, CHECK_FAILED, f"checks: {', '.join(names)}"
    return flags, None, None


def checked(checks: Checks, record: Record) -> Record:
    """A stored record, judged again. Nothing is asked for it: what a check that was changed says of
    it is only derived."""
    text = record.caption
    if text is None and _failed_by_check(record):
        text = caption_of(record.caption_raw or "")
    if not text:
        return record
    flags, code, error = judged(checks, text, record.flags, may_ask=False)
    if code is not None:
        return record._replace(
            caption=None,
            status="failed",
            error_code=code,
            error=error,
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


__all__ = ["ASKS", "checked", "judged", "passes"]
