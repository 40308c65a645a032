"""`tar://MEMBER::SHARD`: a picture inside a tar file, as the webdataset manifest names them."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import ImageError
from pipeline.images.sources.base import Places, brief, scheme_of
from pipeline.images.sources.file import check_boundary
from pipeline.images.sources.remote import EXTRAS


def from_tar(text: str, places: Places) -> bytes:
    """The member's bytes. SHARD: a path (from here, or below the root), or an object's URL."""
    member, colons, shard = text[len("tar://") :].partition("::")
    if not member or not colons or not shard or "\0" in text:
        raise ImageError("bad_uri", "a tar member is written tar://MEMBER::SHARD")
    assert places.shards is not None
    scheme = scheme_of(shard)
    if scheme == "path":
        try:
            path = _local(shard, places)
            check_boundary(path, text, places)
            return places.shards.read(str(path), member, places)
        except UnicodeError:  # a lone surrogate
            raise ImageError("missing_file", f"{brief(shard)}: not a file name here") from None
    if scheme in EXTRAS:
        return places.shards.read(shard, member, places)
    raise ImageError("bad_uri", f"{scheme}:// shards are not read; copy the shard here")


def _local(shard: str, places: Places) -> Path:
    path = Path(shard)
    # The manifest names its shards as the job does: from the folder the run was started in.
    if places.root is not None and not path.is_absolute() and not os.access(path, os.F_OK):
        return places.root / path
    return path.absolute()
