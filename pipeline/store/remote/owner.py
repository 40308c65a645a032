"""Which host writes to a shared output: `_state/owner.json` in the output says so.

The journal of such an output lies in its owner's state folder, and with it every answer that is
in no part yet. So another host is refused, until the user decides that what is published is the
truth (`--take-over`). Each take-over raises the epoch; the owner before looks whenever it is
about to publish, finds that it is no longer the one, and stops.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import fs
from pipeline.clock import iso
from pipeline.errors import Held, OutputError
from pipeline.store.lock import Lock, lives, locked
from pipeline.store.publish_plan import FOLDERS
from pipeline.store.remote.filesystem import FolderStore, Store, put_whole, steadily

OWNER, LOCK = "_state/owner.json", "_state/lock"
#: The same, in the state folder.
_MINE = Path("_state", "claim.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One entry of owner.json."""

    host: str
    user: str
    #: Which journal: a random name given when it was made.
    state: str
    #: How often the output has changed hands, from 1.
    epoch: int
    since: str

    def describe(self) -> str:
        """For people."""
        return f"{self.user} on {self.host} since {self.since}"


def read_owner(store: Store) -> Owner | None:
    """Who owns the output; None when nobody has claimed it yet. OutputError when it is garbled."""
    data = steadily(store.shown, store.read, OWNER)
    if data is None:
        return None
    try:
        return Owner(**json.loads(data))
    except (ValueError, TypeError) as error:
        message = f"{store.shown}/{OWNER}: cannot be read ({error}); go on with run --take-over"
        raise OutputError(message) from None


def read_claim(folder: Path) -> Owner | None:
    """The claim that goes with the journal in `folder`."""
    try:
        return Owner(**json.loads((folder / _MINE).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise OutputError(f"{folder / _MINE}: cannot be read ({error})") from None


def refuse(store: Store, owner: Owner | None) -> Held:
    """Why this host may not write; what to do."""
    message = (
        f"belongs to {owner.describe()}"
        if owner
        else "holds captions, but no word of who wrote them"
    )
    return Held(
        f"{store.shown}: {message}; answers that are not published yet are there alone. Run there, or "
        "go on here with run --take-over: what is published is kept, the rest is asked again"
    )


def refuse_by_another_path(output: Path) -> None:
    """Held (76) for a folder that was begun as a shared one, through a network file system or a
    FUSE mount, and is taken for a local one now: its journal is elsewhere."""
    if not (output / OWNER).exists() or (output / "_state" / "journal.db").exists():
        return
    owner = read_owner(FolderStore(output))
    raise Held(
        f"{output}: belongs to {owner.describe() if owner else 'nobody known'}, who reaches it through a network "
        "or FUSE file system and keeps its journal elsewhere: use that path, or take what it holds "
        "into another output.path by adopt"
    )


def is_ours(store: Store, folder: Path) -> bool:
    """May this host look at `folder` for what the output holds? Held (76) when another owns it."""
    owner, ours = read_owner(store), read_claim(folder)
    if owner is not None and owner != ours:
        raise refuse(store, owner)
    return ours is not None


def claim(store: Store, folder: Path, *, now: float) -> Owner:
    """Be the owner, for the journal in `folder`, whose lock is held. Held (76) names another."""
    owner, ours = read_owner(store), read_claim(folder)
    if owner is None:
        if ours is None:
            if holds_parts(store):
                raise refuse(store, None)
            ours = _new(1, now)
            _write(folder, ours)
        _put(store, ours, new=True)
    elif owner != ours:
        raise refuse(store, owner)
    return ours


@contextmanager
def holding(store: Store, lock: Lock) -> Iterator[None]:
    """Name this run in the lock file of a shared folder, for a run that reaches the folder by
    another path and takes it for a local one. Held (76) names the one that is there already."""
    if not isinstance(store, FolderStore):
        yield
        return
    lines = (steadily(store.shown, store.read, LOCK) or b"").decode("utf-8", "replace").splitlines()
    if lives(lines) and lines[1:] != lock.text.splitlines()[1:]:
        raise Held(
            f"{store.shown}: another run holds this output by another path ({lines[0]}); wait for "
            "it or choose another output.path"
        )
    put_whole(store, LOCK, lock.text.encode(), new=False)
    try:
        yield
    finally:
        with suppress(OutputError):
            put_whole(store, LOCK, b"", new=False)


def confirm(store: Store, ours: Owner) -> None:
    """Held (76) when another host has taken the output over."""
    owner = read_owner(store)
    if owner != ours:
        raise refuse(store, owner)


def take_over(
    store: Store, folder: Path, *, now: float, pull: Callable[[Store, Path], None]
) -> str | None:
    """Make this host the owner, with what is published and nothing else in `folder`.

    Gives the words for it, None when nobody else owned it. What lay in `folder` is kept beside
    it: it may hold answers that are published nowhere. Cut short, it has to be said again.
    """
    ours = read_claim(folder)
    try:
        owner = read_owner(store)
        before = owner.describe() if owner else "nobody known"
    except OutputError:
        owner, before = None, "somebody whose owner.json is garbled"
    if ours is not None and owner in (ours, None):
        return None
    if owner is None and not holds_parts(store):
        return None
    new = _new(max(owner.epoch if owner else 0, ours.epoch if ours else 0) + 1, now)
    message = f"{store.shown}: taken over from {before}; answers that only they hold are not here"
    if ours is not None:
        with locked(folder / "_state" / "lock", now=now):
            aside = folder.with_name(f"{folder.name}.before-{new.epoch}")
            folder.rename(aside)
        message += f"; what this host held before lies in {aside}"
    elif folder.exists():
        shutil.rmtree(folder)  # a claim is written before the first answer: nothing is in there
    _put(store, new, new=False)
    fs.make_private_dir(folder)
    fs.make_private_dir(folder / "_state")
    pull(store, folder)
    _write(folder, new)
    return message


def holds_parts(store: Store) -> bool:
    """Is anything published there?"""
    return any(steadily(store.shown, store.sizes, folder) for folder in FOLDERS)


def _new(epoch: int, now: float) -> Owner:
    host, state = socket.gethostname(), secrets.token_hex(8)
    return Owner(host=host, user=_user(), state=state, epoch=epoch, since=iso(now))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _write(folder: Path, ours: Owner) -> None:
    fs.write_atomic(folder / _MINE, json.dumps(asdict(ours)).encode(), private=True)


def _put(store: Store, ours: Owner, *, new: bool) -> None:
    try:
        put_whole(store, OWNER, json.dumps(asdict(ours)).encode(), new=new)
    except OutputError:
        owner = read_owner(store)
        if new and owner is not None and owner != ours:
            raise refuse(store, owner) from None
        if owner != ours:  # the put came through, and only its answers were lost
            raise
