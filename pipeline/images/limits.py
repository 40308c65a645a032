"""How much of a stranger's picture is taken, wherever it comes from."""

from __future__ import annotations

#: Of one image, as it is stored.
MAX_BYTES = 20_000_000
#: Characters of a URL.
MAX_URL = 8_192
#: Images held in memory as bytes, over all that are on their way.
MAX_HELD = 64_000_000
#: Pixels. A JPEG may have more: it is shrunk while it is decoded, so that what is decoded has not.
MAX_PIXELS, MAX_JPEG_PIXELS = 40_000_000, 120_000_000
#: Address space of a worker process, and its CPU seconds for one picture.
WORKER_BYTES, PICTURE_SECONDS = 2 * 2**30, 30
