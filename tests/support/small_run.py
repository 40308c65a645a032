"""A small run of the real checkpoint, as a process of its own for the fault tests.

    python -m tests.support.small_run OUTPUT ACKS
    python -m tests.support.small_run --serve

`--serve` forks one run for each line of JSON on stdin ({folder, at, mode, below}), armed with the
shim's fault, and says on stdout how it ended: starting Python costs many times the run itself.

Settles 40 images in three rounds with publications between: replies, packed replies, local
failures, attempts without an answer, failures that become captions, an answer that settles
nothing and is kept for a look. Appends a line to ACKS (outside OUTPUT) each time something was
said to be on disk: an image's number, or one of the negative ones below. Images that are settled
already are left alone, so that running it again finishes what a fault cut short.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import os
import secrets
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from pipeline.captioning.columns import columns_of
from pipeline.captioning.finalize import records_of, unanswered
from pipeline.captioning.join import joined, write_dataset
from pipeline.captioning.naming import NamedPrompt, Naming
from pipeline.captioning.prompt import compile_prompt
from pipeline.clock import SystemClock
from pipeline.config.captioning import PromptSettings
from pipeline.errors import OutputError
from pipeline.export.base import Rows
from pipeline.export.export import export
from pipeline.export.pictures import Pictures
from pipeline.manifest.open import open_manifest
from pipeline.manifest.settings import ManifestSettings
from pipeline.model import Asked, Completion, Derived, Limits, Record, Reply, Sent
from pipeline.ratelimit.ledger import Ledger
from pipeline.ratelimit.ledger_view import names_of
from pipeline.ratelimit.reservations import LedgerUpdates, ReservationRequest
from pipeline.ratelimit.server_time import Uptime
from pipeline.store import codec, tables
from pipeline.store.journal import Journal
from pipeline.store.runs import append_run
from pipeline.store.store import Checkpoint, open_checkpoint
from pipeline.verdict import Kind, Verdict

IMAGES = 40
#: The ledger's account and day.
ACCOUNT, DAY, NOON = "account", "2026-11-23", 1_795_435_200.0
LIMITS = Limits(requests_per_day=1000)
MANIFEST = open_manifest(ManifestSettings(path=str(Path(__file__).parent / "small_run.csv")))
NAMING = Naming(
    prompts=(NamedPrompt(recipe="recipe", template=compile_prompt(PromptSettings().text)),),
    system=None,
    identity="auto",
)
#: In ACKS: the odd answer is kept; the run's summary is written; a request is in the ledger.
BODY, SUMMARY, RESERVED = -1, -2, -3
#: The text of an answer that settles nothing.
ODD = "\n"
#: Images that fail at first and get a caption in the last round.
FAILING = {3, 17, 31}


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def caption(number: int) -> str:
    return f"caption of image {number}"


def derive(_sent: Sent, reply: Reply) -> Derived:
    held = json.loads(reply.body)
    completion = Completion(content=held["content"], prompt_tokens=10, completion_tokens=3)
    return records_of(_sent, reply, Verdict(kind=Kind.OK), completion)


def asked(number: int) -> Asked:
    return Asked(key=key(number), id=None, image=f"i/{number}", prompt_id="p", ordinal=number)


def sent(numbers: list[int], attempt: int) -> Sent:
    return Sent(
        request_id=secrets.token_hex(16),
        run_id="run",
        recipe="recipe",
        profile="test",
        model="test",
        form="pack" if len(numbers) > 1 else "plain",
        attempt=attempt,
        at=0,
        wait_ms=0,
        items=tuple(asked(number) for number in numbers),
    )


def reply(numbers: list[int]) -> Reply:
    text = caption(numbers[0])
    if len(numbers) > 1:
        listed = [{"image": n, "caption": caption(one)} for n, one in enumerate(numbers, 1)]
        text = json.dumps({"captions": listed})
    body = json.dumps({"content": text, "padding": "x" * 3000}).encode()
    return Reply(status=200, headers={}, body=body, latency_ms=1, at=1)


async def append(journal: Journal, number: int) -> int:
    """One answer into the journal itself; its entry's number, once it is on disk."""
    answer = reply([number])
    head = codec.reply_head(sent([number], 1), answer)
    return await journal.append(tables.REPLY, head, answer.body, lambda seq: seq)


def failed(number: int) -> Record:
    return Record(
        key=key(number),
        recipe="recipe",
        id=None,
        image=f"i/{number}",
        caption=None,
        status="failed",
        error_code="timeout",
        error="took too long",
    )


