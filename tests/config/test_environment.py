"""Variables in text, the `.env` file, and that a key gets in nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.env import environment, expand, read_env_file
from pipeline.config.yaml import read_job
from pipeline.errors import JobError
from tests.config.jobs import load, refused, write

CANARY = "sk-or-v1-0123456789abcdef0123456789abcdef"
ENV = {"X": "one", "EMPTY": "", "YAML": "a: 1\nb: [2", "VAR": "${X}", "LOOKS": CANARY}
EXPANDED = {
    "${X}": "one",
    "a-${X}-b-${X}": "a-one-b-one",
    "${X:-two}": "one",
    "${NOPE:-two}": "two",
    "${NOPE:-}": "",
    "${EMPTY:-two}": "two",
    "${EMPTY}": "",
    "${NOPE:-a $5 b}": "a $5 b",
    "${VAR}": "${X}",
    "${YAML}": "a: 1\nb: [2",
    "$X costs $5": "$X costs $5",
    "${\\alpha}$ and ${ 1 }": "${\\alpha}$ and ${ 1 }",
}


@pytest.mark.parametrize("text", EXPANDED)
def test_variables_are_filled_in_once(tmp_path: Path, text: str) -> None:
    """Whole or inside a text, after parsing, never again in what came out."""
    job = load(tmp_path, f"prompt:\n  system: '{text}'\n", environ=ENV)

    assert job.prompt.system == EXPANDED[text]


def test_variables_stand_in_lists_and_free_sections_too(tmp_path: Path) -> None:
    """Wherever text stands."""
    more = "images: {allow: ['${X}']}\nendpoint: {extra_body: {a: {b: ['${X}']}}}\n"
    job = load(tmp_path, more, environ=ENV)

    assert job.images.allow == ["one"]
    assert job.endpoint.extra_body == {"a": {"b": ["one"]}}


REFUSED = {
    "name: ${NOPE}": "name: the environment has no NOPE; set it, or write ${NOPE:-default}",
    "name: '${${X}}'": "name: ${${X} is no variable; write ${NAME} or ${NAME:-default}",
    "name: '${MY-VAR}'": "name: ${MY-VAR} is no variable; write ${NAME} or ${NAME:-default}",
    "name: '${X'": "name: ${X is no variable; write ${NAME} or ${NAME:-default}",
    "quota: {concurrency: '${N:-4}'}": "quota.concurrency: found the text '${N:-4}'; write an integer from 1 to 4096; ${…} gives text: use --set for a number",
    "endpoint: {api_key_env: '${X}'}": "endpoint.api_key_env: write the name of a variable here, without ${…}",
    "name: ${LOOKS}": "name: LOOKS holds a secret, and a key goes only into the request's header; name the variable in endpoint.api_key_env",
    "prompt: {text: 'a ${MY_API_KEY}'}": "prompt.text: MY_API_KEY is the name of a secret, which would go out in requests, records or messages; a key is named in endpoint.api_key_env",
    "name: ${NUL}": "name: in the value of NUL, character U+0000 is not allowed",
    "name: ${BROKEN}": "name: in the value of BROKEN, character U+DCFF is not allowed",
}


@pytest.mark.parametrize("more", REFUSED)
def test_a_variable_that_cannot_stand_there(tmp_path: Path, more: str) -> None:
    """Unset, nested, misspelt, in place of a number, or a secret: 78, naming key and variable."""
    environ = {**ENV, "MY_API_KEY": "abc", "NUL": "a\0", "BROKEN": "a\udcff"}

    assert refused(tmp_path, more + "\n", environ=environ) == (78, f"job.yaml:2: {REFUSED[more]}")


SPOTS = [
    "notify: {{url: {0}}}",
    "name: x{0}",
    "endpoint: {{api_key_env: {0}}}",
    "endpoint: {{extra_body: {{deep: [{{er: {0}}}]}}}}",
    "endpoint: {{base_url: 'https://u:{0}@example.org/v1'}}",
    "endpoint: {{base_url: 'https://example.org/v1?key={0}'}}",
    "prompt: {{text: 'Authorization: Bearer {0}'}}",
    "{0}: 1",
    "endpoint: {{{0}: 1}}",
    "quota: {{concurrency: {0}}}",
    "name: !{0} x",
    "name: &{0} x",
    "name: *{0}",
    "endpoint: {{allow_paid: {0}, x: [}}",
    "%TAG ! {0}\n---\n",
    "name: '{0}",
    "? [{0}]\n: 1",
]
KEYS = [
    CANARY,
    "sk-proj-abcdefghijklmnop",
    "AIzaSyA0123456789abcdefghijklmnop",
    "hf_abcdefghijklmnopqrstuv",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("spot", SPOTS)
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, spot: str, key: str) -> None:
    """Whatever it stands in, and whatever else is wrong there."""
    if spot.startswith("name: x") and not key.startswith("sk-proj"):
        spot = spot.replace("x{0}", "'x {0}'")
    code, words = refused(tmp_path, spot.format(key) + "\n")

    assert code == 78
    assert key[6:] not in words
    assert "\n" not in words


@pytest.mark.parametrize("key", KEYS)
def test_a_key_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    """In a value of --set, in its key, or alone."""
    for sets in (f"name={key}", f"{key}=x", key, f"endpoint.extra_body={{a: [{key}]}}"):
        code, words = refused(tmp_path, sets=[sets])
        assert code == 64
        assert key[6:] not in words


def test_what_a_variable_held_is_not_repeated(tmp_path: Path) -> None:
    """An error shows the text of the file, not what came out of the environment."""
    code, words = refused(
        tmp_path, "images: {identity: '${WORD}'}\n", environ={"WORD": "correct horse battery"}
    )

    assert code == 78
    assert "horse" not in words
    assert "'${WORD}'" in words


LINES = {
    "A=b": "b",
    "A = b ": "b",
    "export A=b": "b",
    "export\tA=b # c": "b",
    'A="b # c" # d': "b # c",
    "A='b\\n'#c": "b\\n",
    'A="b\\n\\"c\\" \\\\"': 'b\n"c" \\',
    "A=": "",
    "A= # c": "",
    "A=b#c": "b#c",
    "A=b=c": "b=c",
    'A=it"s': 'it"s',
    "A='unclosed": "'unclosed",
    "A=1\nA=2": "2",
    "\ufeffA=b": "b",
    "A=b\r\nB=c\r\n": "b",
}


@pytest.mark.parametrize("text", LINES)
def test_a_line_of_the_env_file(tmp_path: Path, text: str) -> None:
    """KEY=VALUE with quotes, comments and `export`; the last of several holds."""
    (tmp_path / ".env").write_bytes(text.encode())

    assert read_env_file(tmp_path / ".env")["A"] == LINES[text]


def test_other_lines_of_the_env_file_are_passed_over(tmp_path: Path) -> None:
    """Comments, blanks and what is no assignment."""
    (tmp_path / ".env").write_text("# A=1\n\nA\n=b\n1A=b\nset A=b\nB=c\n")

    assert read_env_file(tmp_path / ".env") == {"B": "c"}


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    """A missing file is empty, so is a folder of that name (a virtual environment)."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/.env").mkdir()
    (tmp_path / ".env").write_text("A=file\nB=file\n")

    assert environment({"A": "real"}, tmp_path) == {"A": "real", "B": "file"}
    assert environment({"A": "real"}, tmp_path / "folder") == {"A": "real"}
    assert environment({"A": "real"}, tmp_path / "none") == {"A": "real"}


