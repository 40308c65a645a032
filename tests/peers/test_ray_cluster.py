"""`run.engine: ray` on a head and two nodes: 20,000 rows, a strict service, and everything that can die."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.distributed.test_shards import dataset
from tests.peers.ray_env import ray_env
from tests.support.command import ROOT, Server, environment, pipeline, simulator, start, until
from tests.support.command import write_job as write
from tests.support.pictures import picture

pytestmark = pytest.mark.weekly

ROWS, SHARDS = 20_000, 24
#: Every so manyth row has a picture of its own, the others one that stood in an earlier row.
EACH = 8
PICTURES = ROWS // EACH
CONCURRENCY = 16
#: Nodes with CPUs, and shards at once on each.
NODES, PLACES = 2, 2
#: Answers between two deaths.
BETWEEN = 120
#: As `simulate` counts it: any 60 s, and one more is refused.
STRICT = ("window=sliding", "latency=[0.2, 0.5]")
#: Of Ray. Its workers would yield to everything else on the machine (niceness 15).
OPTIONS = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
}
#: Patience of all that is waited for: a machine that is busy with other tests starts a node in a minute.
SECONDS = 600


def manifest(folder: Path) -> Path:
    """Rows of which each shard has new pictures, and those of shards before it; one is missing."""
    (folder / "images").mkdir()
    for number in range(PICTURES):
        (folder / f"images/{number}.png").write_bytes(picture(number, form="PNG"))
    rng = random.Random(0)
    names = [
        f"images/{rng.randrange(at // EACH + 1) if at % EACH else at // EACH}.png"
        for at in range(ROWS)
    ]
    names[1], names[-1] = "images/gone.png", "images/gone.png"
    path = folder / "table.parquet"
    pq.write_table(pa.table({"image": names}), path, row_group_size=500)
    return path


class Host:
    """A cluster in a process of its own, that does what it is told."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        script = str(Path(__file__).with_name("serve_ray.py"))
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, script, str(NODES), str(PLACES)],
                env=environment(env),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self.address = self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, "the cluster has ended"
        return line

    def tell(self, word: str) -> None:
        """Until it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        assert self._line() == word

    def workers(self, name: str) -> list[psutil.Process]:
        """Those that run this function or actor now."""
        running = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if child.cmdline()[:1] and child.cmdline()[0].startswith(f"ray::{name}"):
                    running.append(child)
            except psutil.Error:
                continue
        return running

    def kill(self, name: str) -> None:
        """kill -9 of one of them."""
        self.workers(name)[0].kill()

    def close(self) -> None:
        """End everything, with workers that outlived their node."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for process in below:
            try:
                process.kill()
            except psutil.Error:
                continue
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def host(env: Mapping[str, str], log: Path) -> Iterator[Host]:
    cluster = Host(env, log)
    try:
        yield cluster
    finally:
        cluster.close()


def answers(server: Server, log: Path) -> int:
    """How many requests have been answered with 200 so far."""
    return log.read_bytes().count(b'"status":200') if server.size() else 0


def worst_window(asked: list[dict[str, Any]]) -> int:
    """Requests in the fullest 60 s."""
    window, most = deque[float](), 0
    for at in sorted(one["at"] for one in asked):
        window.append(at)
        while window[0] <= at - 60:
            window.popleft()
        most = max(most, len(window))
    return most


class Death(NamedTuple):
    """What was killed when, and when as much was at work as before."""

    what: str
    at: float
    whole: float


def asked_again(asked: list[dict[str, Any]], deaths: list[Death]) -> Counter[str]:
    """Requests for a picture that had been sent before, by what died after that one."""
    last, again = dict[str, float](), Counter[str]()
    for one in asked:
        (image,) = one["images"]
        if (before := last.get(image["sha256"])) is not None:
            again[next((d.what for d in deaths if d.at >= before), "nothing")] += 1
        last[image["sha256"]] = one["at"]
    return again


def table(asked: list[dict[str, Any]], deaths: list[Death], limit: int) -> str:
    """What came of each."""
    again = asked_again(asked, deaths)
    lines = [
        "| death | asked again | next request after | whole again after |",
        "| - | - | - | - |",
    ]
    for death in deaths:
        later = min(one["at"] for one in asked if one["at"] > death.at) - death.at
        lines.append(
            f"| {death.what} | {again[death.what]} | {later:.1f} s | {death.whole - death.at:.1f} s |"
        )
    refused = sum(one["status"] == 429 for one in asked)
    lines.append(
        f"{len(asked)} requests for {PICTURES} pictures, {refused} refused, worst window "
        f"{worst_window(asked)} of {limit}, {sum(again.values())} asked again"
    )
    return "\n".join(lines)


