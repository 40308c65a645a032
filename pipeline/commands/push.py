"""`push`: the dataset with its pictures on the Hugging Face hub, in one commit.

The `hf` export is made in the state folder. Its shards are uploaded one after the other, which
changes nothing that anybody sees; then one commit names them all, with the card, and takes shards
of an earlier push away. The same rows give the same bytes, so that a push that was cut off goes on:
what the hub holds already is not sent again. The token goes to the hub's endpoint only.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.captioning.output_location import state_folder
from pipeline.commands.export import write_export
from pipeline.errors import Exit, KeyTrouble, ServiceError, UsageError
from pipeline.export.options import ExportRequest
from pipeline.plural import counted

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

T = TypeVar("T")
_REMEDY = "set HF_TOKEN to a token that may write, or run `hf auth login`"
_SHARDS = "train-*-of-*.parquet"


def push_command(
    job: JobConfig,
    name: str,
    request: ExportRequest,
    environ: Mapping[str, str],
    *,
    public: bool,
) -> int:
    """Upload to the dataset NAME. KeyTrouble (77) without a token, ServiceError (69) when the hub
    cannot be reached or refuses, as the export otherwise."""
    hub = _hub(environ)
    if name.count("/") != 1:
        raise UsageError(f"push {name}: name the dataset as USER/NAME")
    folder = state_folder(environ) / "push" / _digest(f"{job.output.shown} {name}")
    options = replace(request.options, overwrite=True)
    written, counts, captions = write_export(
        job, replace(request, dest=folder, format="hf", options=options)
    )
    url = _asked(name, lambda: _upload(hub, name, folder, private=not public))
    shutil.rmtree(folder)
    print(  # noqa: T201 - the command's result
        f"{url}: {counted(written.rows, 'row')}, {counts.captioned:,} of {counts.rows:,} captioned; "
        f"{captions}"
    )
    return Exit.DONE


def _hub(environ: Mapping[str, str]) -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError("push needs huggingface_hub: pip install 'caption-pipeline[hf]'") from None
    token = environ.get("HF_TOKEN") or huggingface_hub.get_token()
    if not token:
        raise KeyTrouble(f"push: no token for the hub; {_REMEDY}")
    return huggingface_hub.HfApi(endpoint=environ.get("HF_ENDPOINT") or None, token=token)


def _upload(hub: Any, name: str, folder: Path, *, private: bool) -> str:
    """Upload what is there and commit it; the dataset's address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    url = hub.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
    adds = [
        CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path)
        for path in sorted(folder.iterdir())
    ]
    for add in adds:
        hub.preupload_lfs_files(name, [add], repo_type="dataset")
    new = {add.path_in_repo for add in adds}
    old = hub.list_repo_files(name, repo_type="dataset")
    gone = [path for path in old if fnmatch(path, _SHARDS) and path not in new]
    operations = [*adds, *(CommitOperationDelete(path_in_repo=path) for path in gone)]
    hub.create_commit(name, operations, commit_message="Captions", repo_type="dataset")
    return str(url)


def _asked(name: str, act: Callable[[], T]) -> T:
    """What the hub says no to, as one line of ours."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return act()
    except HfHubHTTPError as error:
        status = error.response.status_code
        message = " ".join(str(error.server_message or error).split())[:300]
        if status in (401, 403):
            raise KeyTrouble(
                f"push {name}: the hub refuses (HTTP {status}: {message}); {_REMEDY}"
            ) from None
        raise ServiceError(
            f"push {name}: the hub answers HTTP {status}: {message}; push again"
        ) from None
    except (OSError, RuntimeError) as error:
        message = " ".join(str(error).split())[:300]
        raise ServiceError(f"push {name}: {message}; push again to go on") from None
    except Exception as error:
        # Releases of huggingface_hub speak through requests, httpx and httpx2.
        if type(error).__module__.startswith(("httpx", "requests")):
            raise ServiceError(
                f"push {name}: the hub cannot be reached ({error}); push again to go on"
            ) from None
        raise


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