def test_an_env_file_that_is_no_text(tmp_path: Path) -> None:
    """78 with the remedy, and nothing of what is in it."""
    (tmp_path / ".env").write_bytes(b"OPENROUTER_API_KEY=sk-\xff\n")
    with pytest.raises(JobError, match=r"\.env: not UTF-8 text; save it as UTF-8"):
        read_env_file(tmp_path / ".env")


SECRETS = [
    *("AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "GITHUB_TOKEN", "MY_API_KEY", "APIKEY", "apiKey"),
    *("KEY", "db_passwd", "HF_TOKEN", "CLIENT_SECRET", "GOOGLE_CREDENTIALS"),
]
PLAIN = ["MONKEY_COUNT", "MAX_TOKENS", "KEYBOARD", "SECRETARY", "HOME", "TOKENIZER", "PWD"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_by_its_name_stands_nowhere_but_where_it_must(tmp_path: Path, name: str) -> None:
    """Set or not, with a default or not: a stranger's prompt gets no password."""
    environ = {name: "hunter2-hunter2"}
    for more in (
        f"prompt: {{text: 'a ${{{name}}}'}}",
        f"prompt: {{text: 'a ${{{name}:-b}}'}}",
        f"images: {{allow: ['${{{name}}}']}}",
        f"endpoint: {{base_url: 'https://a.example/${{{name}}}'}}",
        f"endpoint: {{extra_body: {{notify: {{url: '${{{name}}}'}}}}}}",
    ):
        for held in (environ, {}):
            code, message = refused(tmp_path, more + "\n", environ=held)
            assert code == 78
            assert f"{name} is the name of a secret" in message
            assert "hunter2" not in message
    more = f"notify: {{url: 'https://a.example/${{{name}}}'}}\nendpoint: {{proxy: 'http://u:${{{name}}}@p:1'}}\n"
    more += f"images: {{proxy: 'http://u:${{{name}}}@p:2'}}\n"
    job = load(tmp_path, more, environ=environ)
    assert job.notify.url == "https://a.example/hunter2-hunter2"
    assert job.endpoint.proxy == "http://u:hunter2-hunter2@p:1"
    assert job.images.proxy == "http://u:hunter2-hunter2@p:2"


def test_each_of_several_endpoints_may_hold_a_secret_in_its_proxy_alone(tmp_path: Path) -> None:
    environ = {"PROXY_PASSWORD": "hunter2-hunter2"}
    proxy = "{proxy: 'http://u:${PROXY_PASSWORD}@p:1'}"
    document = read_job(write(tmp_path, f"endpoints: [{{}}, {proxy}]\n"))
    assert expand(document, environ)["endpoints"][1]["proxy"] == "http://u:hunter2-hunter2@p:1"
    for name in ("model", "base_url", "key_host"):
        more = f"endpoints: [{{}}, {{{name}: '${{PROXY_PASSWORD}}'}}]\n"
        assert "PROXY_PASSWORD is the name of a secret" in refused(tmp_path, more)[1]


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_that_only_holds_such_letters_is_no_secret(tmp_path: Path, name: str) -> None:
    job = load(tmp_path, f"prompt: {{text: 'a ${{{name}}}'}}\n", environ={name: "5"})
    assert job.prompt.text == "a 5"
