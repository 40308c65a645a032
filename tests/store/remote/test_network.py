"""An output on a network file system: the journal stays here, the parts go there, one host writes."""

from __future__ import annotations

import asyncio
import errno
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.captioning.inputs import this_environment
from pipeline.captioning.options import RunOptions
from pipeline.captioning.output_location import placed
from pipeline.clock import SystemClock
from pipeline.commands.adopt import adopt_command
from pipeline.commands.export import export_command
from pipeline.commands.review_import import import_command
from pipeline.commands.run import run
from pipeline.commands.status import status_of
from pipeline.commands.verify import verify_command
from pipeline.config.job import JobConfig
from pipeline.errors import Held, JobError, OutputError
from pipeline.export.options import ExportRequest
from pipeline.store import parts, publish
from pipeline.store.remote import filesystem as stores
from pipeline.store.remote.filesystem import FolderStore, Taken, put_whole
from pipeline.store.remote.network import network_type
from pipeline.store.remote.owner import OWNER, read_owner
from pipeline.store.remote.replica import behind
from pipeline.store.remote.verify import check_shared
from pipeline.store.settings import Elsewhere
from pipeline.store.store import open_checkpoint
from pipeline.store.tables import Part
from tests.store.remote.buckets import records_in
from tests.support.pictures import folder_of
from tests.support.small_run import derive, failed, key, reply, sent

ENVIRONMENT = this_environment({})
LOCAL = "/dev/vda / ext4 rw,relatime 0 0\nproc /proc proc rw 0 0\n"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("server:/x {} nfs4 rw 0 0", "nfs4"),
        ("//server/x {} cifs rw 0 0", "cifs"),
        ("me@host:/ {} fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("x {} lustre rw 0 0", "lustre"),
        ("x {} fuse.fuse-overlayfs rw 0 0", None),
        ("/dev/sdb {} fuseblk rw 0 0", None),
        ("tmpfs {} tmpfs rw 0 0", None),
        ("server:/x {}er nfs4 rw 0 0", None),
        ("server:/x {} nfs4 rw 0 0\n/dev/sdc {} ext4 rw 0 0", None),
    ],
)
def test_the_table_of_mounts_tells_shared_file_systems(
    tmp_path: Path, line: str, kind: str | None
) -> None:
    """The longest mount point counts, the later of two; a neighbour's name is no mount point."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    point = str(folder).replace(" ", "\\040")
    mounts = LOCAL + line.replace("{}", point) + "\n"

    assert network_type(folder / "out" / "x", mounts) == kind
    assert network_type(tmp_path, mounts) is None


def job_at(tmp_path: Path, path: Path, rows: int = 6) -> JobConfig:
    images = tmp_path / "pictures"
    made = next(images.glob("*.csv"), None) or folder_of(images, rows)
    return JobConfig.model_validate(
        {
            "name": "test",
            "manifest": {"path": str(made)},
            "endpoint": {"profile": "embedded", "model": "embedded/pixels"},
            "output": {"path": str(path)},
            "run": {"min_free": 0},
        }
    )


def mounted(folder: Path) -> str:
    return f"{LOCAL}server:/x {folder} nfs4 rw 0 0\n"


def go(job: JobConfig, state: Path, **more: Any) -> dict[str, Any]:
    environment = this_environment({"CAPTION_PIPELINE_STATE": str(state)})
    return asyncio.run(run(job, RunOptions(**more), environment))


def test_a_whole_job_on_a_network_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run, status, verify, export: parts and dataset lie there, the journal here, and one host
    writes; another one is refused by name, and may take over without asking what is published."""
    share = tmp_path / "share"
    share.mkdir()
    plain, mounts = job_at(tmp_path, share / "out"), mounted(share)
    one, two = tmp_path / "one", tmp_path / "two"
    here = placed(plain, {"CAPTION_PIPELINE_STATE": str(one)}, mounts)
    there = placed(plain, {"CAPTION_PIPELINE_STATE": str(two)}, mounts)

    ended = go(here, one, limit=4)
    assert (ended["exit_code"], ended["captioned"], ended["requests"]) == (0, 4, 4)
    assert ended["output"] == str(share / "out")
    assert len(records_in(FolderStore(share / "out"), share)) == 4
    assert pq.read_table(share / "out/dataset.parquet").num_rows == 6
    in_state = sorted(path.name for path in (share / "out/_state").iterdir())
    assert in_state == ["lock", "owner.json"]
    assert status_of(here)["captions"] == 4
    assert verify_command(here, repair=False, as_json=False) == 0
    assert export_command(here, ExportRequest(dest=tmp_path / "x.jsonl")) == 0
    key = next(iter(records_in(FolderStore(share / "out"), share)))
    (tmp_path / "edited.csv").write_text(f"key,caption\n{key},By hand.\n")
    assert import_command(here, tmp_path / "edited.csv", "Ann") == 0
    assert pq.read_table(share / "out/reviews")["after"].to_pylist() == ["By hand."]

    owner = json.loads((share / "out" / OWNER).read_bytes())
    for act in (
        lambda: go(there, two),
        lambda: status_of(there),
        lambda: verify_command(there, repair=True, as_json=False),
        lambda: export_command(there, ExportRequest(dest=tmp_path / "y.jsonl")),
    ):
        with pytest.raises(Held, match=f"{owner['user']} on {owner['host']}"):
            act()
    taken = go(there, two, take_over=True)
    assert (taken["exit_code"], taken["captioned"], taken["requests"]) == (0, 6, 2)
    assert "By hand." in pq.read_table(share / "out/dataset.parquet")["caption"].to_pylist()
    assert verify_command(there, repair=False, as_json=False) == 0
    assert json.loads((share / "out" / OWNER).read_bytes())["epoch"] == 2
    with pytest.raises(Held, match="--take-over"):
        go(here, one)
    back = go(here, one, take_over=True)
    assert (back["exit_code"], back["requests"]) == (0, 0)
    assert list((one / "outputs").glob("*.before-3"))
    assert len(records_in(FolderStore(share / "out"), share)) == 6


