"""Is a folder on a file system that several machines see? A journal cannot be kept there.

SQLite's log needs memory that all its processes share, and `flock` holds for one machine only;
on NFS, SMB and most FUSE file systems both go wrong silently. The type of the mount tells
(`proc_pid_mounts(5)`); where there is no such table, as on macOS, a folder counts as local.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
_NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "coda", "ceph", "lustre"),
    *("beegfs", "gpfs", "gfs2", "ocfs2", "glusterfs", "davfs", "orangefs", "virtiofs", "fuse"),
}
#: File systems in user space that keep their files on a disk of this machine.
_LOCAL_FUSE = {"fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.mergerfs", "fuse.encfs"}


def network_type(path: Path, mounts: str) -> str | None:
    """The type of the shared file system that holds `path`, by the table of mounts; else None."""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _plain(fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Of two mounts on one folder the later one is seen.
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    shared = kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
    return kind if shared else None


def _plain(field: str) -> str:
    """A path of the table: space, tab, newline and backslash stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def read_mounts() -> str:
    """This process's table of mounts; empty where the system keeps none."""
    try:
        return MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
