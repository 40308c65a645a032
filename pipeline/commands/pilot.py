"""`run --pilot N`: what to expect of the whole job, from a sample that was really asked.

The sample goes alone and in packs of several sizes; part of it goes both ways. Every share has
its 95 % interval, and what follows from it (captions a day, nights, money) is told for both ends.
What was settled counts as in any run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import fs
from pipeline.captioning.pack_sizes import Packing
from pipeline.model import Image
from pipeline.packsize import auto, interval
from pipeline.packsize.auto import Measured
from pipeline.packsize.limits import PackLimits
from pipeline.plural import counted

#: Pictures on the page are no wider or higher.
THUMB = 240
#: Rows of the page; a sample may be larger.
SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a pilot asked and got."""

    packing: Packing
    limits: PackLimits
    #: Records of this run.
    records: Sequence[Mapping[str, Any]]
    #: HTTP attempts of this run.
    requests: int
    #: Images of the job that have no record yet.
    left: int
    #: Requests a day, where that is limited.
    daily: int | None
    #: Seconds that the run took.
    seconds: float


def expect(sample: Sample) -> dict[str, Any]:
    """The forecast, with stable keys. Pure. A triple is [value, low, high]."""
    whole = sample.packing.measured
    refused = interval.share(whole.refused, whole.settled)
    sizes = {
        size: _of_size(size, counts, sample)
        for size, counts in sorted(sample.packing.by_size.items())
    }
    best = auto.choose(sample.limits, whole)
    loses = auto.rates(whole)[1] if whole.packs else 0.0
    # More refused images mean fewer captions: the ends change places.
    captions = [auto.expected(best, share, loses) for share in (refused[0], refused[2], refused[1])]
    answered = [sample.left / max(1e-9, each) for each in captions]
    costs = [float(record["cost_usd"]) for record in sample.records if record["cost_usd"]]
    money = [sample.left * value for value in interval.mean(costs)] if costs else None
    compared = sample.packing.compared()
    return {
        "images": len(sample.records),
        "requests": sample.requests,
        "refused": _rounded(refused),
        "flags": _flags(sample.records),
        "by_size": sizes,
        "agreement": None
        if compared is None
        else {
            "packed": round(compared.packed.mean, 4),
            "packed_pairs": compared.packed.pairs,
            "single": round(compared.single.mean, 4) if compared.single.pairs else None,
            "single_pairs": compared.single.pairs,
            "misplaced": compared.misplaced,
            "worse": compared.worse,
            "words": compared.message(),
        },
        "images_per_request": best,
        "captions_per_request": _rounded(captions),
        "captions_per_day": None
        if sample.daily is None
        else [int(each * sample.daily) for each in captions],
        "left": sample.left,
        "requests_left": [math.ceil(count) for count in answered],
        "nights": None
        if sample.daily is None
        else [math.ceil(count / sample.daily) for count in answered],
        "hours": None
        if sample.daily is not None or not sample.records
        else round(sample.seconds / len(sample.records) * sample.left / 3600, 2),
        "cost_usd": None if money is None else _rounded(money),
    }


def _of_size(size: int, counts: Measured, sample: Sample) -> dict[str, Any]:
    """What became of the images that went in packs of this size."""
    facts = {"images": counts.settled, "refused": _rounded(_share(counts.refused, counts.settled))}
    if size > 1:
        facts["packs"] = counts.packs
        facts["cut"] = _rounded(_share(counts.cut, counts.packed))
        facts["lost"] = _rounded(_share(counts.lost, counts.packed))
    return facts


