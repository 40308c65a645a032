"""Batches made in a thread of their own, one or two ahead of who takes them.

Joining rows keeps the interpreter busy, writing them the libraries below it: on two cores both go
on at once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(batches: Iterator[T]) -> Iterator[T]:
    """The same, in order. What is raised there is raised here; the thread ends with the iterator."""
    with ThreadPoolExecutor(1, thread_name_prefix="rows") as thread:
        try:
            pending = [thread.submit(next, batches, None) for _ in range(2)]
            while (batch := pending.pop(0).result()) is not None:
                pending.append(thread.submit(next, batches, None))
                yield batch
        finally:
            if isinstance(batches, Generator):
                thread.submit(batches.close)
