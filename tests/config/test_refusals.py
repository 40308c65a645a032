"""What is wrong with a job file is said in one line: file, line, key, what was found, what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.jobs import load, refused

KEYS = "send, identity, max_side, max_pixels, quality, root, allow, packages, proxy, cache, headers, timeout"
#: What follows the first line of the file -> the whole error.
REFUSED = {
    # keys
    "images:\n  max_sde: 3": "job.yaml:3: images.max_sde: unknown key, did you mean max_side?",
    "max_side: 3": "job.yaml:2: max_side: unknown key here, did you mean images.max_side?",
    "manifests: 3": "job.yaml:2: manifests: unknown key, did you mean manifest?",
    "run:\n  zzz: 1": "job.yaml:3: run.zzz: unknown key; there are max_failed, engine, shards, ray, drain, min_free, metrics, log_format",
    '"a\\nb": 1': "job.yaml:2: a b: unknown key; there are name, manifest, prompt, images, endpoint, endpoints, endpoints_may_differ, i_own_these_quotas, quota, packing, retry, reply, checks, polish, output, run, notify",
    "run: {drain: 1,\n  drain: 2}": "job.yaml:3: run.drain: given twice; delete one of them",
    "manifest: {path: b}": "job.yaml:2: manifest: given twice; delete one of them",
    # types
    "quota: {concurrency: many}": "job.yaml:2: quota.concurrency: found the text 'many'; write an integer from 1 to 4096",
    "quota: {concurrency: yes}": "job.yaml:2: quota.concurrency: found yes, which YAML reads as true; write an integer from 1 to 4096",
    "quota: {concurrency: 2.5}": "job.yaml:2: quota.concurrency: found the number 2.5; write an integer from 1 to 4096",
    "quota: {concurrency: '8'}": "job.yaml:2: quota.concurrency: found the text '8'; write an integer from 1 to 4096: 8 without quotes",
    "quota: {concurrency: null}": "job.yaml:2: quota.concurrency: found null; write an integer from 1 to 4096",
    "quota: {concurrency: }": "job.yaml:2: quota.concurrency: found nothing; write an integer from 1 to 4096",
    "quota: {requests_per_day: 1e6}": "job.yaml:2: quota.requests_per_day: found the text '1e6'; write an integer of at least 1, auto or null: 1000000",
    "quota: {requests_per_minute: 0}": "job.yaml:2: quota.requests_per_minute: found the number 0; write a number above 0, auto or null",
    "endpoint: {allow_paid: 1}": "job.yaml:2: endpoint.allow_paid: found the number 1; write true or false",
    "endpoint: {allow_paid: 'yes'}": "job.yaml:2: endpoint.allow_paid: found the text 'yes'; write true or false",
    "endpoint: {fallback_models: a}": "job.yaml:2: endpoint.fallback_models: found the text 'a'; write a list of at most 2",
    "endpoint: {fallback_models: [a, 1]}": "job.yaml:2: endpoint.fallback_models.1: found the number 1; write text: '1' in quotes is text",
    "endpoint: {params: [1]}": "job.yaml:2: endpoint.params: found a list; write a section of `key: value` lines",
    "manifest2: 1": "job.yaml:2: manifest2: unknown key, did you mean manifest?",
    "name: 123": "job.yaml:2: name: found the number 123; write text: '123' in quotes is text",
    "name: no": "job.yaml:2: name: found no, which YAML reads as false; write text: 'no' in quotes is text",
    "images:": f"job.yaml:2: images: found nothing; write a section with the keys {KEYS}",
    "images: x": f"job.yaml:2: images: found the text 'x'; write a section with the keys {KEYS}",
    # values
    "images: {send: foo}": "job.yaml:2: images.send: found the text 'foo'; write auto, url or inline",
    "images: {max_side: 4}": "job.yaml:2: images.max_side: found the number 4; write an integer from 16 to 8192",
    "images: {identity: foo}": "job.yaml:2: images.identity: found the text 'foo'; write something like auto, content or column:NAME",
    "images: {allow: ['http://x']}": "job.yaml:2: images.allow: 'http://x' is not a host, host:port or network",
    "endpoint: {timeout: abc}": "job.yaml:2: endpoint.timeout: found the text 'abc'; write a duration as 90, 30s, 15m, 2h or 1d",
    "endpoint: {timeout: 0}": "job.yaml:2: endpoint.timeout: found the number 0; write something like 90, 30s, 15m, 2h or 1d: greater than 0",
    "endpoint: {timeout: true}": "job.yaml:2: endpoint.timeout: found true; write something like 90, 30s, 15m, 2h or 1d",
    "endpoint: {api_key_env: a b}": "job.yaml:2: endpoint.api_key_env: found the text 'a b'; write something like OPENROUTER_API_KEY or null",
    "endpoint: {params: {max_tokens: many}}": "job.yaml:2: endpoint.params: max_tokens must be an integer of at least 1",
    "endpoint: {extra_body: {model: x}}": "job.yaml:2: endpoint.extra_body: model cannot stand here; use endpoint.model",
    "run: {min_free: lots}": "job.yaml:2: run.min_free: found the text 'lots'; write a size as 268435456, 256MB or 1GB",
    "packing: {images_per_request: 0}": "job.yaml:2: packing.images_per_request: found the number 0; write an integer from 1 to 1000 or auto",
    "output: {dataset: no}": "job.yaml:2: output.dataset: found no, which YAML reads as false; write auto or null",
    "prompt: {text: ''}": "job.yaml:2: prompt.text: found the text ''; write text of 1 to 100,000 letters",
    "name: a/b": "job.yaml:2: name: found the text 'a/b'; a name has no /, no dot in front, and at most 200 letters",
    "name: ..": "job.yaml:2: name: found the text '..'; a name has no /, no dot in front, and at most 200 letters",
    "images:\n  max_side: 4\n  quality: 1000": "job.yaml:3: images.max_side: found the number 4; write an integer from 16 to 8192; job.yaml:4: images.quality: found the number 1000; write an integer from 1 to 95 (errors in all: 2)",
    # typed fields
    "reply: {fields: {tags: list}}": "job.yaml:2: reply.fields.tags: found the text 'list'; write a section with the keys type, description, max_length, values, max_items",
    "reply: {fields: {tags: {type: text}}}": "job.yaml:2: reply.fields.tags.type: found the text 'text'; write string, bool, int, float, enum or list",
    "reply: {fields: {tags: {type: list, max_length: 3}}}": "job.yaml:2: reply.fields.tags: max_length goes with type string, not with list",
    "reply: {fields: {place: {type: enum}}}": "job.yaml:2: reply.fields.place: an enum needs values: texts that differ, also without capitals",
    "reply: {fields: {place: {type: enum, values: [a, A]}}}": "job.yaml:2: reply.fields.place: an enum needs values: texts that differ, also without capitals",
    "reply: {fields: {Status: {type: bool}}}": "job.yaml:2: reply.fields: Status is a column of every record; choose another name",
    "reply: {fields: {a b: {type: bool}}}": "job.yaml:2: reply.fields: 'a b' is no name for a field: letters, digits and _, at most 64",
    "reply: {fields: {a: {type: bool}, A: {type: int}}}": "job.yaml:2: reply.fields: two fields differ in capitals only",
    # YAML's own surprises
    "quota: {concurrency: 010}": "job.yaml:2: quota.concurrency: YAML reads 010 in another base; write a decimal number, or quotes",
    "quota: {concurrency: 0x1F}": "job.yaml:2: quota.concurrency: YAML reads 0x1F in another base; write a decimal number, or quotes",
    "images: {timeout: 1:30}": "job.yaml:2: images.timeout: YAML reads 1:30 in another base; write a decimal number, or quotes",
    "images: {timeout: 1:30.5}": "job.yaml:2: images.timeout: YAML reads 1:30.5 in base 60; write a decimal number, or quotes",
    "images: {timeout: .inf}": "job.yaml:2: images.timeout: infinity and nan are not allowed; write a number",
    "images: {timeout: 1.0e+999}": "job.yaml:2: images.timeout: infinity and nan are not allowed; write a number",
    "endpoint: {extra_body: {x: .nan}}": "job.yaml:2: endpoint.extra_body.x: infinity and nan are not allowed; write a number",
    "endpoint: {extra_body: {x: 2024-01-01}}": "job.yaml:2: endpoint.extra_body.x: YAML reads 2024-01-01 as a date; put it in quotes",
    "quota: {requests_per_day: 99999999999999999999}": "job.yaml:2: quota.requests_per_day: this number is too large",
    f"quota: {{requests_per_day: {'9' * 5000}}}": "job.yaml:2: quota.requests_per_day: this number is too large",
    "run: &a {drain: 1}\nretry: *a": "job.yaml:2: anchors and aliases are not allowed; write the value out",
    "name: *a": "job.yaml:2: anchors and aliases are not allowed; write the value out",
    "name: !!python/object/apply:os.system [ls]": "job.yaml:2: tags (!…) are not allowed; write the plain value",
    "name: !!str 1": "job.yaml:2: tags (!…) are not allowed; write the plain value",
    "? [a]\n: b": "job.yaml:2: a key must be a plain word",
    "? {a: b}\n: b": "job.yaml:2: a key must be a plain word",
    "a: " + "[" * 100: "job.yaml:2: nested deeper than 32 levels",
    "a: " + "{a: " * 3000: "job.yaml:2: nested deeper than 32 levels",
    'name: "\\0"': "job.yaml:2: name: character U+0000 is not allowed",
    'name: "\\x1b[31m"': "job.yaml:2: name: character U+001B is not allowed",
    'name: "\\uD800"': "job.yaml:2: name: character U+D800 is not allowed",
    "name: \x01": "job.yaml:2: character U+0001 is not allowed",
    "name: 'a": "job.yaml:3: not YAML: the file ends inside a quote; close it",
    "name: [a": "job.yaml:3: not YAML: the file ends inside a bracket or a quote; close it",
    "\tname: x": "job.yaml:2: not YAML: a tab; indent with spaces",
    "prompt:\n  text: Describe: this": "job.yaml:3: not YAML: a second `: ` in a line; put the value in quotes, or check the indentation",
    "images:\n  send: auto\n quality: 3": "job.yaml:4: not YAML: this line does not fit the ones above; check the indentation",
    "reply: {a: is it read?}": "job.yaml:2: not YAML: inside of { } or [ ] text with a `?`, a comma or a bracket needs quotes",
    "---\nname: x": "job.yaml:2: not YAML: a second document; a job file has one, without `---`",
}


@pytest.mark.parametrize("more", REFUSED, ids=lambda text: text[:40])
def test_it_is_said_in_one_line(tmp_path: Path, more: str) -> None:
    """The whole line, word by word: 78."""
    assert refused(tmp_path, more + "\n") == (78, REFUSED[more])


WHOLE = {
    b"": "job.yaml: empty; `init` writes a commented job file",
    b"# nothing\n": "job.yaml: empty; `init` writes a commented job file",
    b"- a\n": "job.yaml:1: a job file is `key: value` lines",
    b"5\n": "job.yaml:1: a job file is `key: value` lines",
    b"name: x\n": "job.yaml:1: manifest: missing; every job needs it (a section with the keys path, format, image, id, where)",
    b"name: x\nmanifest: {id: a}\n": "job.yaml:2: manifest.path: missing; every job needs it (text or a list)",
    b"name: x\nid: \xff\n": "job.yaml:2: not UTF-8 text; save the file as UTF-8",
    "manifest: {path: a}\n".encode("utf-16"): "job.yaml:1: not UTF-8 text; save the file as UTF-8",
    b"a: " + b"x" * 1_000_000: "job.yaml: larger than 1 MB; this is not a job file",
}


@pytest.mark.parametrize("whole", WHOLE, ids=lambda data: str(data[:20]))
def test_a_file_that_is_no_job(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty, another kind of YAML, another encoding, too large, without a manifest."""
    from pipeline.config.job import load_job
    from pipeline.errors import JobError

    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_bytes(whole)
    with pytest.raises(JobError) as caught:
        load_job(Path("job.yaml"))

    assert str(caught.value) == WHOLE[whole]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing (with the way to get one), a folder, an impossible name."""
    from pipeline.config.job import load_job
    from pipeline.errors import JobError

    cases = {
        tmp_path / "none.yaml": "no such job file; `init ",
        tmp_path: "Is a directory",
        Path("a\0b"): "not a file name",
        tmp_path / ("x" * 3000): "File name too long",
    }
    for path, words in cases.items():
        with pytest.raises(JobError) as caught:
            load_job(path)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        "quota: {requests_per_day: 1_000}",
        "quota: {requests_per_minute: 2.5}",
        "quota: {requests_per_minute: 3}",
        "quota: {requests_per_minute: null}",
        "endpoint: {timeout: 1.5m}",
        "run: {min_free: 1 GB}",
        "endpoint: {allow_paid: Yes}",
        "name: '010'",
        "name: sk-learn",
        "output: {path: data/sk-photos-2024}",
        "prompt: {text: 'a\\nb\\tc ${\\alpha} 写'}",
        "endpoint: {extra_body: {a: {b: [1, x, null, true, 1.5]}}}",
        "images: {allow: [localhost, '127.0.0.1:80', 10.0.0.0/8]}",
    ],
)
def test_what_only_looks_odd_is_taken(tmp_path: Path, more: str) -> None:
    """Underscores, fractions, units, other writing: a job."""
    assert load(tmp_path, more + "\n").manifest.path == "images.csv"


def test_defaults_that_depend_on_others(tmp_path: Path) -> None:
    """The name is the file's stem, the output is out/NAME; both may be given."""
    plain, named = load(tmp_path), load(tmp_path, "name: x\n")
    placed = load(tmp_path, "name: x\noutput: {path: y}\n")

    assert (plain.name, plain.output.path) == ("job", "out/job")
    assert (named.name, named.output.path) == ("x", "out/x")
    assert placed.output.path == "y"


def test_windows_line_ends_and_a_byte_order_mark_are_seen_through(tmp_path: Path) -> None:
    """What an editor elsewhere leaves does not matter."""
    from pipeline.config.job import load_job

    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbfmanifest:\r\n  path: a.csv\r\nname: x\r\n")

    assert load_job(path).name == "x"
