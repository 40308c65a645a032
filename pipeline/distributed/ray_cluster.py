"""Ray, as the driver needs it: the only module that imports it.

Tasks and one actor, nothing of Ray's data or retries: images, rows and captions never pass through it, and
no secret does. `worker_cpus` places the shards; the actor stands where the ledger is, on the head.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pipeline.distributed.calls import Call, Opening, Reply, Setting
from pipeline.distributed.quota_actor import QuotaActor
from pipeline.errors import JobError, ServiceError

if TYPE_CHECKING:
    from pipeline.store.settings import RaySettings

#: Bytes of Ray's object store on a machine where it is started for the run: nothing of ours goes there, and
#: the default is 30 % of the memory. Ray takes no less than 75 MiB (2.60, `OBJECT_STORE_MINIMUM_MEMORY_BYTES`).
OBJECTS = 80 * 1024 * 1024
#: Calls of one worker that the actor has at a time: one that waits for permits, one that tells, and a spare.
CALLS = 4
#: Seconds until a cluster that does not answer is given up.
PATIENCE = 30.0
#: Seconds until a connection to the head's port is given up: whoever accepts it is the kernel there.
CONNECT = 3.0


class RemoteQuota:
    """`Quota` over an actor's handle."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def open(self, opening: Opening) -> Reply:
        reply: Reply = await self.actor.open.remote(opening)
        return reply

    async def call(self, call: Call) -> Reply:
        reply: Reply = await self.actor.call.remote(call)
        return reply


class Cluster:
    """An open connection to Ray. Made by `connected`."""

    def __init__(self, ray: Any, worker_cpus: float) -> None:
        self._ray, self._cpus = ray, worker_cpus
        self._actor: Any = None

    @property
    def places(self) -> int:
        """Shards that run at once, at least one."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 0.0) / self._cpus))

    def head_answers(self) -> bool:
        """Is anybody at the head's port? Ray's own calls wait for one that is gone, and after a minute Ray
        ends the process with 1 (2.60, `gcs_rpc_server_reconnect_timeout_s`)."""
        host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
        except OSError:
            return False
        return True

    def nodes(self) -> list[tuple[str, str]]:
        """(id, address) of each node that lives."""
        return [
            (node["NodeID"], node["NodeManagerAddress"])
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def on_each(self, call: Callable[..., Any], *arguments: Any) -> Iterator[tuple[str, Any]]:
        """The result of a function on each node: (address, result)."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        refs = []
        for node, address in self.nodes():
            there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            task = self._ray.remote(call).options(
                num_cpus=0, max_retries=0, scheduling_strategy=there
            )
            refs.append((address, task.remote(*arguments)))
        for address, ref in refs:
            yield address, self._ray.get(ref, timeout=PATIENCE * 4)

    def start_quota(self, setting: Setting, workers: int) -> RemoteQuota:
        """The quota actor: begun anew when it dies, and no call of it repeated, as a repeated one
        would be a second reservation."""
        actor = self._ray.remote(QuotaActor).options(
            num_cpus=0,
            resources={"node:__internal_head__": 0.001},
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=CALLS * workers + CALLS,
        )
        self._actor = actor.remote(setting)
        return RemoteQuota(self._actor)

    def tell(self, method: str, *arguments: Any) -> Any:
        """One call of the actor; None when it does not answer, which it may do later."""
        with suppress(self._ray.exceptions.RayError):
            return self._ray.get(getattr(self._actor, method).remote(*arguments), timeout=PATIENCE)
        return None

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Start a task that is never repeated by Ray; its reference."""
        task = self._ray.remote(work).options(num_cpus=self._cpus, max_retries=0)
        return task.remote(*arguments)

    def ended(self, refs: Sequence[Any], seconds: float) -> list[Any]:
        """Those that have ended; waits for the first."""
        return list(self._ray.wait(list(refs), num_returns=1, timeout=seconds)[0]) if refs else []

    def result(self, ref: Any) -> Any:
        """What a task returned; WorkerGone when it did not."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.TaskCancelledError as error:
            raise WorkerGone("cancelled") from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, errors.RayError):
                raise WorkerGone(type(error.cause).__name__) from error
            raise
        except errors.RayError as error:
            raise WorkerGone(type(error).__name__) from error

    def cancel(self, ref: Any, *, force: bool = False) -> None:
        """SIGINT for a task that runs; one that does not begins no more. force: ends it at once."""
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.cancel(ref, force=force)


class WorkerGone(Exception):
    """A task ended without a result: its process, or its machine."""


@contextmanager
def connected(settings: RaySettings) -> Iterator[Cluster]:
    """Ray inside the block. JobError (78) without the extra, ServiceError (69) without a cluster."""
    if find_spec("ray") is None:
        raise JobError("run.engine: ray needs an extra: pip install 'caption-pipeline[ray]'")
    # Before the import: it is read there, and by the processes that are started.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    own = settings.address == "local"
    more = {"include_dashboard": False, "object_store_memory": OBJECTS} if own else {}
    try:
        ray.init(
            address=settings.address,
            log_to_driver=False,
            logging_level="error",
            ignore_reinit_error=False,
            **more,
        )
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ServiceError(
            f"run.ray.address: no Ray cluster at {settings.address} ({str(error).splitlines()[0]}); a cluster "
            "with tokens needs RAY_AUTH_MODE=token here too"
        ) from error
    try:
        yield Cluster(ray, settings.worker_cpus)
    finally:
        ray.shutdown()
