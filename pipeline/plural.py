"""Numbers in messages: `1 request`, `1,600 requests`."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """A number and what it counts, whose plural ends in an s."""
    return f"{number:,} {thing}{'s' * (number != 1)}"