def test_a_shared_folder_by_its_local_path(tmp_path: Path) -> None:
    """The same folder on the machine that serves it: refused before anything is written there, so
    that the path by which it was begun goes on; its captions can be had in another output."""
    share = tmp_path / "share"
    share.mkdir()
    plain = job_at(tmp_path, share / "out")
    here = placed(plain, {"CAPTION_PIPELINE_STATE": str(tmp_path / "one")}, mounted(share))
    go(here, tmp_path / "one", limit=4)
    before = sorted(share.rglob("*"))

    with pytest.raises(Held, match="use that path"):
        go(plain, tmp_path / "one")

    assert sorted(share.rglob("*")) == before
    assert go(here, tmp_path / "one")["requests"] == 2
    assert adopt_command(other := job_at(tmp_path, tmp_path / "b"), share / "out", ENVIRONMENT) == 0
    assert go(other, tmp_path / "one")["requests"] == 0


def test_a_run_that_was_taken_over_publishes_nothing_more(tmp_path: Path) -> None:
    """Both hosts are alive: the one before finds out before it puts anything, and asks no more."""
    shared, store = tmp_path / "shared", FolderStore(tmp_path / "shared")
    one, two = tmp_path / "one", tmp_path / "two"

    async def main() -> None:
        async with open_checkpoint(one, derive=derive, clock=SystemClock(), store=store) as first:
            await first.reply(sent([1], 1), reply([1]))
            await first.finish()
            await first.reply(sent([2], 1), reply([2]))
            async with open_checkpoint(
                two, derive=derive, clock=SystemClock(), store=store, take_over=True
            ) as second:
                assert (second.state(key(1)), second.state(key(2))) == ("ok", None)
                await second.reply(sent([3], 1), reply([3]))
            before = {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()}
            with pytest.raises(Held):
                await first.finish()
            after = {path: path.read_bytes() for path in shared.rglob("*") if path.is_file()}
            assert after == before
            raise Held("seen")

    with pytest.raises(Held):
        asyncio.run(main())
    assert records_in(store, shared).keys() == {key(1), key(3)}


def test_a_take_over_cut_short_is_simply_said_again(tmp_path: Path) -> None:
    """Before it is complete nobody works on half of what is published."""
    store = FolderStore(tmp_path / "shared")

    def opened(folder: Path, **more: Any):  # type: ignore[no-untyped-def] # a context manager
        return open_checkpoint(folder, derive=derive, clock=SystemClock(), store=store, **more)

    class Cut(FolderStore):
        def read(self, name: str) -> bytes | None:
            if name.startswith("captions/"):
                raise PermissionError("no")
            return super().read(name)

    async def main() -> None:
        async with opened(tmp_path / "one") as checkpoint:
            await checkpoint.reply(sent([1], 1), reply([1]))
        two = tmp_path / "two"
        with pytest.raises(OutputError):
            async with open_checkpoint(
                two,
                derive=derive,
                clock=SystemClock(),
                store=Cut(tmp_path / "shared"),
                take_over=True,
            ):
                pass
        with pytest.raises(Held):
            async with opened(two):
                pass
        async with opened(two, take_over=True) as checkpoint:
            assert checkpoint.state(key(1)) == "ok"

    asyncio.run(main())


