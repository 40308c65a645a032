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
    #: Ask again the captions that somebody has rejected.
    retry_rejected: bool = False
    yes: bool = False
    take_over: bool = False
    pilot: int | None = None
    #: `--shard`, as written.
    shard: str | None = None
    #: Put the shards' parts into the main output, and ask nothing.
    join: bool = False
    quiet: bool = False
    json: bool = False

    @property
    def chosen(self) -> str | None:
        """SQL predicate on the captions to ask again: `--redo`, and those that were cut for
        `--retry truncated`."""
        conditions = [in_parentheses(self.redo)] if self.redo else []
        if "truncated" in self.retry:
            conditions.append("list_contains(flags, 'truncated')")
        return " OR ".join(conditions) or None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError("--limit: write a number of at least 1")
        if self.pilot is not None and self.pilot < 1:
            raise UsageError("--pilot: write a number of at least 1")
        if self.pilot is not None and self.limit is not None:
            raise UsageError("--pilot and --limit: choose one of the two")
        part = any((self.limit, self.pilot, self.chosen, self.retry_rejected))
        if self.shard is not None and (self.pilot or self.chosen or self.retry_rejected):
            raise UsageError(
                "--shard: --pilot, --redo, --retry truncated and --retry-rejected go without it"
            )
        if self.join and (self.shard is not None or part or self.retry_failed or self.retry):
            raise UsageError("--join asks nothing: give it without other options")
        for code in self.retry:
            if code not in CODES:
                raise UsageError(f"--retry {code}: no such code; there are {', '.join(CODES)}")


def read_codes(text: str | None) -> tuple[str, ...]:
    """`--retry dns,timeout` as codes; RunOptions says which of them there are not."""
    return () if text is None else tuple(code.strip() for code in text.split(","))


def in_parentheses(predicate: str) -> str:
    """A predicate as part of a larger one: on lines of its own, where a `--` comment ends, and
    without the `;` of a statement."""
    return f"(\n{predicate.strip().rstrip('; ')}\n)"
