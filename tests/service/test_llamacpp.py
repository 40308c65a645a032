"""llama.cpp's server as a child: what fits, what is refused by name, how it ends and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import JobError, ServiceError
from pipeline.service.endpoint import endpoint_of
from pipeline.service.llamacpp import server as module
from pipeline.service.llamacpp.fit import Fit, TooLittle, fit, free_memory, token_bytes
from pipeline.service.llamacpp.header import Header, NotGguf, read_header
from pipeline.service.llamacpp.server import LlamaServer, llama_server
from pipeline.service.settings import EndpointSettings
from tests.peers.peers import answers
from tests.support.command import until
from tests.support.gguf import CONTEXT, EMBED, HEADS, chain, projector

MB = 2**20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    chain(folder / "chain.gguf")
    projector(folder / "mmproj.gguf")
    return folder


def served(model: Path, mmproj: Path | None) -> str:
    """Why this is not served; "" when it is."""

    async def go() -> str:
        settings = EndpointSettings(
            profile="llamacpp", model=str(model), mmproj=mmproj and str(mmproj)
        )
        try:
            async with llama_server(settings, concurrency=2, clock=SystemClock()):
                return ""
        except ServiceError as error:
            return str(error)

    return asyncio.run(go())


def test_the_head_is_read_without_the_weights(models: Path) -> None:
    """Numbers, texts, lists of numbers; long lists are passed over."""
    head = read_header(models / "chain.gguf")

    assert (head.architecture, head.number("context_length")) == ("llama", CONTEXT)
    assert head.facts["tokenizer.ggml.token_type"][:3] == [2, 3, 3]
    assert head.size == (models / "chain.gguf").stat().st_size
    assert head.number("nothing.of.the.kind") == 0
    assert token_bytes(head) == HEADS * 2 * (EMBED // HEADS) * 2


@pytest.mark.parametrize("size", [0, 3, 10, 23, 30, 200, 2000])
def test_a_head_that_is_cut_is_broken(tmp_path: Path, models: Path, size: int) -> None:
    """Wherever it ends."""
    path = tmp_path / "cut.gguf"
    path.write_bytes((models / "chain.gguf").read_bytes()[:size])

    with pytest.raises(NotGguf):
        read_header(path)


def test_parts_of_a_model_count_together(tmp_path: Path, models: Path) -> None:
    """The first of them is named, as llama.cpp wants it."""
    data = (models / "chain.gguf").read_bytes()
    for number in (1, 2, 3):
        (tmp_path / f"m-0000{number}-of-00003.gguf").write_bytes(data)

    assert read_header(tmp_path / "m-00001-of-00003.gguf").size == 3 * len(data)


#: 7 billion parameters at 4 bits: 4 GB, and 56 KB of keys and values a token.
SEVEN = Header(
    facts={
        "general.architecture": "qwen2vl",
        "qwen2vl.context_length": 32_768,
        "qwen2vl.embedding_length": 3584,
        "qwen2vl.block_count": 28,
        "qwen2vl.attention.head_count": 28,
        "qwen2vl.attention.head_count_kv": [4] * 28,
    },
    size=4_000 * MB,
)
EYES = Header(facts={"general.architecture": "clip"}, size=1_000 * MB)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (None, Fit(slots=4, context=8192)),
        (16_000 * MB, Fit(slots=4, context=8192)),
        (6_800 * MB, Fit(slots=2, context=8192)),
        (6_000 * MB, Fit(slots=1, context=4096)),
        (5_900 * MB, Fit(slots=1, context=2048)),
    ],
)
def test_less_memory_means_fewer_at_once_then_less_context(free: int | None, expected: Fit) -> None:
    """As large as it fits; eight at once are never asked of it."""
    assert fit(SEVEN, EYES, free, concurrency=8) == expected


def test_what_does_not_fit_at_all_is_refused() -> None:
    """With what it takes and what there is."""
    with pytest.raises(TooLittle) as short:
        fit(SEVEN, EYES, 5_000 * MB, concurrency=8)

    assert short.value.free == 5_000 * MB < short.value.needed < 7_000 * MB


def test_free_memory_is_what_kernel_and_container_leave(tmp_path: Path) -> None:
    """The smaller of the two; pages of files that were read are given back."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  4096 kB\n")
    assert free_memory(tmp_path) == 4096 * 1024

    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("3000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) == 4096 * 1024
    (group / "memory.max").write_text("4000000\n")
    assert free_memory(tmp_path) == 1_500_000
    assert free_memory(tmp_path / "none") is None
    assert free_memory() is None or free_memory() > 0  # type: ignore[operator]


def test_files_that_cannot_be_served_are_refused_by_name(tmp_path: Path, models: Path) -> None:
    """Damaged, missing, exchanged, blind, too large: each in words of its own."""
    good, eyes = models / "chain.gguf", models / "mmproj.gguf"
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(good.read_bytes()[:3_000_000])
    huge = tmp_path / "huge.gguf"
    huge.write_bytes(good.read_bytes())
    os.truncate(huge, 900 * 10**9)  # sparse: it takes no room
    text = tmp_path / "text.gguf"
    text.write_text("<html>not found</html>")
    sound = projector(tmp_path / "sound.gguf", vision=False)

    assert "corrupted or incomplete" in served(cut, eyes)
    assert str(cut) in served(cut, eyes)
    assert "is broken: it is no GGUF file" in served(text, eyes)
    assert "endpoint.mmproj" in served(good, text)
    assert "too little memory" in served(huge, eyes)
    assert "no such file" in served(tmp_path / "nope.gguf", eyes)
    assert "name it in endpoint.mmproj" in served(eyes, eyes)
    assert "no vision projector (llama)" in served(good, good)
    assert "no vision projector (for sound alone)" in served(good, sound)
    assert "has no vision projector" in served(good, None)


def test_without_the_extra_it_says_how_to_get_it(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started."""
    monkeypatch.setattr(module, "find_spec", lambda _name: None)

    assert "caption-pipeline[llama]" in served(models / "chain.gguf", models / "mmproj.gguf")


@pytest.mark.parametrize(
    "settings",
    [
        {"profile": "llamacpp", "model": "m.gguf", "base_url": "http://127.0.0.1:1/v1"},
        {"profile": "openai", "model": "m", "mmproj": "p.gguf"},
    ],
)
def test_keys_that_do_not_go_together_are_the_jobs_fault(settings: dict[str, str]) -> None:
    """78, with the key."""
    with pytest.raises(JobError, match=r"endpoint\.(base_url|mmproj)"):
        endpoint_of(EndpointSettings.model_validate(settings), {"OPENAI_API_KEY": "k" * 20})


def test_a_server_that_dies_comes_back_on_its_port_and_ends_with_its_block(models: Path) -> None:
    """kill -9, as the kernel does where memory is short."""

    async def go() -> tuple[int, int, str]:
        settings = EndpointSettings(
            profile="llamacpp",
            model=str(models / "chain.gguf"),
            mmproj=str(models / "mmproj.gguf"),
        )
        async with llama_server(settings, concurrency=2, clock=SystemClock()) as server:
            url, process = server.url, server._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            health = url.removesuffix("/v1") + "/health"
            await asyncio.to_thread(until, lambda: answers(health))
            again = server._process
            assert again is not None
            assert server.url == url
            return process.pid, again.pid, health

    first, second, health = asyncio.run(go())

    assert first != second
    assert not answers(health)
    assert not Path(f"/proc/{second}").exists()


def test_a_server_that_always_dies_is_given_up(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last words are said; one that answered in between has all its lives again."""
    monkeypatch.setattr(module, "AGAIN_FIRST", 0.0)

    async def go() -> tuple[str, int]:
        settings = EndpointSettings(profile="llamacpp", model="m.gguf", mmproj="p.gguf")
        server, ended, starts = LlamaServer(settings, 1, SystemClock()), [], 0
        server.on_end = ended.append

        async def start() -> None:
            nonlocal starts
            starts += 1
            server._lines.append("0.00.401.252 E llama_model_load: error loading model: no luck")
            server._process = await asyncio.create_subprocess_exec("false")
            server._reading = asyncio.create_task(asyncio.sleep(0))

        server.start = start  # type: ignore[method-assign]
        await start()
        server.answered = lambda: float("inf") if starts == 5 else float("-inf")
        await asyncio.wait_for(server.keep(), 60)
        return ended[0], starts

    why, starts = asyncio.run(go())

    assert "8 times in a row (last: no luck)" in why
    assert starts == 4 + module.DEATHS
