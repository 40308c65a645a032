"""The map of settled keys says what a dict would, at any size, whatever keys are alike."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from pipeline.store import keys as keymap
from pipeline.store.keys import KeyMap


def _keys(rng: random.Random, count: int) -> list[str]:
    """Keys of which many share their bucket, and some all but the last byte."""
    near = rng.randbytes(15)
    return [
        *(rng.randbytes(16).hex() for _ in range(count // 2)),
        *((b"\x07\x07" + rng.randbytes(14)).hex() for _ in range(count // 2 - 256)),
        *((near + bytes([last])).hex() for last in range(256)),
    ]


@pytest.mark.parametrize("split", [4, 16, 160, 4_096])
def test_it_says_what_a_dict_says(split: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set, set again, and loaded by the column, with buckets split early, late and never."""
    monkeypatch.setattr(keymap, "LEAF", split)
    rng = random.Random(split)
    keys, strangers = _keys(rng, 3_000), _keys(rng, 600)
    words = [f"word {number}" for number in range(250)]
    found, expected = KeyMap(), dict[str, str]()
    for key in keys[:1_000]:
        word = rng.choice(words)
        assert found.set(key, word) is None
        expected[key] = word
    for start in range(1_000, len(keys), 3):
        some = keys[start : start + 3]
        word = rng.choice(words)
        found.load(pa.array(some), word)
        expected |= dict.fromkeys(some, word)
    for key in rng.sample(keys, 1_500):
        word, unless = rng.choice(words), rng.choice([None, *words[:9]])
        assert found.set(key, word, unless=unless) == expected[key]
        if expected[key] != unless:
            expected[key] = word

    mixed = rng.sample(keys + strangers, len(keys) + len(strangers))

    assert [found.get(key) for key in mixed] == [expected.get(key) for key in mixed]
    assert len(found) == len(expected)
    assert sum(found.counts().values()) == len(expected)
