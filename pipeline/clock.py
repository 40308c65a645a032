"""Time comes in by argument. One Protocol, the real clock, and nothing else in the product."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for days and records, monotonic time for spacing, and a way to wait."""

    def now(self) -> float:
        """Seconds since the epoch; may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow; same base as the running loop's `time()`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; 0 or less yields once."""
        ...


class SystemClock:
    """The machine's own clock. It is read a dozen times a request: by `time` itself."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


def micros(seconds: float) -> int:
    """Epoch seconds as the integer microseconds that records hold."""
    return int(seconds * 1_000_000)


def http_date(text: str) -> float:
    """Seconds since 1970 of an HTTP date (RFC 9110 5.6.7). ValueError for what is none.

    One without a zone, or with `-0000`, is UTC: Python reads it as this machine's own time.
    """
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"no HTTP date: {text!a}") from error


def utc(seconds: float) -> str:
    """`2026-11-24 00:00:05 UTC`, as shown to people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(seconds: float) -> str:
    """`2026-11-24T00:00:05Z`, as programs read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(seconds: float) -> str:
    """`01:00:05 local`, in the machine's own zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%H:%M:%S local")
