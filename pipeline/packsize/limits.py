"""What one request may hold: images, bytes, tokens."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from pipeline.packsize import cost

#: Raw image bytes in one request: 20 MB of body at the strictest upstream, base64 is 4/3 of it.
MAX_RAW_BYTES = 14_000_000


#: A model's longest answer and its context where its listing does not tell.
OUTPUT_TOKENS, CONTEXT_TOKENS = 8_192, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLimits:
    """What one request may hold."""

    images: int = 1
    #: The most images that the service takes, where that was learned.
    most: int = sys.maxsize
    raw_bytes: int = MAX_RAW_BYTES
    #: Input tokens: the model's context less what it answers.
    tokens_in: int = 900_000
    #: Output tokens of one answer.
    tokens_out: int = OUTPUT_TOKENS
    #: Output tokens to reckon with for one caption.
    caption_tokens: int = cost.CAPTION_TOKENS
    #: Input tokens of the system prompt, which every request holds.
    system_tokens: int = 0


def within(limits: PackLimits, *, count: int | None, raw_bytes: int | None) -> PackLimits:
    """The same below what a service documents of one request: its images, and their bytes before
    base64 (None: not documented)."""
    most = limits.most if count is None else min(limits.most, count)
    return replace(
        limits,
        images=min(limits.images, most),
        most=most,
        raw_bytes=limits.raw_bytes if raw_bytes is None else min(limits.raw_bytes, raw_bytes),
    )


def limits_for(
    images: int,
    *,
    context: int | None,
    max_output: int | None,
    caption_tokens: int = cost.CAPTION_TOKENS,
    system: str | None = None,
) -> PackLimits:
    """Limits for a model with this context and longest answer (None: not known), below this system
    prompt."""
    context = context or CONTEXT_TOKENS
    output = min(max_output or OUTPUT_TOKENS, max(1, context // 2))
    return PackLimits(
        images=images,
        tokens_in=max(1, int(context * 0.9) - output),
        tokens_out=output,
        caption_tokens=caption_tokens,
        system_tokens=cost.system_tokens(system),
    )
