"""What an image costs, estimated before it is sent: tokens in, tokens out, bytes.

Estimates err on the high side where a limit is at stake and are never used for accounting.
Image tokens: the 2024 Gemini rule was 258 for any image; the 2025 rule for Gemini 1.5 is 258 up
to 384 pixels a side, else 258 a tile (ai.google.dev/gemini-api/docs/image-understanding).
"""

from __future__ import annotations

import math

from pipeline.records import Image

TOKENS_PER_TILE = 258
#: Tokens of a usual one- or two-sentence caption with its JSON entry, measured generously.
CAPTION_TOKENS = 120
#: About four characters a token in English; three is on the high side.
CHARS_PER_TOKEN = 3
#: An image whose size is not known (sent as a URL): six tiles, as a 960 x 540 picture.
UNKNOWN_IMAGE_TOKENS = 6 * TOKENS_PER_TILE


def image_tokens(width: int | None, height: int | None) -> int:
    """Estimated input tokens of an image of so many pixels, by the tile rule."""
    if not width or not height:
        return UNKNOWN_IMAGE_TOKENS
    if max(width, height) <= 384:
        return TOKENS_PER_TILE
    unit = min(768, max(256, math.floor(min(width, height) / 1.5)))
    return math.ceil(width / unit) * math.ceil(height / unit) * TOKENS_PER_TILE


def text_tokens(text: str) -> int:
    """Estimated tokens of a text."""
    return len(text) // CHARS_PER_TOKEN + 1


def item_tokens(image: Image) -> int:
    """Estimated input tokens of one image part."""
    return image_tokens(image.width, image.height) + 8


def item_bytes(image: Image) -> int:
    """Bytes of the image before base64; 0 for a URL."""
    return len(image.data) if image.data is not None else 0
