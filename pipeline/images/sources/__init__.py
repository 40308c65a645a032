"""Where image bytes come from, one file each; the value itself tells which.

| value | kind |
| --- | --- |
| bytes, `{bytes, path}` | as they are |
| `http(s)://…` | `fetch.py` |
| anything without a scheme, `file:///…` | a file, relative to `images.root` |
| `data:image/…;base64,…` | decoded |
| `package://NAME/PATH` | a file of an installed package that `images.packages` names |
| `s3:// gs:// hf:// memory://` | fsspec, with the extra of that name |
| `tar://MEMBER::SHARD` | a member of a tar file |
"""

from __future__ import annotations

from pipeline.images.sources.base import Source
from pipeline.images.sources.data_uri import from_data_uri
from pipeline.images.sources.file import from_path
from pipeline.images.sources.package import from_package
from pipeline.images.sources.remote import from_remote
from pipeline.images.sources.tar import from_tar

SOURCES: dict[str, Source] = {
    "path": from_path,
    "file": from_path,
    "data": from_data_uri,
    "package": from_package,
    "s3": from_remote,
    "s3a": from_remote,
    "gs": from_remote,
    "gcs": from_remote,
    "hf": from_remote,
    "memory": from_remote,
    "tar": from_tar,
}