def test_a_claim_is_made_once(tmp_path: Path) -> None:
    """Two hosts that begin at once: one file, and the second hears of it."""
    store = FolderStore(tmp_path)
    store.put("_state/owner.json", b"one", new=True)

    with pytest.raises(Taken):
        store.put("_state/owner.json", b"two", new=True)
    with pytest.raises(OutputError, match="another writer"):
        put_whole(store, "_state/owner.json", b"two", new=True)
    put_whole(store, "_state/owner.json", b"one", new=True)
    assert store.read("_state/owner.json") == b"one"
    assert [path.name for path in (tmp_path / "_state").iterdir()] == ["owner.json"]


def test_captions_that_nobody_claims_are_not_taken_silently(tmp_path: Path) -> None:
    """Parts without owner.json: 76 before anything is asked, until --take-over."""
    share = tmp_path / "share"
    share.mkdir()
    state = tmp_path / "one"
    environ = {"CAPTION_PIPELINE_STATE": str(state)}
    job = placed(job_at(tmp_path, share / "out"), environ, mounted(share))
    go(job, state)
    (share / "out" / OWNER).unlink()
    other = placed(
        job_at(tmp_path, share / "out"), {"CAPTION_PIPELINE_STATE": str(tmp_path / "two")},
        mounted(share),
    )  # fmt: skip

    with pytest.raises(Held, match="no word of who"):
        go(other, tmp_path / "two")
    assert go(job, state)["exit_code"] == 0
    assert read_owner(FolderStore(share / "out")) is not None


