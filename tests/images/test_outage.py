"""The circuit breaker of places that images come from: whose fault, when it opens, who waits."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.errors import ImageError, SourceUnavailable
from pipeline.images.outage import (
    FAILURES_ALIVE,
    FAILURES_NEW,
    MACHINE,
    TRIES,
    Outages,
    place_of_errno,
)
from pipeline.images.sources.base import Places
from pipeline.images.sources.file import from_path

PATIENCE = 900.0


def key_of(image: int) -> bytes:
    return image.to_bytes(16, "big")


def refused(host: str = "h.example") -> SourceUnavailable:
    return SourceUnavailable("connect", f"{host}: refused", place=host, certain=False)


def away(folder: str = "/photos") -> SourceUnavailable:
    return SourceUnavailable("missing_file", "gone", place=folder, certain=True)


@pytest.mark.parametrize(
    ("number", "place"),
    [
        *((one, MACHINE) for one in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)),
        *((one, "/photos") for one in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT)),
        (errno.EHOSTDOWN, "/photos"),
        *((one, None) for one in (errno.ENOENT, errno.EISDIR, errno.EACCES, errno.ELOOP)),
        (errno.ENAMETOOLONG, None),
    ],
)
def test_an_errno_tells_whose_fault_it_is(number: int, place: str | None) -> None:
    assert place_of_errno(number, "/photos") == place


def test_one_certain_failure_opens_and_one_probe_closes() -> None:
    """All wait, one at a time is tried, later and later; its success frees the others."""
    outages: Outages[int] = Outages(PATIENCE)
    assert outages.failed(away(), 0, key_of(0), 10.0) is None
    assert outages.open_place("/photos") == "/photos"
    for image in (1, 2):
        outages.put_off("/photos", image, 10.0)
    assert outages.due(10.5, key_of) == []
    assert outages.due(11.0, key_of) == [0]
    assert outages.due(500.0, key_of) == []  # the probe is under way
    assert outages.failed(away(), 0, key_of(0), 12.0) is None
    assert outages.due(13.9, key_of) == []
    assert outages.due(14.0, key_of) == [1]
    assert outages.succeeded((), key_of(1)) == ["/photos"]
    assert sorted(outages.due(14.0, key_of)) == [0, 2]
    assert outages.waiting == 0
    assert not outages.left


def test_what_waits_when_patience_ends_is_left() -> None:
    outages: Outages[int] = Outages(PATIENCE)
    for image in range(3):
        assert outages.failed(away(), image, key_of(image), 0.0) is None
    assert outages.due(PATIENCE, key_of) == []
    assert outages.left == {"/photos: gone": 3}
    assert outages.waiting == 0


@pytest.mark.parametrize(("alive", "most"), [(True, FAILURES_ALIVE), (False, FAILURES_NEW)])
def test_a_host_is_out_after_failures_in_a_row(alive: bool, most: int) -> None:
    """A success between begins the count anew; a host that never answered gets more of them."""
    outages: Outages[int] = Outages(PATIENCE)
    if alive:
        outages.succeeded(["h.example"], key_of(999))
    for image in range(most - 1):
        assert outages.failed(refused(), image, key_of(image), 0.0) is None
    assert outages.open_place("h.example") is None
    outages.failed(refused(), most, key_of(most), 0.0)
    assert outages.open_place("h.example") == "h.example"


def test_one_dead_link_fails_by_itself_after_its_tries() -> None:
    """Its host lives: other images of it come in between."""
    outages: Outages[int] = Outages(PATIENCE)
    now = 0.0
    for number in range(TRIES):
        error = outages.failed(refused(), 7, key_of(7), now)
        outages.succeeded(["h.example"], key_of(8))
        now += 100.0
        if number < TRIES - 1:
            assert error is None
            assert outages.due(now, key_of) == [7]
    assert isinstance(error, ImageError)
    assert error.code == "connect"
    assert outages.waiting == 0


def test_a_picture_that_always_breaks_a_machine_that_is_well_is_to_blame() -> None:
    """It opens the circuit each time, others pass each time: in the end it fails."""
    outages: Outages[int] = Outages(PATIENCE)
    killer = SourceUnavailable("corrupt", "killed", place=MACHINE, certain=True)
    now, error = 0.0, None
    for _ in range(20):
        error = outages.failed(killer, 1, key_of(1), now)
        if error is not None:
            break
        outages.put_off(MACHINE, 2, now)
        now += 2.0
        for image in outages.due(now, key_of):
            if image == 2:
                outages.succeeded((), key_of(2))
        outages.succeeded([MACHINE], key_of(3))
        outages.due(now + 100.0, key_of)
        now += 100.0
    assert error is not None
    assert error.code == "corrupt"


def test_a_missing_file_is_its_own_fault_only_while_its_folder_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").write_bytes(b"x")
    places = Places(root=tmp_path)
    with pytest.raises(ImageError) as missing:
        from_path("a/2.jpg", places)
    assert not isinstance(missing.value, SourceUnavailable)
    assert from_path("a/1.jpg", places) == b"x"
    (tmp_path / "a").rename(tmp_path / "gone")
    with pytest.raises(SourceUnavailable) as away_:
        from_path("a/1.jpg", places)
    assert away_.value.place == str(tmp_path / "a")
    (tmp_path / "a").mkdir()  # the mount point without its disk
    with pytest.raises(SourceUnavailable):
        from_path("a/1.jpg", places)
    (tmp_path / "a").rmdir()
    (tmp_path / "gone").rename(tmp_path / "a")
    assert from_path("a/1.jpg", places) == b"x"
