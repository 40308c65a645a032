"""How many requests at once, and how much context, fit into this machine's memory. Pure, but for
`free_memory`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.service.llamacpp.header import Header

#: Requests that are worked on at once, at most, and tokens of context each has, at most and at
#: least: a picture of 768 px takes some 800 in most models.
MOST_SLOTS, MOST_CONTEXT, LEAST_CONTEXT = 4, 8192, 2048
#: Bytes for graphs, pictures and the program itself, and their share of the weights.
OVERHEAD, OVERHEAD_SHARE = 256 * 2**20, 0.1
#: Keys and values are kept as 16-bit floats.
_KEPT_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What llama.cpp is told."""

    slots: int
    #: Tokens, of each slot.
    context: int


class TooLittle(Exception):
    """Not even the smallest size fits: so many bytes are needed and free."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(needed, free)
        self.needed, self.free = needed, free


def fit(model: Header, projector: Header, free: int | None, *, concurrency: int) -> Fit:
    """The largest that fits: fewer slots first, then less context. TooLittle when none does.

    free: bytes; None: not known, or of no account since a graphics card holds the weights.
    """
    trained = model.number("context_length") or MOST_CONTEXT
    most = min(trained, MOST_CONTEXT)
    slots = max(1, min(concurrency, MOST_SLOTS))
    sizes = [(count, most) for count in range(slots, 0, -1)]
    while most > LEAST_CONTEXT:
        most = max(most // 2, LEAST_CONTEXT)
        sizes.append((1, most))
    weights = model.size + projector.size
    base = int(weights * (1 + OVERHEAD_SHARE)) + OVERHEAD
    each = token_bytes(model)
    for count, context in sizes:
        if free is None or base + count * context * each <= free:
            return Fit(slots=count, context=context)
    raise TooLittle(base + most * each, free or 0)


def token_bytes(model: Header) -> int:
    """Bytes of keys and values that each token of context takes."""
    heads = model.number("attention.head_count")
    width = model.number("embedding_length") // heads if heads else 0
    both = (model.number("attention.key_length") or width) + (
        model.number("attention.value_length") or width
    )
    kept = model.number("attention.head_count_kv") or heads
    return model.number("block_count") * kept * both * _KEPT_BYTES


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take, by the kernel and the control group; None where
    neither says."""
    sizes = [_available(root), _group_left(root)]
    return min((size for size in sizes if size is not None), default=None)


def _available(root: Path) -> int | None:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group_left(root: Path) -> int | None:
    """What a container's limit leaves. The files that it has read count as used, but are given back."""
    group = root / "sys/fs/cgroup"
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # no such group, or `max`
        return None
