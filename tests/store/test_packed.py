"""Entries in the journal's file: packed, and those of earlier versions as they were."""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store import tables
from pipeline.store.packed import pack, unpack

#: Packed by the first version that did: the dictionary is part of the format.
_FIRST = bytes.fromhex("010000001bc3117f894ae0ec8325d1017d0300")
_HEAD, _BODY = b'{"sent":{"request_id":"a"}}', b'{"choices":[{"index":0}]}'


@given(st.binary(max_size=3000), st.none() | st.binary(max_size=9000))
def test_an_entry_comes_back_as_it_was(head: bytes, body: bytes | None) -> None:
    assert unpack(pack(head, body), None) == (head, body)


def test_what_earlier_versions_wrote_is_read() -> None:
    assert unpack(_HEAD, _BODY) == (_HEAD, _BODY)
    assert unpack(b"[]", None) == (b"[]", None)
    assert unpack(_FIRST, None) == (_HEAD, _BODY)


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("body", [_BODY, None], ids=["with a body", "alone"])
def test_a_damaged_entry_is_no_entry(body: bytes | None, bit: int) -> None:
    """One bit, anywhere, or a lost end: never another text."""
    whole = pack(_HEAD, body)
    damaged = [
        whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at in range(len(whole))
    ]
    damaged += [whole[:at] for at in range(1, len(whole))]
    for held in damaged:
        with suppress(zlib.error):
            # Bits behind the last one of the stream say nothing; another first byte is none of ours.
            assert unpack(held, None) in ((_HEAD, body), (held, None))
            assert held[1:-1] == whole[1:-1]


def test_an_entry_without_a_checksum_that_ends_early_is_no_entry() -> None:
    with pytest.raises(zlib.error):
        unpack(_FIRST[:-3], None)


def test_a_journal_with_entries_of_both_kinds_is_read(tmp_path: Path) -> None:
    db = tables.connect(tmp_path / "journal.db")
    db.execute("INSERT INTO entries VALUES (1, 1, ?, ?)", (_HEAD, _BODY))
    noise = os.urandom(100_000)
    tables.add(db, [(2, 1, _HEAD, noise), (3, 2, b"[]", None)])
    assert tables.some_entries(db, 0, 9) == [
        (1, 1, _HEAD, _BODY),
        (2, 1, _HEAD, noise),
        (3, 2, b"[]", None),
    ]
    assert tables.some_bodies(db, [1, 2]) == [(_HEAD, _BODY), (_HEAD, noise)]
    db.close()


def test_deleted_entries_are_not_overwritten(tmp_path: Path) -> None:
    db = tables.connect(tmp_path / "journal.db")
    tables.add(db, [(seq, 1, _HEAD, os.urandom(3000)) for seq in range(1, 400)])
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    tables.mark_parts(db, [], upto=399)
    while tables.forget_entries(db, 1000):
        pass
    log = tables.log_of(tmp_path / "journal.db").stat().st_size
    assert log < 400 * 3000 / 4
    db.close()
