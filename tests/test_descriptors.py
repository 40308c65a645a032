"""Descriptors in reserve: given up when there are no others, and only then."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.descriptors import KEPT, SpareDescriptors


def opened() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """The process's limit of open files, for a while."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_reserve_is_given_up_when_no_other_is_left() -> None:
    """Also where the limit stays as it is: what was given up can be opened."""
    before = opened()
    spare = SpareDescriptors()
    assert opened() == before + KEPT
    assert not spare.released()
    with at_most(max(int(path.name) for path in Path("/proc/self/fd").iterdir())):
        filled = []
        with suppress(OSError):
            while True:
                filled.append(os.open(os.devnull, os.O_RDONLY))
        assert spare.released()
        os.close(os.open(os.devnull, os.O_RDONLY))
        assert not spare.released()
    for descriptor in filled:
        os.close(descriptor)
    assert opened() == before


def test_where_the_limit_is_low_none_are_kept() -> None:
    before = opened()
    with at_most(200):
        SpareDescriptors()
    assert opened() == before
