"""The key set is exact at any size, and small."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from pipeline.checkpoint import keyset
from pipeline.checkpoint.keyset import KeySet
from tests.support.command import ROOT, environment

#: Keys that share bytes, so that a match across two neighbours in a bucket is likely.
KEY = st.binary(min_size=3, max_size=3).map(lambda b: (b[:1] * 2 + (b[1:2] * 13) + b[2:]).hex())


@given(st.lists(st.tuples(st.sampled_from(["add", "discard"]), KEY), max_size=200), st.booleans())
def test_it_does_what_a_set_does(steps: list[tuple[str, str]], small: bool) -> None:
    """Add, discard, membership and length agree with Python's set, small and spread."""
    ours, theirs = KeySet(), set[str]()
    if not small:
        ours._spread()
    for step, key in steps:
        if step == "add":
            assert ours.add(key) == (key not in theirs)
            theirs.add(key)
        else:
            ours.discard(key)
            theirs.discard(key)
        assert (key in ours) == (key in theirs)
        assert len(ours) == len(theirs)
    assert all(key in ours for key in theirs)


def test_growing_past_the_small_form_keeps_every_key() -> None:
    """The change from set to buckets loses nothing."""
    keys = [hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(keyset.SMALL + 500)]
    ours = KeySet(keys)

    assert len(ours) == len(keys)
    assert all(key in ours for key in keys)
    assert "f" * 32 not in ours


def test_a_key_costs_at_most_24_bytes() -> None:
    """Measured as the growth of a process that holds a million keys."""
    code = """
import os, resource
from pipeline.checkpoint.keyset import KeySet
def rss():
    return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
keys = KeySet(os.urandom(16).hex() for _ in range(60_000))
before = rss()
for _ in range(1_000_000):
    keys.add(os.urandom(16).hex())
print((rss() - before) / 1_000_000)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert float(done.stdout) <= 24, done
