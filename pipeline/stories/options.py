"""The options of `run`, checked."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import CODES, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line says about one run."""

    limit: int | None = None
    retry_failed: bool = False
    retry: tuple[str, ...] = ()
    redo: str | None = None
    yes: bool = False
    quiet: bool = False
    json: bool = False

    @property
    def chosen(self) -> str | None:
        """SQL predicate on the captions to ask again: `--redo`, and those that were cut for
        `--retry truncated`."""
        words = [f"({self.redo})"] if self.redo else []
        if "truncated" in self.retry:
            words.append("list_contains(flags, 'truncated')")
        return " OR ".join(words) or None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError("--limit: at least 1")
        for code in self.retry:
            if code not in CODES:
                raise UsageError(
                    f"--retry {code}: no such code; there are {', '.join(sorted(CODES))}"
                )
