"""The circuit breaker of places that images come from: whose fault, when it opens, who waits."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import tempfile
import unicodedata
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.aio import each
from pipeline.captioning import sources
from pipeline.captioning.fresh_first import FreshFirst
from pipeline.captioning.pack import Pool
from pipeline.captioning.request_result import RequestResult
from pipeline.captioning.request_source import RequestSource
from pipeline.captioning.retry import Action, RetryDecision
from pipeline.captioning.sources import Sources
from pipeline.captioning.suspects import Suspects
from pipeline.clock import SystemClock
from pipeline.errors import CODES, ImageError, SourceUnavailable
from pipeline.images import outage
from pipeline.images.outage import (
    FAILURES_ALIVE,
    FAILURES_NEW,
    MACHINE,
    PATIENCE_NEW,
    TRIES,
    Outages,
    place_of_errno,
)
from pipeline.images.sources import file
from pipeline.images.sources.base import Places
from pipeline.images.sources.file import from_path
from pipeline.model import Asked, Image, Item, Request, Row
from pipeline.packsize.limits import PackLimits

PATIENCE = 900.0

#: No pack was refused: nothing is read or written there.
NO_SUSPECTS = Suspects(Path("nowhere"))


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
    """All wait, one at a time is tried, one that did not fail first, later and later; its success
    frees the others."""
    outages: Outages[int] = Outages(PATIENCE)
    assert outages.failed(away(), 0, key_of(0), 10.0) is None
    assert outages.open_place("/photos") == "/photos"
    for image in (1, 2):
        outages.put_off("/photos", image, 10.0)
    assert outages.due(10.5, key_of) == []
    assert outages.due(11.0, key_of) == [1]
    assert outages.due(500.0, key_of) == []  # the probe is under way
    assert outages.failed(away(), 1, key_of(1), 12.0) is None
    assert outages.due(13.9, key_of) == []
    assert outages.due(14.0, key_of) == [2]
    assert outages.succeeded((), key_of(2)) == ["/photos"]
    assert sorted(outages.due(14.0, key_of)) == [0, 1]
    assert outages.waiting == 0
    assert not outages.left


def test_what_waits_when_patience_ends_is_left() -> None:
    outages: Outages[int] = Outages(PATIENCE)
    outages.succeeded(["/photos/a"], key_of(9))
    for image in range(3):
        assert outages.failed(away(), image, key_of(image), 0.0) is None
    assert outages.due(PATIENCE - 1.0, key_of) == [0]
    assert outages.failed(away(), 0, key_of(0), PATIENCE - 1.0) is None
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
    killer = outage.machine_trouble("killed")
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
    assert not CODES[error.code], "the next run has to ask it again"


def tried(
    outages: Outages[int], refuses: Callable[[int, float], bool], images: int, until: float
) -> dict[int, float]:
    """Try images of one host a tenth of a second apart; image -> when it failed for good."""
    fresh, failed, now = iter(range(images)), dict[int, float](), 0.0
    while now < until:
        now += 0.1
        due = outages.due(now, key_of)
        image = next(fresh, None)
        if image is not None and outages.any_open:
            outages.put_off("h.example", image, now)
        elif image is not None:
            due.append(image)
        for due_image in due:
            if not refuses(due_image, now):
                outages.succeeded(["h.example"], key_of(due_image))
            elif outages.failed(refused(), due_image, key_of(due_image), now) is not None:
                failed[due_image] = now
    assert outages.waiting == 0
    return failed


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_an_overloaded_host_fails_no_image(share: float, seed: int) -> None:
    """It refuses a share of all tries for two minutes, answers the others, and is well again."""
    rng = random.Random(seed)

    def refuses(image: int, now: float) -> bool:
        return 2.0 < now < 120.0 and rng.random() < share

    outages: Outages[int] = Outages(PATIENCE)
    assert tried(outages, refuses, 500, 600.0) == {}
    assert not outages.left


@pytest.mark.parametrize(("each", "late"), [(50, False), (3, True)])
def test_images_that_a_host_never_gives_fail_by_themselves(each: int, late: bool) -> None:
    """A few at once; many, which look like an overload, when patience is over."""
    outages: Outages[int] = Outages(PATIENCE)
    failed = tried(outages, lambda image, _: image % each == 0, 500, 2 * PATIENCE)
    assert failed.keys() == set(range(0, 500, each))
    assert (max(failed.values()) > PATIENCE) == late
    assert not outages.left


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


def trouble_of(text: str, places: Places) -> ImageError:
    with pytest.raises(ImageError) as caught:
        from_path(text, places)
    return caught.value


@pytest.mark.parametrize("there", [False, True], ids=["absent", "empty"])
def test_a_root_that_was_never_there_is_no_fault_of_its_pictures(
    there: bool, tmp_path: Path
) -> None:
    """Not mounted: the mount point is not there, or it is empty."""
    root = tmp_path / "nas"
    if there:
        root.mkdir()
    for text in ("1.jpg", "a/b/2.jpg", str(root / "3.jpg")):
        trouble = trouble_of(text, Places(root=root))
        assert isinstance(trouble, SourceUnavailable)
        assert (trouble.place, trouble.certain) == (str(root), True)


@pytest.mark.parametrize("name", ["", "images", "/"])
def test_one_wrong_path_in_a_root_that_is_there_is_its_own_fault(name: str, tmp_path: Path) -> None:
    """Also where its folder does not exist: after a few tries it fails as `missing_file`."""
    (tmp_path / "x.csv").touch()
    text = f"{tmp_path}/none/1.jpg" if name == "/" else f"{name}/1.jpg".lstrip("/")
    outages: Outages[int] = Outages(PATIENCE)
    trouble, now = trouble_of(text, Places(root=tmp_path)), 0.0
    while isinstance(trouble, SourceUnavailable):
        failed = outages.failed(trouble, 1, key_of(1), now)
        assert not outages.any_open
        trouble, now = failed or trouble, now + 10.0
        outages.due(now, key_of)
    assert trouble.code == "missing_file"


@pytest.mark.parametrize(("others", "most"), [(False, FAILURES_ALIVE), (True, FAILURES_NEW)])
def test_many_pictures_of_a_folder_that_is_not_there_are_its_outage(
    others: bool, most: int, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").touch()
    outages: Outages[int] = Outages(PATIENCE)
    if others:
        outages.succeeded([str(tmp_path / "here")], key_of(99))
    for number in range(most):
        assert not outages.any_open
        trouble = trouble_of(f"images/{number}.jpg", Places(root=tmp_path))
        assert isinstance(trouble, SourceUnavailable)
        assert outages.failed(trouble, number, key_of(number), 0.0) is None
    assert outages.open_place(str(tmp_path / "images"))


def test_a_place_that_never_delivered_is_waited_for_a_minute() -> None:
    """It may be a wrong name; this machine is none."""
    outages: Outages[int] = Outages(PATIENCE)
    outages.failed(away(), 1, key_of(1), 0.0)
    outages.failed(outage.machine_trouble("x"), 2, key_of(2), 0.0)
    assert outages.due(PATIENCE_NEW, key_of) == [2]
    assert sum(outages.left.values()) == 1


def test_a_picture_read_before_the_outage_does_not_end_it() -> None:
    """What was loaded when the folder went still comes to its end."""
    outages: Outages[int] = Outages(PATIENCE)
    outages.failed(away("/photos"), 1, key_of(1), 0.0)
    assert outages.succeeded(["/photos"], key_of(2)) == []
    assert outages.any_open


def test_a_probe_that_meets_another_trouble_is_not_waited_for_any_more() -> None:
    """The folder's probe fails for want of a descriptor: the folder is probed again."""
    outages: Outages[int] = Outages(PATIENCE)
    for image in (1, 2):
        outages.failed(away(), image, key_of(image), 0.0)
    assert outages.due(1.0, key_of) == [1]
    outages.failed(outage.machine_trouble("no descriptor"), 1, key_of(1), 1.0)
    assert sorted(outages.due(10.0, key_of)) == [1, 2]


