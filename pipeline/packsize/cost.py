"""What an image and a request cost, estimated before they are sent: tokens in and out, bytes.

Estimates err on the high side, since a limit is at stake; they are never used for accounting.
Image tokens: the 2024 Gemini rule was 258 for any image; the 2025 rule for Gemini 1.5 is 258 up
to 384 pixels a side, else 258 a tile (ai.google.dev/gemini-api/docs/image-understanding). Which
one a service applies is not told, so the larger one counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from pipeline.model import Form, Image, Item

TOKENS_PER_TILE = 258
#: Tokens of a usual one- or two-sentence caption with its JSON entry, measured generously.
CAPTION_TOKENS = 120
#: An English token is about four bytes, a Chinese character is three bytes and about a token.
BYTES_PER_TOKEN = 3
#: An image whose size is not known (sent as a URL): six tiles, as a 960 x 540 picture.
UNKNOWN_IMAGE_TOKENS = 6 * TOKENS_PER_TILE
#: `Image N:` and what a message part costs beside its content.
PART_TOKENS = 8
#: The words that tell a pack how to answer (`reply.pack_instruction`), and the JSON around.
PACK_TOKENS = 100
#: More pixels than this are scaled down by the service before it counts tiles.
MAX_SIDE = 3_072


def flat_tokens() -> int:
    """Input tokens of any image by the rule of 2024."""
    return TOKENS_PER_TILE


def tile_tokens(width: int, height: int) -> int:
    """Input tokens of an image of so many pixels by the tile rule of 2025."""
    if max(width, height) > MAX_SIDE:
        scale = MAX_SIDE / max(width, height)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
    if max(width, height) <= 384:
        return TOKENS_PER_TILE
    unit = min(768, max(256, math.floor(min(width, height) / 1.5)))
    return math.ceil(width / unit) * math.ceil(height / unit) * TOKENS_PER_TILE


def image_tokens(width: int | None, height: int | None) -> int:
    """Estimated input tokens of an image: the larger of both rules."""
    if not width or not height:
        return UNKNOWN_IMAGE_TOKENS
    return max(flat_tokens(), tile_tokens(width, height))


@lru_cache(maxsize=4)
def text_tokens(text: str) -> int:
    """Estimated tokens of a text. Most jobs have one prompt, which is measured once."""
    return len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN + 1


def system_tokens(prompt: str | None) -> int:
    """Estimated tokens of a system prompt, which every request holds."""
    return text_tokens(prompt) if prompt else 0


def item_tokens(image: Image) -> int:
    """Estimated input tokens of one image part."""
    return image_tokens(image.width, image.height) + PART_TOKENS


def item_bytes(image: Image) -> int:
    """Bytes of the image before base64; 0 for a URL."""
    return len(image.data) if image.data is not None else 0


def caption_tokens(max_tokens: object) -> int:
    """Output tokens to reckon with for one packed caption, given the job's `max_tokens`."""
    if isinstance(max_tokens, int) and not isinstance(max_tokens, bool):
        return max(1, min(CAPTION_TOKENS, max_tokens + PART_TOKENS))
    return CAPTION_TOKENS


def request_tokens(
    items: Sequence[Item], form: Form, *, caption: int = CAPTION_TOKENS, system: int = 0
) -> tuple[int, int]:
    """Estimated tokens (in, out) of a request; prompts that are the same count once. caption, system:
    tokens of one caption, and of the system prompt."""
    tokens = system
    for item in items:
        tokens += item_tokens(item.image)
    for prompt in {item.prompt for item in items}:
        tokens += text_tokens(prompt)
    if form in ("fields", "pack", "again"):
        tokens += PACK_TOKENS
    return tokens, caption * len(items)
