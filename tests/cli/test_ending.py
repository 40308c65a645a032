"""How the process ends: codes, the one line, lost terminals, signals, and the log of a bug."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer

from pipeline.errors import (
    Exit,
    Held,
    JobError,
    KeyTrouble,
    ManifestError,
    OutputError,
    ServiceError,
    UsageError,
    heaviest,
)
from pipeline.exit import Known, exit_of
from tests.support.command import RequestResult, command, environment
from tests.support.pictures import folder_of

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
PLAIN = "correct-horse-battery"


def python(
    folder: Path, code: str, *arguments: str, env: dict[str, str] | None = None
) -> RequestResult:
    """Run the command in a process of its own, spoilt by `code` beforehand."""
    whole = STORY + textwrap.dedent(code) + "\nfrom pipeline.cli import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", whole, *arguments],
        cwd=folder,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return RequestResult(done.returncode, done.stdout, done.stderr)


ERRORS = [
    (UsageError("a"), 64),
    (ManifestError("a"), 65),
    (ServiceError("a"), 69),
    (OutputError("a"), 73),
    (Held("a"), 76),
    (KeyTrouble("a"), 77),
    (JobError("a"), 78),
    (KeyboardInterrupt(), 130),
    (typer.Abort(), 130),
    (SystemExit(143), 143),
    (SystemExit(129), 129),
    (SystemExit(0), 0),
    (SystemExit(), 0),
    (ExceptionGroup("g", [OutputError("a")]), 73),
    (ExceptionGroup("g", [ExceptionGroup("h", [JobError("a"), Held("b")])]), 76),
    (BaseExceptionGroup("g", [OutputError("a"), KeyboardInterrupt()]), 130),
    (BaseExceptionGroup("g", [ValueError("a"), SystemExit(143)]), 143),
    (ExceptionGroup("g", [OutputError("a"), ValueError("b")]), 70),
    (ValueError("a"), 70),
    (MemoryError(), 70),
    (BrokenPipeError(), 70),
    (OSError(errno.ENOSPC, "No space left on device", "x"), 73),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "x"), 73),
    (ExceptionGroup("g", [OSError(errno.EMFILE, "Too many open files")]), 73),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda one: repr(one)[:50])
def test_each_error_has_its_code(
    error: BaseException, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The contract's table; at most one line is said."""
    known = Known(environ={"CAPTION_PIPELINE_STATE": str(tmp_path)})

    assert exit_of(error, known) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == (0 if code == 0 else 1)


def test_the_heaviest_of_several_errors_decides() -> None:
    """73 and 76 before 77 and 69, and these before the rest; a bug among them is a bug."""
    errors = [JobError("a"), ServiceError("b"), KeyTrouble("c"), OutputError("d")]
    group = ExceptionGroup("g", errors)
    with_bug = ExceptionGroup("g", [*errors, ZeroDivisionError()])

    assert heaviest(group) is errors[3]
    assert heaviest(with_bug) is with_bug


def test_an_error_is_one_line_without_keys_and_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever words an error was made of."""
    exit_of(JobError(f"a\nb \x1b[31m\u202e {KEY} {'x' * 9000}"), Known(environ={}))
    said = capsys.readouterr().err

    assert said.startswith(r"caption-pipeline: a b \x1b[31m\u202e *** xxx")
    assert said.count("\n") == 1
    assert len(said) < 3000


def test_an_error_that_names_a_key_is_told_where_it_stands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """File and line are put in front where the job file is known and has the key."""
    known = Known(environ={}, where=lambda key: {"prompt.text": "job.yaml:7: "}.get(key, ""))
    exit_of(JobError("prompt.text: lone brace"), known)
    exit_of(JobError("endpoint.base_url: no"), known)
    said = capsys.readouterr().err.splitlines()

    assert said == [
        "caption-pipeline: job.yaml:7: prompt.text: lone brace",
        "caption-pipeline: endpoint.base_url: no",
    ]


#: Puts another story in the place of `status`.
STORY = """
import sys, types
story = types.ModuleType("pipeline.commands.status")
story.status_command = lambda job, **_options: status()
sys.modules[story.__name__] = story
"""
BUG = f"""
def status():
    raise RuntimeError("no luck with {KEY} and {PLAIN}")
