"""Where a job's output is worked on: its own folder, or one in the state folder that stands for it.

An object store or a network file system cannot hold a journal. For such an output everything is
kept in the user's state folder, under a name made from its address, and the parts are put where
they belong (`store/remote/replica.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import JobError, OutputError
from pipeline.store.remote.filesystem import scheme_of
from pipeline.store.remote.network import network_type, read_mounts
from pipeline.store.settings import Elsewhere
from pipeline.store.shards import SHARDS, shard_folders, unjoined

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.store.remote.filesystem import Store


def state_folder(environ: Mapping[str, str]) -> Path:
    """The user's state folder: CAPTION_PIPELINE_STATE, or the platform's (XDG)."""
    if configured := environ.get("CAPTION_PIPELINE_STATE"):
        return Path(configured)
    home = environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "caption-pipeline"


def placed(job: JobConfig, environ: Mapping[str, str], mounts: str | None = None) -> JobConfig:
    """The job, working where a journal can be kept. OutputError (73) when there is no such place."""
    path, mounts = job.output.path, read_mounts() if mounts is None else mounts
    if scheme_of(path) is not None:
        address = path.rstrip("/")
    elif (kind := network_type(Path(path), mounts)) is not None:
        address = os.path.realpath(path)
        if Path(address, "_state", "journal.db").exists():
            raise OutputError(
                f"{path}: has a journal on a file system that cannot keep one ({kind}): move the "
                "folder to a disk of this machine, or choose another output.path"
            )
    else:
        return job
    state = state_folder(environ).absolute()
    if kind := network_type(state, mounts):
        raise OutputError(
            f"{state}: the journal of {path} cannot be kept on this file system ({kind}); set "
            "CAPTION_PIPELINE_STATE to a folder on a disk of this machine"
        )
    name = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = state / "outputs" / name
    output = Elsewhere(path=str(folder), dataset=job.output.dataset, address=address)
    return job.model_copy(update={"output": output})


def of_shard(job: JobConfig, folder: str) -> JobConfig:
    """The job (as `placed` gives it) with the output of one of its shards."""
    output = job.output
    update = {"path": str(Path(output.path, SHARDS, folder)), "dataset": None}
    if isinstance(output, Elsewhere):
        update["address"] = f"{output.address}/{SHARDS}/{folder}"
    return job.model_copy(update={"output": output.model_copy(update=update)})


def shards_of(job: JobConfig) -> list[JobConfig]:
    """The same for each shard that has begun on this machine."""
    return [of_shard(job, path.name) for path in shard_folders(Path(job.output.path))]


def shared(job: JobConfig) -> Store | None:
    """The store that the output is put to; None where it is a folder of this machine."""
    if not isinstance(job.output, Elsewhere):
        return None
    from pipeline.store.remote.filesystem import store_of

    return store_of(job.output.address)


def refuse_strangers(output: Path) -> None:
    """OutputError when a new output would replace somebody else's dataset.parquet.

    One that cannot be read is damaged, and is made anew.
    """
    dataset = output / "dataset.parquet"
    from pipeline.schema import METADATA
    from pipeline.store.parts import metadata_of

    try:
        if (output / "_state").exists() or not dataset.is_file():
            return
    except OSError:
        return
    metadata = metadata_of(dataset)
    if metadata is not None and METADATA.keys().isdisjoint(metadata):
        raise OutputError(
            f"{dataset}: is not of this program, and is never written over: choose another "
            "output.path, or move the file"
        )


def ours(job: JobConfig) -> None:
    """Held (76) when another host knows what this output holds, and this one does not."""
    store = shared(job)
    if store is not None:
        from pipeline.store.remote.owner import is_ours

        is_ours(store, Path(job.output.path))


def refuse_unjoined(job: JobConfig) -> None:
    """JobError (78) when shards of this output hold something that is not joined."""
    if left := unjoined(Path(job.output.path)):
        raise JobError(
            f"{job.output.shown}: {len(left)} shards hold captions that are not joined: wait until "
            "they have ended, then run --join"
        )
