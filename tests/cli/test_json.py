"""The keys of every `--json`, held against docs/json.md: none undocumented, none only documented."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import ROOT, pipeline, simulator, write_job
from tests.support.pictures import folder_of


def documented(command: str) -> dict[str, str]:
    """Key -> what the page says of it."""
    page = (ROOT / "docs/json.md").read_text()
    section = page.split(f"\n## {command} --json\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|(.*)\|$", section, re.MULTILINE)
    return {key: words for keys, words in rows for key in re.findall(r"`(\w+)`", keys)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each command says of one job, after a run that measured something."""
    folder = tmp_path_factory.mktemp("json")
    env = {"CAPTION_PIPELINE_STATE": str(folder / "state")}
    with simulator(folder, "rpm=null") as server:
        quota = {"requests_per_minute": None, "requests_per_day": 6}
        job = write_job(folder, server.base, folder_of(folder, 8), quota=quota)
        commands = ("run", "plan", "check", "status", "models", "verify")
        return {one: pipeline(one, job, "--json", env=env).summary for one in commands}


@pytest.mark.parametrize("command", ["run", "plan", "check", "status", "models", "verify"])
def test_the_keys_are_those_of_the_page(told: dict[str, dict[str, Any]], command: str) -> None:
    """At the top, and of the objects inside."""
    found, page = told[command], documented(command)
    optional = {
        "run": {"pilot"},
        "plan": {"endpoints", "usual_cost_usd"},
        "status": {"failed"},
    }.get(command, set())

    assert set(found) == set(page) - optional
    for key, value in found.items():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict) and key not in ("captions_per_day", "last_run", "by_code"):
            names = set(inner)
            if key == "quota":
                assert names == {"limit", "used", "left", "resets_at"}
            else:
                assert names <= set(re.findall(r"`(\w+)`", page[key])), key
    if command == "status":
        assert set(found["last_run"]) == set(documented("run")) - {"pilot"}


def test_what_is_live_has_the_page_s_keys(tmp_path: Path) -> None:
    """`live.json` as a run left it."""
    with simulator(tmp_path, "rpm=null") as server:
        pipeline("run", write_job(tmp_path, server.base, folder_of(tmp_path, 1)))
    live = json.loads((tmp_path / "out/_state/live.json").read_text())

    assert set(live) == set(re.findall(r"`(\w+)`", documented("status")["live"]))