def test_where_no_journal_can_be_kept_is_said(tmp_path: Path) -> None:
    """The state folder on the same share: 73. A journal that lies on a share already: 73."""
    share = tmp_path / "share"
    (share / "old" / "_state").mkdir(parents=True)
    (share / "old" / "_state" / "journal.db").touch()
    inside = {"CAPTION_PIPELINE_STATE": str(share / "state")}
    outside = {"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}

    with pytest.raises(OutputError, match="CAPTION_PIPELINE_STATE"):
        placed(job_at(tmp_path, share / "new"), inside, mounted(share))
    with pytest.raises(OutputError, match="nfs4"):
        placed(job_at(tmp_path, share / "old"), outside, mounted(share))
    local = placed(job_at(tmp_path, tmp_path / "out"), inside, mounted(share))
    assert not isinstance(local.output, Elsewhere)
    with pytest.raises(JobError, match=r"ftp:// cannot be written"):
        stores.store_of("ftp://x/y")


def test_what_is_behind_goes_rewritten_captions_first_and_new_ones_last() -> None:
    """A key leaves failures/ before it enters captions/, however much waits."""

    def part(folder: str, number: int, sha: str) -> Part:
        name = f"part-{number:08d}.parquet"
        return Part(folder=folder, name=name, rows=1, sha256=sha, size=1, mtime_ns=0)

    parts = [part("captions", 1, "b"), part("captions", 2, "c"), part("failures", 1, "d")]
    parts.append(part("captions", 3, "e"))
    held = {parts[0].place: ("b", 1), parts[1].place: None, parts[2].place: ("a", 1)}

    assert behind(parts, held) == [parts[1], parts[2], parts[3]]


def test_a_changed_or_missing_part_is_put_again(tmp_path: Path) -> None:
    """The parts stand here as well, proved: a run and `verify --repair` bring them back, and a
    part of a stranger stops both by name."""
    share = tmp_path / "share"
    share.mkdir()
    state = tmp_path / "one"
    environ = {"CAPTION_PIPELINE_STATE": str(state)}
    job = placed(job_at(tmp_path, share / "out"), environ, mounted(share))
    go(job, state)
    part = share / "out/captions/part-00000001.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + b"x")

    assert verify_command(job, repair=False, as_json=False) == 73
    assert verify_command(job, repair=True, as_json=False) == 0
    assert part.read_bytes() == whole
    part.unlink()
    assert go(job, state)["exit_code"] == 0
    assert part.read_bytes() == whole
    (share / "out/captions/mine.parquet").write_bytes(whole)
    assert verify_command(job, repair=True, as_json=False) == 73
    with pytest.raises(OutputError, match=r"mine\.parquet"):
        go(job, state)


def test_failures_become_captions_there_too(tmp_path: Path) -> None:
    """After each publication a reader of the share sees every key once, with its newest record."""
    store = FolderStore(tmp_path / "shared")

    async def main() -> None:
        async with open_checkpoint(
            tmp_path / "one", derive=derive, clock=SystemClock(), store=store
        ) as checkpoint:
            await checkpoint.settle([failed(1), failed(2)])
            await checkpoint.finish()
            assert {row["status"] for row in records_in(store, tmp_path).values()} == {"failed"}
            await checkpoint.reply(sent([1], 2), reply([1]))
            await checkpoint.finish()
            found = records_in(store, tmp_path)
            assert (found[key(1)]["status"], found[key(2)]["status"]) == ("ok", "failed")

    asyncio.run(main())
    data = store.read("requests/part-00000001.parquet")
    assert data is not None
    assert pq.read_table(io.BytesIO(data)).num_rows == 1


class Dies(FolderStore):
    """A store whose host dies at its n-th change; before each one no key stands twice."""

    def __init__(self, folder: Path, changes: int) -> None:
        super().__init__(folder)
        self.folder, self.left = folder, changes

    def _change(self) -> None:
        keys = [
            key
            for name in ("captions", "failures")
            for path in sorted((self.folder / name).glob("*.parquet"))
            for key in pq.ParquetFile(path).read(["key"])["key"].to_pylist()
        ]
        assert len(keys) == len(set(keys))
        self.left -= 1
        if self.left < 0:
            raise PermissionError("the host is dead")

    def put(self, name: str, data: bytes, *, new: bool) -> None:
        if name.startswith(("captions", "failures", "requests", "_state/merged")):
            self._change()
        super().put(name, data, new=new)

    def remove(self, name: str) -> None:
        self._change()
        super().remove(name)


@pytest.mark.parametrize("host", ["the same", "another"])
def test_parts_put_together_in_a_shared_output_lose_nothing_wherever_it_is_cut_short(
    host: str, tmp_path: Path
) -> None:
    """At each change of the store the host dies; it comes back, or another one takes over."""
    for changes in range(100):
        folder = tmp_path / str(changes)
        shared, store = folder / "shared", Dies(folder / "shared", 10**6)
        done = asyncio.run(_cut_short(folder / "one", store, changes))
        after = FolderStore(shared)
        again = folder / ("one" if host == "the same" else "two")

        async def goes_on(
            again: Path = again, after: FolderStore = after, take_over: bool = host == "another"
        ) -> None:
            options = {"store": after, "take_over": take_over}
            async with open_checkpoint(
                again, derive=derive, clock=SystemClock(), **options
            ) as checkpoint:
                assert [checkpoint.state(key(n)) for n in range(4)] == ["ok"] * 4

        asyncio.run(goes_on())
        assert records_in(after, shared).keys() == {key(n) for n in range(4)}
        assert len(after.sizes("captions")) == len(after.sizes("requests")) == 1
        assert not [name for name in after.sizes("_state") if name.startswith("merged")]
        assert check_shared(again, after) == []
        if done:
            break
    else:
        pytest.fail("it never came to its end")
    assert changes > 10


async def _cut_short(folder: Path, store: Dies, changes: int) -> bool:
    """Four publications, then the end, which the host does not outlive. Did it?"""
    done = False
    with suppress(OutputError):
        async with open_checkpoint(
            folder, derive=derive, clock=SystemClock(), store=store
        ) as checkpoint:
            for number in range(4):
                await checkpoint.reply(sent([number], 1), reply([number]))
                await checkpoint._publisher.publish()
            assert len(store.sizes("captions")) == 4
            store.left = changes
            await checkpoint.finish()
            done = True
    return done


class Counted(Dies):
    """Notes how many parts it held at most."""

    most = 0

    def put(self, name: str, data: bytes, *, new: bool) -> None:
        super().put(name, data, new=new)
        self.most = max(self.most, *(len(self.sizes(f)) for f in ("captions", "requests")))


def test_a_long_run_puts_its_parts_together_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 publications, a failed swap among them: few parts at any time, here and in the shared
    output, no key twice, and all is there although the run never ends well."""
    monkeypatch.setattr(publish, "MOST_SMALL", 5)
    store, swap, fails = Counted(tmp_path / "shared", 10**6), parts.swap, [True]

    def broken(output: Path, new: Part, old: Sequence[Part]) -> None:
        if fails and new.folder == "captions":
            fails.pop()
            parts.path_of(output, old[0].place).unlink()
            raise OSError(errno.EIO, "the disk stumbles")
        swap(output, new, old)

    monkeypatch.setattr(parts, "swap", broken)

    async def goes_on() -> None:
        async with open_checkpoint(
            tmp_path / "one", derive=derive, clock=SystemClock(), store=store
        ) as checkpoint:
            for number in range(30):
                await checkpoint.settle([failed(number)])
                await checkpoint.reply(sent([number], 1), reply([number]))
                with suppress(OSError):
                    await checkpoint._publisher.publish()
                assert len(list((tmp_path / "one/captions").glob("*.parquet"))) <= 7
            assert not fails
            assert set(records_in(store, tmp_path / "shared")) == {key(n) for n in range(30)}

    asyncio.run(goes_on())
    assert store.most <= 7