def _flags(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Flag -> the share of the images that have it, the most frequent first."""
    counts = Counter(flag for record in records for flag in record["flags"] or ())
    return {flag: _rounded(_share(count, len(records))) for flag, count in counts.most_common()}


def _share(count: int, of: int) -> tuple[float, float, float]:
    return interval.share(count, of)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The forecast for people."""
    said = [
        f"pilot: {counted(facts['images'], 'image')} settled in {counted(facts['requests'], 'request')}"
    ]
    said.append(f"refused: {_percent(facts['refused'])}")
    said += [f"  {flag}: {_percent(share)}" for flag, share in facts["flags"].items()]
    for size, counts in facts["by_size"].items():
        line = f"  by {size}: {counted(counts['images'], 'image')}"
        if size > 1:
            line += (
                f" in {counts['packs']:,} packs, cut {_percent(counts['cut'])}, "
                f"left out {_percent(counts['lost'])}"
            )
        said.append(line)
    if facts["agreement"]:
        said.append(facts["agreement"]["words"])
    each = facts["captions_per_request"]
    said.append(
        f"best: {facts['images_per_request']} images a request, "
        f"{each[0]:.1f} captions a request ({each[1]:.1f} to {each[2]:.1f})"
    )
    if facts["nights"]:
        day, nights = facts["captions_per_day"], facts["nights"]
        said.append(f"captions a day: {day[0]:,} ({day[1]:,} to {day[2]:,})")
        said.append(
            f"{counted(facts['left'], 'image')} left: {counted(nights[0], 'night')} ({nights[2]:,} to {nights[1]:,})"
        )
    elif facts["hours"] is not None:
        said.append(
            f"{counted(facts['left'], 'image')} left: about {facts['hours']:g} hours at this pace"
        )
    if facts["cost_usd"]:
        cost = facts["cost_usd"]
        said.append(f"cost of the rest: ${cost[0]:.4g} (${cost[1]:.4g} to ${cost[2]:.4g})")
    return said


def _percent(triple: Sequence[float]) -> str:
    value, low, high = (100 * share for share in triple)
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def write(output: Path, facts: Mapping[str, Any], sample: Sample) -> Path:
    """Write `pilot.json` and `pilot.html`; returns the page."""

    fs.write_atomic(output / "pilot.json", json.dumps(facts, indent=1).encode())
    alone = {audit["key"]: audit for audit in sample.packing.audits}
    pictures = sample.packing.pictures
    rows = [
        {
            "image": record["image"],
            "picture": thumbnail(pictures.get(record["key"])),
            "size": record["pack_size"],
            "caption": record["caption"],
            "error": record["error"],
            "code": record["error_code"],
            "alone": alone[record["key"]]["captions"][1] if record["key"] in alone else None,
            "alike": alone[record["key"]]["packed"]["overlap"] if record["key"] in alone else None,
            "misplaced": record["key"] in alone and alone[record["key"]]["misplaced"],
        }
        for record in sample.records
    ]
    # Those asked both ways first, the least alike before the others.
    rows.sort(key=lambda row: (row["alike"] is None, row["alike"], row["image"]))
    final = output / "pilot.html"
    text = page(lines(facts), rows[:SHOWN], more=max(0, len(rows) - SHOWN))
    fs.write_atomic(final, text.encode("utf-8", "replace"))
    return final


def thumbnail(image: Image | None) -> str | None:
    """A data URI of the picture as it was sent, made small; None where a URL was sent."""
    if image is None or image.data is None:
        return None
    from PIL import Image as Pictures

    with Pictures.open(io.BytesIO(image.data)) as picture:
        picture.draft("RGB", (THUMB, THUMB))
        small = picture.convert("RGB")
        small.thumbnail((THUMB, THUMB))
        into = io.BytesIO()
        small.save(into, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(into.getvalue()).decode()


def records_of_run(output: Path, run_id: str) -> list[dict[str, Any]]:
    """This run's records, as they stand in the parts."""
    from pipeline.store.parts import part_files, read_part

    columns = ["key", "image", "caption", "error_code", "error", "pack_size", "cost_usd", "flags"]
    records: list[dict[str, Any]] = []
    for folder in ("captions", "failures"):
        for part in part_files(output, folder):
            rows = read_part(part, (*columns, "run_id")).to_pylist()
            records += [row for row in rows if row["run_id"] == run_id]
    return records


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
pre { background: #f4f4f2; padding: 1rem; white-space: pre-wrap }
table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #ddd; padding: .6rem; text-align: left; vertical-align: top }
img { max-width: 15rem; height: auto }
.bad { color: #a00 }
small { color: #666; overflow-wrap: anywhere }
"""

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>Pilot</title><style>{{ style|safe }}</style></head><body>
<h1>Pilot</h1>
<pre>{{ said|join("\n") }}</pre>
<table><tr><th>Image</th><th>Caption</th><th>Asked alone</th></tr>
{% for row in rows -%}
<tr><td>{% if row.picture %}<img src="{{ row.picture }}" alt=""><br>{% endif %}
<small>{{ row.image }}</small></td>
<td>{% if row.caption %}{{ row.caption }}{% else %}
<span class="bad">{{ row.code }}: {{ row.error }}</span>{% endif %}<br>
<small>{% if row.size > 1 %}in a pack of {{ row.size }}{% else %}alone{% endif %}</small></td>
<td>{% if row.alone is not none %}{{ row.alone }}<br><small>alike: {{ "%.2f"|format(row.alike) }}
</small>{% if row.misplaced %} <span class="bad">another image of its pack fits better</span>
{% endif %}{% endif %}</td></tr>
{% endfor -%}
</table>
{% if more %}<p>{{ more }} more in captions/ and failures/.</p>{% endif %}
</body></html>
"""


def page(said: Sequence[str], rows: Sequence[Mapping[str, Any]], *, more: int) -> str:
    """The HTML: one file that opens offline and runs no script. What a model wrote is text here and
    never markup. said: the forecast's lines; more: rows that are not shown."""
    from jinja2 import Environment, StrictUndefined  # only a pilot needs it

    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE)
    return template.render(policy=policy, style=STYLE, said=said, rows=rows, more=more)