def test_a_folder_that_comes_back_between_two_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was away when its file was opened and is back when one asks why: its picture is read."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").write_bytes(b"x")
    (tmp_path / "a").rename(tmp_path / "gone")
    real = file.read_file

    def back_at_once(path: Path) -> bytes:
        try:
            return real(path)
        finally:
            if not (tmp_path / "a").exists():
                (tmp_path / "gone").rename(tmp_path / "a")

    monkeypatch.setattr(file, "read_file", back_at_once)
    assert from_path("a/1.jpg", Places(root=tmp_path)) == b"x"


@contextmanager
def nobody() -> Iterator[Path]:
    """A folder of a user without rights, as whom the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


def test_a_folder_without_rights_is_no_fault_of_its_pictures() -> None:
    with nobody() as folder:
        os.seteuid(os.getuid())
        for name in ("closed", "open"):
            (folder / name / "in").mkdir(parents=True)
            (folder / name / "1.jpg").write_bytes(b"x")
            (folder / name / "in/2.jpg").write_bytes(b"x")
        (folder / "closed").chmod(0)
        (folder / "open/1.jpg").chmod(0)
        if os.getuid() == 0:
            os.seteuid(65534)
        places = Places(root=folder / "closed")
        for text in ("1.jpg", "in/2.jpg"):
            trouble = trouble_of(text, places)
            assert isinstance(trouble, SourceUnavailable)
            assert trouble.certain == (text == "1.jpg")
        single = trouble_of("open/1.jpg", Places(root=folder))
        assert single.code == "missing_file"
        assert not getattr(single, "certain", False)
        os.seteuid(os.getuid())
        (folder / "closed").chmod(0o755)


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_names_are_looked_for_in_the_other_unicode_form(stored: Any, tmp_path: Path) -> None:
    other = "NFD" if stored == "NFC" else "NFC"
    folder = tmp_path / unicodedata.normalize(other, "Zürich")
    folder.mkdir()
    (folder / unicodedata.normalize(stored, "Café é.jpg")).write_bytes(b"x")
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, "Zürich/Café é.jpg")
        assert from_path(text, Places(root=tmp_path)) == b"x"
    assert trouble_of("Zürich/Caffè.jpg", Places(root=tmp_path)).code == "missing_file"


def test_what_comes_back_goes_again_while_images_are_waited_for() -> None:
    """The next image waits for its folder: a request that has to be tried again does not."""

    async def none_come() -> AsyncGenerator[list[Item], None]:
        asked = Asked(key="0" * 32, id=None, image="a", prompt_id="")
        yield [Item(asked, Image(url="https://a.example/1.jpg"), "prompt")]
        await asyncio.Event().wait()

    class NothingUndecided:
        async def finish(self) -> None: ...

        def released(self) -> list[Item]:
            return []

        async def again(self, *, last: bool) -> list[Item]:
            return []

    async def run() -> int:
        stopped, tries = asyncio.Event(), 0
        nobody: Any = NothingUndecided()
        request_source = RequestSource(
            none_come(), Pool(PackLimits()), nobody, stopped=stopped, suspects=NO_SUSPECTS
        )

        async def settle(request: Request) -> RequestResult:
            nonlocal tries
            tries += 1
            await asyncio.sleep(0)
            if tries == 2:
                stopped.set()
            return RequestResult(
                request=request, left=request.items, decision=RetryDecision(action=Action.RETRY)
            )

        await asyncio.wait_for(
            each(request_source.settling(settle), request_source.requests(), limit=2), 5
        )
        return tries

    assert asyncio.run(run()) == 2


class Manifest:
    """Rows of two hosts, as a selection gives them; how often they were read."""

    def __init__(self, count: int) -> None:
        names = [f"{'dead' if n % 2 else 'alive'}/{n}" for n in range(count)]
        self.rows = [(Row(name), key_of(n)) for n, name in enumerate(names)]
        self.reads = 0

    async def candidates(self) -> AsyncGenerator[list[Any], None]:
        self.reads += 1
        for row in self.rows:
            yield [row]

    async def again(self, keys: Any) -> AsyncGenerator[list[Any], None]:
        self.reads += 1
        for row in self.rows:
            if keys.get(row[1].hex()) == "":
                yield [row]


class Hosts:
    """One host that answers and one that does not until it is back."""

    def __init__(self, back: Any) -> None:
        self.back = back

    def places_of(self, value: str) -> tuple[str, ...]:
        return value.split("/", maxsplit=1)[0], MACHINE

    async def load(self, value: str, *, inline: bool, arrived: Any = None) -> Image:
        await asyncio.sleep(0)
        if value.startswith("dead") and not self.back():
            raise refused("dead")
        return Image(url=value)


def test_others_go_on_while_more_images_than_are_remembered_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host is down for all of the manifest but what had begun; all of it comes in the end."""
    monkeypatch.setattr(sources, "MOST_WAITING", 30)
    monkeypatch.setattr(outage, "WAIT_FIRST", 0.01)
    manifest, came, most = Manifest(400), list[str](), 0

    def back() -> bool:
        return sum(name.startswith("alive") for name in came) == 200

    async def run() -> None:
        nonlocal most
        loader: Any = Hosts(back)
        run = Sources(
            loader,
            patience=60.0,
            clock=SystemClock(),
            stopped=asyncio.Event(),
            event=lambda line: None,
            fresh_first=FreshFirst(NO_SUSPECTS, lambda _packs: False),
        )
        selection: Any = manifest
        async for batch in run.candidates(selection):
            for candidate in batch:
                image = await run.load(candidate, inline=True)
                if image is not None and image.url is not None:
                    came.append(image.url)
            most = max(most, run._outages.waiting)
        assert run.reason() is None

    asyncio.run(asyncio.wait_for(run(), 30))
    assert sorted(came) == sorted(str(row.image) for row, _ in manifest.rows)
    assert most <= 31
    assert manifest.reads > 1
