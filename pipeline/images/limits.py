"""How much of a stranger's picture is taken, wherever it comes from."""

from __future__ import annotations

#: Of one image, as it is stored.
MAX_BYTES = 20_000_000
#: Characters of a URL.
MAX_URL = 8_192
#: Images held in memory as bytes, over all that are on their way.
MAX_HELD = 64_000_000
#: Pixels (`images.max_pixels`). A JPEG may have more: it is shrunk while it is decoded, so that what
#: is decoded has not.
MAX_PIXELS, MAX_JPEG_PIXELS = 64_000_000, 120_000_000
#: Address space of a worker process, and what a pixel may take there: WebP with transparency takes
#: 16 bytes, the others less.
WORKER_BYTES, BYTES_A_PIXEL = 2 * 2**30, 24
#: CPU seconds for one picture.
PICTURE_SECONDS = 30


def worker_bytes(max_pixels: int) -> int:
    """Address space of a worker that decodes pictures of so many pixels."""
    return max(WORKER_BYTES, BYTES_A_PIXEL * max_pixels + WORKER_BYTES // 4)