async def settle(checkpoint: Checkpoint, groups: list[list[int]], acks: int) -> None:
    """Settle groups of images at once; acknowledge each when it is on disk."""

    async def one(group: list[int]) -> None:
        left = [n for n in group if checkpoint.state(key(n)) in (None, "timeout")]
        if not left:
            return
        await checkpoint.reply(sent(left, 1), reply(left))
        os.write(acks, "".join(f"{n}\n" for n in left).encode())

    async with asyncio.TaskGroup() as tasks:
        for group in groups:
            tasks.create_task(one(group))


def reserve(state: Path, requests: int, acks: int) -> None:
    """So many reservations in the quota ledger, as the gate makes them."""
    boot = Uptime(lambda: 1000.0, "boot")
    ledger = Ledger(state, names_of(ACCOUNT, "model", "out", LIMITS), boot, NOON)
    for _ in range(requests):
        claim = ReservationRequest(
            days=(DAY,),
            uptime=1000.0,
            wall=NOON,
            low=NOON,
            count=1000,
            window=61.5,
            spacing=0.0,
            burst=1,
            per_day=1000,
            per_job=None,
        )
        assert ledger.reserve(claim, LedgerUpdates()).row is not None
        os.write(acks, f"{RESERVED}\n".encode())
    ledger.close()


async def run(output: Path, acks: int) -> None:
    async with open_checkpoint(output, derive=derive, clock=SystemClock()) as checkpoint:
        fresh = [n for n in sorted(FAILING) if checkpoint.state(key(n)) is None]
        if fresh:
            lost = sent(fresh[:1], 1)
            await checkpoint.no_reply(lost, unanswered(lost))
            await checkpoint.settle([failed(n) for n in fresh])
            empty = replace(reply([5]), body=json.dumps({"content": ODD}).encode())
            await checkpoint.reply(sent([5], 1), empty)
        await settle(checkpoint, [[n] for n in range(12) if n not in FAILING], acks)
        await checkpoint.finish()
        if fresh:
            os.write(acks, f"{BODY}\n".encode())
        reserve(output.parent / "state", 5, acks)
        packs = [list(range(at, at + 7)) for at in range(12, IMAGES, 7)]
        await settle(checkpoint, [[n for n in p if n not in FAILING] for p in packs], acks)
        await checkpoint.finish()
        await settle(checkpoint, [[n] for n in sorted(FAILING)], acks)
        await checkpoint.finish()
        write_dataset(output, MANIFEST, NAMING)
        pictures = Pictures(column=MANIFEST.image, root=None, packages=())
        rows, shape = joined(MANIFEST, NAMING, output), columns_of(MANIFEST.arrow(), NAMING).schema
        whole = Rows(schema=shape, batches=rows, pictures=pictures)
        export(whole, output.parent / "export.jsonl", "jsonl")
        append_run(output, dict.fromkeys(SUMMARY_KEYS) | {"run_id": "run"})
        os.write(acks, f"{SUMMARY}\n".encode())


#: What a summary needs to be taken for one.
SUMMARY_KEYS = ("exit_code", "reason", "images", "captioned", "left", "resume_after")


def main(output: Path, log: Path) -> int:
    acks = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        asyncio.run(run(output, acks))
    except (OutputError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 73
    return 0


def forked(folder: Path, at: int, mode: str, below: str) -> tuple[int, int]:
    """One run in a child, faulted at its `at`-th call on a file below `below` (0: not at all):
    (exit code, calls).

    The parent has never started a thread or an event loop, so the child is a fresh process in
    everything but its imports.
    """
    record_result, told = os.pipe()
    child = os.fork()
    if child:
        os.close(told)
        with os.fdopen(record_result) as pipe:
            calls = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(calls or -1)
    code = 70
    try:
        shim = ctypes.CDLL(None)
        # The record also wants to know when something was acknowledged.
        watched = folder if mode == "record" else folder / below
        shim.fault_arm(
            os.fsencode(watched), ctypes.c_long(at), mode.encode(), bytes(folder / "fired")
        )
        code = main(folder / "out", folder / "acks")
        os.write(told, str(ctypes.c_long(shim.fault_count()).value).encode())
    except BaseException:  # noqa: BLE001 - the child says what it was, then it is gone
        traceback.print_exc()
    finally:
        os._exit(code)


def serve() -> None:
    """Answer each line with [exit code, file calls]."""
    pa.array([0])  # Arrow looks for pandas at the first array: once here, not once a run
    for line in sys.stdin:
        asked_for = json.loads(line)
        ended = forked(Path(asked_for.pop("folder")), **asked_for)
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
