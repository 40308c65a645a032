"""Keys as people type them for local servers: a letter, a word. No line is garbled by one."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.redact import hidden, spellings
from tests.support.command import pipeline
from tests.support.gateways import error, gateway, reply
from tests.support.pictures import folder_of


@pytest.mark.parametrize("key", ["x", "-", "none", "1234", "EMPTY"])
def test_no_line_is_garbled_by_a_short_key(tmp_path: Path, key: str) -> None:
    """Terminal and log say the same as with a long one."""
    said = {}
    for name, value in (("short", key), ("long", "sk-" + "a1b2c3d4" * 4)):
        folder = tmp_path / name
        manifest = folder_of(folder, 1)

        def answer(to: socket.socket, body: bytes) -> None:
            to.sendall(reply("A picture with a none-such, 12345 and EMPTYness."))

        with gateway(answer) as service:
            job = folder / "job.yaml"
            job.write_text(
                f"name: keynone\nmanifest: {{path: {manifest}}}\n"
                f"endpoint: {{profile: openai, model: m, base_url: {service.base}}}\n"
                f"output: {{path: {folder}/out}}\nrun: {{min_free: 1MB}}\n"
            )
            ended = pipeline("run", job, env={"OPENAI_API_KEY": value})
        log = next((folder / "out" / "_state" / "logs").glob("*.log")).read_text()
        assert ended.code == 0
        assert "***" not in ended.err + log
        said[name] = ended.err.replace(str(folder), "")
    assert said["short"] == said["long"]


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        (
            "none",
            "the key none is wrong; nonesuch, /none/a",
            "the key *** is wrong; nonesuch, /none/a",
        ),
        ("abc1234", "Bearer abc1234.", "Bearer ***."),
        ("a", "a key a", "a key a"),
        ("abcd1234", "xabcd1234x", "x***x"),
    ],
)
def test_a_short_secret_is_hidden_as_a_word_of_its_own(key: str, text: str, shown: str) -> None:
    """A longer one everywhere."""
    assert hidden(text, spellings([key])) == shown


def test_a_short_key_that_is_quoted_is_hidden(tmp_path: Path) -> None:
    """As a gateway does that refuses it."""
    manifest = folder_of(tmp_path, 1)

    def answer(to: socket.socket, body: bytes) -> None:
        to.sendall(error("401 Unauthorized", "the key hunter2 is wrong"))

    with gateway(answer) as service:
        job = tmp_path / "job.yaml"
        job.write_text(
            f"manifest: {{path: {manifest}}}\n"
            f"endpoint: {{profile: openai, model: m, base_url: {service.base}}}\n"
            f"output: {{path: {tmp_path}/out}}\nrun: {{min_free: 1MB}}\n"
        )
        ended = pipeline("run", job, env={"OPENAI_API_KEY": "hunter2"})
    assert ended.code == 77
    assert "hunter2" not in ended.err