"""
JOB = "manifest: {path: a.csv}\noutput: {path: out}\n"


@pytest.mark.parametrize("has_output", [True, False])
def test_a_bug_leaves_its_traceback_in_a_log(tmp_path: Path, has_output: bool) -> None:
    """70, one line that names the file; in the output if there is one, else in the state folder."""
    (tmp_path / "job.yaml").write_text(JOB)
    if has_output:
        (tmp_path / "out/_state").mkdir(parents=True)
    state = tmp_path / "state"
    env = {"CAPTION_PIPELINE_STATE": str(state), "OPENROUTER_API_KEY": PLAIN}
    ended = python(tmp_path, BUG, "status", "job.yaml", env=env)
    folder = Path("out/_state/logs") if has_output else state / "logs"
    (log,) = (tmp_path / folder).iterdir()

    assert ended.code == 70
    assert ended.out == ""
    assert ended.err == (
        "caption-pipeline: this is a bug (RuntimeError: no luck with *** and ***); the traceback "
        f"is in {log}\n"
    )
    text = log.read_text()
    assert "Traceback" in text
    assert "in status\n" in text
    assert KEY not in text
    assert PLAIN not in text
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "out").exists() == has_output


def test_a_bug_without_a_place_for_its_log(tmp_path: Path) -> None:
    """The temporary folder is the last resort; without one the line still comes."""
    (tmp_path / "job.yaml").write_text(JOB)
    env = {"CAPTION_PIPELINE_STATE": "/dev/null/x", "TMPDIR": str(tmp_path)}
    tried = python(tmp_path, BUG, "status", "job.yaml", env=env)
    spoilt = "import tempfile\ntempfile.mkstemp = None\n" + textwrap.dedent(BUG)
    lost = python(tmp_path, spoilt, "status", "job.yaml", env=env)

    assert tried.code == lost.code == 70
    assert f"the traceback is in {tmp_path}/bug-" in tried.err
    assert "its traceback could not be written (TypeError)" in lost.err


def test_an_error_of_several_tasks_is_not_a_bug(tmp_path: Path) -> None:
    """A full disk met inside a task group is still 73."""
    (tmp_path / "job.yaml").write_text(JOB)
    spoil = """
    from pipeline.errors import OutputError
    def status():
        raise ExceptionGroup("g", [OutputError("out: the disk is full")])
    """
    ended = python(tmp_path, spoil, "status", "job.yaml")

    assert (ended.code, ended.err) == (73, "caption-pipeline: out: the disk is full\n")


def redirected(folder: Path, words: str) -> RequestResult:
    """The command with its streams as a shell makes them; stdout and stderr of the shell."""
    shell = f'python() {{ "{sys.executable}" "$@"; }}; {words}'
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return RequestResult(done.returncode, done.stdout, done.stderr)


STREAMS = {
    # nobody reads on: the command is done, and that is all
    "python -m pipeline schema | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}": (0, ""),
    "python -m pipeline schema | true; exit ${PIPESTATUS[0]}": (0, ""),
    "python -m pipeline schema | false; exit ${PIPESTATUS[0]}": (0, ""),
    "python -m pipeline run none.yaml 2>&1 | true; exit ${PIPESTATUS[0]}": (78, ""),
    # closed by the caller
    "python -m pipeline schema >&-": (0, ""),
    "python -m pipeline schema >&- 2>&- <&-": (0, ""),
    "python -m pipeline run none.yaml 2>&-": (78, ""),
    # full
    "python -m pipeline schema >/dev/full": (73, "stdout cannot be written"),
    "python -m pipeline --version >/dev/full": (73, "stdout cannot be written"),
    "python -m pipeline run none.yaml 2>/dev/full": (78, ""),
    # a terminal that knows no Unicode
    "PYTHONIOENCODING=ascii python -m pipeline run --help": (0, ""),
}


@pytest.mark.parametrize("words", STREAMS)
def test_lost_streams_change_no_ending(tmp_path: Path, words: str) -> None:
    """Pipes without a reader, closed and full streams: the code of the command, no traceback."""
    code, said = STREAMS[words]
    ended = redirected(tmp_path, words)

    assert ended.code == code, ended.err
    assert said in ended.err
    assert len(ended.err.splitlines()) == (1 if said else 0), ended.err


def test_a_reader_that_leaves_in_the_middle(tmp_path: Path) -> None:
    """More was to be said than a pipe holds: the command ends with its own code, in silence."""
    (tmp_path / "job.yaml").write_text(JOB)
    spoil = """
def status():
    for _ in range(100_000):
        print("x" * 100)
    return 1
from pipeline.cli import main
main()
"""
    (tmp_path / "spoilt.py").write_text(STORY + spoil)
    ended = redirected(
        tmp_path, "python spoilt.py status job.yaml | head -n 1; exit ${PIPESTATUS[0]}"
    )

    assert (ended.code, ended.out, ended.err) == (1, "x" * 100 + "\n", "")


#: Says that it has begun, then waits.
WAITS = r"""
import asyncio, os
def status():
    async def wait():
        try:
            os.write(1, b"begun\n")
            await asyncio.sleep(60)
        finally:
            print("tidied", flush=True)
    with asyncio.Runner(loop_factory={loop}) as runner:
        runner.run(wait())
"""


@pytest.mark.parametrize("loop", ["None", "__import__('uvloop').new_event_loop"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_before_the_run_hears_it_unwinds(tmp_path: Path, name: str, loop: str) -> None:
    """What is open is closed; 128 + its number, and a line with its name."""
    (tmp_path / "job.yaml").write_text(JOB)
    whole = STORY + WAITS.format(loop=loop) + "\nfrom pipeline.cli import main\nmain()\n"
    with subprocess.Popen(
        [sys.executable, "-c", whole, "status", "job.yaml"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (getattr(Exit, name), "tidied\n")
    assert err == f"caption-pipeline: stopped by {name}\n"


def test_nohup_is_heeded(tmp_path: Path) -> None:
    """A SIGHUP that the caller ignores does not end the command."""
    shell = "trap '' HUP; exec " + " ".join(command("simulate", "--port", "0"))
    with subprocess.Popen(
        ["bash", "-c", shell], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening")
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)

        assert process.wait(30) == 0


def test_a_run_goes_on_when_its_terminal_is_gone(tmp_path: Path) -> None:
    """Nobody reads the log lines any more: every image is captioned all the same, exit 0."""
    images = folder_of(tmp_path, 3)
    (tmp_path / "job.yaml").write_text(
        f"manifest: {{path: {images}}}\noutput: {{path: out}}\n"
        "endpoint: {profile: embedded, model: embedded/pixels}\n"
    )
    ended = redirected(
        tmp_path, "python -m pipeline run job.yaml 2>&1 | true; exit ${PIPESTATUS[0]}"
    )

    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert len(list((tmp_path / "out/captions").glob("*.parquet"))) == 1