class Play:
    """A job that is run on a cluster until it is done, whatever dies meanwhile."""

    def __init__(
        self, folder: Path, server: Server, limit: int, env: Mapping[str, str], hosts: ExitStack
    ) -> None:
        self.folder, self.env, self.server, self._hosts = folder, env, server, hosts
        self.job = write(
            folder,
            server.base,
            manifest(folder),
            quota={"requests_per_minute": limit, "concurrency": CONCURRENCY},
            run={"shards": SHARDS, "engine": "ray"},
        )

        self.deaths: list[Death] = []
        self.codes: list[int] = []

    def host(self) -> Host:
        """Another cluster."""
        return self._hosts.enter_context(host(self.env, self.folder / "cluster"))

    def start(self, cluster: Host) -> subprocess.Popen[Any]:
        """The driver, on this cluster."""
        self.cluster = cluster
        with (self.folder / "stderr").open("ab") as log:
            address = f"run.ray.address={cluster.address}"
            self.driver = start("run", self.job, "--set", address, env=self.env, stderr=log)
        return self.driver

    def more(self, answers_more: int = BETWEEN) -> None:
        """Wait until so many more requests have been answered."""
        log = self.folder / "received.jsonl"
        wanted = answers(self.server, log) + answers_more

        def enough() -> bool:
            assert self.driver.poll() is None, (self.folder / "stderr").read_text()
            time.sleep(0.2)
            return answers(self.server, log) >= wanted

        until(enough, seconds=SECONDS)

    def dies(self, what: str, death: Callable[[], object], again: Callable[[], object]) -> None:
        """Let something die, do what comes after it, and wait until as much is at work as before."""
        before, at = len(self.cluster.workers("run_shard")), time.time()
        death()
        again()

        def whole() -> bool:
            time.sleep(0.2)
            running = self.cluster.workers("run_shard"), self.cluster.workers("QuotaActor")
            return len(running[0]) >= before and len(running[1]) == 1

        until(whole, seconds=SECONDS)
        self.deaths.append(Death(what, at, time.time()))
        self.more()

    def stops(self, number: int) -> None:
        """A signal to the driver, which ends."""
        self.driver.send_signal(number)
        self.codes.append(self.driver.wait(SECONDS))

    def done(self) -> int:
        """The driver's exit code, when it has ended by itself."""
        return self.driver.wait(SECONDS)


def every_death(play: Play) -> None:
    """One after the other."""
    cluster, driver = play.cluster, play.start
    play.dies("worker", lambda: cluster.kill("run_shard"), lambda: None)
    play.dies("quota actor", lambda: cluster.kill("QuotaActor"), lambda: None)
    play.dies("node", lambda: cluster.tell("remove"), lambda: cluster.tell("add"))
    play.dies("Ctrl-C, run again", lambda: play.stops(signal.SIGINT), lambda: driver(cluster))
    play.dies("driver, run again", lambda: play.stops(signal.SIGKILL), lambda: driver(cluster))

    def head_dies() -> None:
        cluster.tell("head")
        play.codes.append(play.done())

    play.dies("head, run again on another", head_dies, lambda: driver(play.host()))


def expected_dataset(folder: Path) -> list[dict[str, Any]]:
    """What one machine makes of the manifest."""
    folder.mkdir()
    with simulator(folder, "rpm=null") as server:
        job = write(folder, server.base, manifest(folder))
        with (folder / "stderr").open("wb") as log:
            alone = start("run", job, env={"CAPTION_PIPELINE_STATE": f"{folder}/state"}, stderr=log)
            assert alone.wait(SECONDS) == 1, (folder / "stderr").read_text()
    return dataset(folder / "out")


@pytest.mark.parametrize("dying", [False, True], ids=["all live", "all die"])
def test_twenty_thousand_rows_on_three_nodes(tmp_path: Path, dying: bool) -> None:
    """Whatever dies: the dataset of one machine, every key once, no window above the limit, and asked
    again is at most what was in flight at each death."""
    limit = 300 if dying else 1_800
    whole = expected_dataset(tmp_path / "one")
    folder = tmp_path / "ray"
    folder.mkdir()
    with (
        ray_env(folder, **OPTIONS) as env,
        simulator(folder, f"rpm={limit}", *STRICT) as server,
        ExitStack() as hosts,
    ):
        play = Play(folder, server, limit, env, hosts)
        play.start(play.host())
        play.more()
        if dying:
            every_death(play)
        code = play.done()
        verified = pipeline("verify", play.job, env=env)
    asked = server.asked()
    print(
        f"\n{'all die' if dying else 'all live'}, {limit} requests a minute\n"
        + table(asked, play.deaths, limit)
    )
    keys = pq.read_table(folder / "out/captions", columns=["key"])["key"].to_pylist()
    again = asked_again(asked, play.deaths)

    assert play.codes == ([130, -signal.SIGKILL, 69] if dying else [])
    assert code == 1, (folder / "stderr").read_text()
    assert dataset(folder / "out") == whole
    assert len(whole) == ROWS
    assert len(keys) == len(set(keys)) == PICTURES
    assert {one["status"] for one in asked} <= {200, 0}
    assert worst_window(asked) <= limit
    assert set(again) <= {death.what for death in play.deaths}
    assert all(count <= CONCURRENCY for count in again.values())
    assert verified.code == 0, verified.out
