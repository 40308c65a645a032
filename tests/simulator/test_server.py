"""The simulator on a real port: what travels over the socket, and the command."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pipeline.errors import UsageError
from pipeline.simulator.server import read_knobs, run_simulator, serve
from tests.simulator.made import asked
from tests.simulator.sockets import made

ROOT = Path(__file__).resolve().parents[2]


async def post(base: str, body: bytes | None = None) -> tuple[int, str, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{base}/chat/completions", data=body or json.dumps(asked())) as got,
    ):
        return got.status, got.headers.get("Content-Type", ""), await got.read()


def over(knobs: dict[str, Any], body: bytes | None = None) -> tuple[int, str, bytes]:
    """One request over a socket to a fresh simulator."""

    async def main() -> tuple[int, str, bytes]:
        async with serve(made(**knobs)) as base:
            return await post(base, body)

    return asyncio.run(main())


def test_every_base_is_served() -> None:
    """The same service answers at OpenRouter's, OpenAI's and Google's base."""

    async def main() -> None:
        async with serve(made()) as base:
            root = base.removesuffix("/api/v1")
            for path in ("/api/v1", "/v1", "/v1beta/openai"):
                status, _, body = await post(root + path)
                assert status == 200
                assert b"mostly red" in body

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("reset", aiohttp.ClientConnectionError),
        ("cut_body", aiohttp.ClientPayloadError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_connections_break(
    fault: str, raised: type[Exception], stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A reset comes before any byte, a cut in the middle; the server itself finds nothing odd."""
    body = json.dumps(asked(stream=stream)).encode()
    with pytest.raises(raised):
        over({"faulty": 1.0, "faults": [fault]}, body)
    assert not caplog.records


def test_padding_arrives_before_the_body() -> None:
    """The status is there while the body is still being made."""

    async def main() -> None:
        simulator = made(padding=10, padding_seconds=0.2)
        async with (
            serve(simulator) as base,
            aiohttp.ClientSession() as session,
            session.post(f"{base}/chat/completions", json=asked()) as got,
        ):
            assert got.status == 200
            first = await got.content.readany()
            rest = await got.read()
            assert first.strip() == b""
            assert json.loads(first + rest)["object"] == "chat.completion"

    asyncio.run(main())


def test_a_page_instead_of_json() -> None:
    """Cloudflare's page is HTML with its status."""
    status, kind, body = over({"faulty": 1.0, "faults": ["html_524"]})
    assert (status, kind[:9]) == (524, "text/html")
    assert b"524" in body


def test_a_body_that_is_too_large_is_a_413() -> None:
    """Also when it is far larger than what the server reads."""
    for size in (2_000, 900_000):
        status, kind, body = over({"max_body": 1_000}, b"x" * size)
        assert (status, kind[:16]) == (413, "application/json")
        assert json.loads(body)["error"]["code"] == 413


def test_a_hanging_request_does_not_keep_the_server() -> None:
    """A client that gives up leaves nothing behind, and the server still stops."""

    async def main() -> None:
        simulator = made(faulty=1.0, faults=["hang"])
        async with serve(simulator) as base:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await post(base)
            assert len(simulator.log) == 1
            simulator.turn(faulty=0.0)
            assert (await post(base))[0] == 200

    asyncio.run(main())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_and_stops(sent: signal.Signals, tmp_path: Path) -> None:
    """It prints its base URL, obeys its knobs, writes its log line by line, ends at a signal."""
    log = tmp_path / "log.jsonl"
    script = (
        "import sys; from pathlib import Path; from pipeline.simulator.server import run_simulator; "
        "sys.exit(run_simulator(port=0, profile='openrouter-2026-free', seed=3, "
        f"knobs=['rpm=1', 'upstream_quiet=null', 'window=fixed'], log=Path({str(log)!r})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        base = line.split()[-1]
        how = process.stdout.readline()
        assert how.startswith(f'in a job: endpoint: {{profile: openrouter, base_url: "{base}"}}')
        assert line.endswith("/api/v1\n")

        async def ask() -> list[int]:
            base = line.split()[-1]
            head = {"Authorization": "Bearer sk-secret"}
            body = {**asked(), "model": "google/gemma-4-31b-it:free"}
            async with aiohttp.ClientSession(headers=head) as session:
                found = []
                for _ in range(3):
                    async with session.post(f"{base}/chat/completions", json=body) as got:
                        found.append(got.status)
                return found

        assert 429 in asyncio.run(ask())
        entries = [json.loads(one) for one in log.read_text().splitlines()]
        process.send_signal(sent)
        assert process.wait(20) == 0

    assert len(entries) == 3
    assert all(entry["path"] == "/chat/completions" for entry in entries)
    assert all(len(entry["images"][0]["sha256"]) == 64 for entry in entries)
    assert all(len(entry["images"][0]["dhash"]) == 16 for entry in entries)
    assert "secret" not in log.read_text()


def test_wrong_knobs_are_errors_of_the_command_line(tmp_path: Path) -> None:
    """Each names what is wrong and what there is."""
    for profile, change, words in (
        ("nope", "rpm=1", "no profile 'nope'"),
        ("vllm", "rmp=1", "no knob 'rmp'"),
        ("vllm", "rpm", "write name=value"),
        ("vllm", "rpm=soon", "a whole number is needed"),
        ("vllm", "faults=[]", "at least one"),
        ("vllm", "window=round", "one of fixed, sliding, bucket"),
    ):
        with pytest.raises(UsageError, match=words):
            read_knobs(profile, [change])
    with pytest.raises(UsageError, match="No such file"):
        run_simulator(port=0, profile="vllm", seed=0, log=tmp_path / "no" / "log")


def test_a_port_that_is_taken_is_an_error_of_the_command_line() -> None:
    """One line, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="address already in use"):
            run_simulator(port=port, profile="vllm", seed=0)
