"""Files that survive a crash: temporary name, sync, rename, directory sync. Nowhere else.

A rename is durable only after the directory was synced, and it publishes garbage unless the
file was synced first (ALICE, OSDI 2014; the same order as in Borg's `platform/base.py`).
`_state` is private (0700 / 0600); what users read follows the umask.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

PRIVATE_DIR, PRIVATE_FILE = 0o700, 0o600


def make_dir(path: Path) -> None:
    """Create `path` and its parents, durably: a file in a folder that is gone is gone too."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        sync_dir(folder.parent)


def make_private_dir(path: Path) -> None:
    """Create `path` (and parents) with mode 0700, durably; raises OSError, refuses a symlink."""
    make_dir(path.parent)
    try:
        path.mkdir(mode=PRIVATE_DIR)
        sync_dir(path.parent)
    except FileExistsError:
        if path.is_symlink() or not path.is_dir():
            raise OSError(errno.ENOTDIR, "not a plain folder", str(path)) from None
    if path.stat().st_mode & 0o077:
        path.chmod(PRIVATE_DIR)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte, whatever the kernel takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_dir(path: Path) -> None:
    """Make renames and creations inside `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems cannot sync a directory and say EINVAL; nothing else is forgiven.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make the bytes of a file that another library wrote durable."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_tmp(path: Path, data: bytes | memoryview, *, private: bool = False) -> None:
    """Write `data` to `path` (made anew, never through a symlink) and sync it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, PRIVATE_FILE if private else 0o666)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def append_private(path: Path) -> IO[bytes]:
    """Open a file that only its owner may read, to add to its end; it is made where there is none."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, PRIVATE_FILE), "ab")


def publish(tmp: Path, final: Path) -> None:
    """Give a synced file its name, durably. Same directory; idempotent by name."""
    os.replace(tmp, final)
    sync_dir(final.parent)


def write_atomic(path: Path, data: bytes | memoryview, *, private: bool = False) -> None:
    """Replace `path` by `data`: readers see the old file or the new one, also after a crash."""
    tmp = path.with_name(f".{path.name}.tmp")
    write_tmp(tmp, data, private=private)
    publish(tmp, path)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write on the file system of `path`."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of statistics; empty when it is not there or does not read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
