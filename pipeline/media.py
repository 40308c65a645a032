"""Facts about pictures that several rooms share."""

from __future__ import annotations

#: Characters of a data URI: 20 MB of picture in base64, and its head.
MAX_DATA_URI = 28_000_000
