"""Why a gate ends a run."""

from __future__ import annotations

from pipeline.clock import utc
from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.days import MARGIN, resume_words
from pipeline.ratelimit.rules.base import Now
from pipeline.verdict import Verdict


def budget_spent(verdict: Verdict, now: Now) -> StopReason:
    """A budget that resets at a told instant."""
    resume = None
    if verdict.until is not None and verdict.until > now.low:
        resume = verdict.until + MARGIN + max(0.0, now.wall - now.low)
    reason = verdict.message or "the key's budget is spent"
    message = reason if resume is None else f"{reason}; {resume_words(resume)}"
    return StopReason(exit=Exit.LATER, message=message, resume_after=resume)


def clocks_apart(here: float, there: float) -> StopReason:
    """This machine's clock and the service's (epoch s) are too far apart."""
    message = (
        f"this machine's clock says {utc(here)}, the service's answers say {utc(there)}: set the "
        "clock, then run again"
    )
    return StopReason(exit=Exit.LATER, message=message)
