"""`nightly` as a user types it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.command import RequestResult, pipeline, write_job

KEY = "sk-or-v1-" + "5" * 64


def jobs_of(folder: Path, *names: str, **endpoint: object) -> list[Path]:
    found = []
    for name in names:
        job = write_job(folder, "http://127.0.0.1:9/v1", folder / "none.csv", endpoint=endpoint)
        found.append(job.rename(folder / f"{name}.yaml"))
    return found


def nightly(folder: Path, *words: object, **env: str) -> RequestResult:
    held = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), **env}
    return pipeline("nightly", *words, cwd=folder, env=held)


def test_print_writes_nothing_and_shares_the_day(tmp_path: Path) -> None:
    """Two jobs of one account, 2 to 1, by --per-day: 33 and 17 of 50; no file, no key in sight."""
    a, b = jobs_of(
        tmp_path, "a", "b", profile="openrouter", base_url=None, api_key_env="OPENROUTER_API_KEY"
    )
    before = sorted(tmp_path.rglob("*"))
    told = nightly(tmp_path, f"{a}:2", b, "--per-day", 50, "--print", OPENROUTER_API_KEY=KEY)

    assert told.code == 0, told.err
    assert [told.out.count(f'requests_per_day={share}"') for share in (33, 17)] == [1, 1]
    assert sorted(tmp_path.rglob("*")) == before
    assert KEY not in told.out + told.err
    assert "only in this shell's environment" in told.err


def test_one_job_alone_has_the_whole_day_in_its_service_s_zone(tmp_path: Path) -> None:
    """No share is set, the zone is the profile's, and a key in .env needs no warning."""
    (job,) = jobs_of(tmp_path, "g", profile="google", base_url=None, api_key_env="GEMINI_API_KEY")
    (tmp_path / ".env").write_text(f"GEMINI_API_KEY={KEY}\n")
    told = nightly(tmp_path, job, "--print")

    assert (told.code, told.err) == (0, "")
    assert "OnCalendar=*-*-* 00:00:05 America/Los_Angeles" in told.out
    assert "requests_per_day" not in told.out
    assert KEY not in told.out


def test_the_crontab_gets_its_block_and_loses_it(tmp_path: Path) -> None:
    """The user's crontab, through `crontab`; --remove works though the job is gone by then."""
    (job,) = jobs_of(tmp_path, "photos")
    fakes = tmp_path / "bin"
    fakes.mkdir()
    table = tmp_path / "table"
    (fakes / "crontab").write_text(
        f'#!/bin/sh\nif [ "$1" = -l ]; then cat {table} 2>/dev/null || '
        f'{{ echo "no crontab for you" >&2; exit 1; }}; else cat > {table}; fi\n'
    )
    (fakes / "crontab").chmod(0o755)
    path = f"{fakes}:{os.environ['PATH']}"
    told = nightly(tmp_path, job, "--cron", PATH=path)
    written = table.read_text()
    job.unlink()
    gone = nightly(tmp_path, job, "--cron", "--remove", PATH=path)

    assert (told.code, gone.code) == (0, 0), told.err + gone.err
    assert "photos.yaml" in written
    assert table.read_text() == ""


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["job.yaml:0"], "weight"),
        (["job.yaml", "job.yaml:2"], "twice"),
        (["job.yaml", "--print", "--remove"], "--print and --remove"),
        (["job.yaml", "--cron", "--system"], "--system and --cron"),
        (["job.yaml", "--env-file", "nowhere"], "no such file"),
    ],
)
def test_a_bad_call_is_64(tmp_path: Path, words: list[str], names: str) -> None:
    """One line says what is wrong."""
    told = nightly(tmp_path, *words)

    assert told.code == 64
    assert names in told.err


def test_a_broken_job_gets_no_timer(tmp_path: Path) -> None:
    """78, and nothing is written."""
    (tmp_path / "job.yaml").write_text("manifest: {}\n")
    told = nightly(tmp_path, "job.yaml", "--print")

    assert (told.code, told.out) == (78, "")
