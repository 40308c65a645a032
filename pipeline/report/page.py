"""Facts -> one self-contained HTML page, which opens offline and asks nobody for anything.

What a model or a manifest wrote is text and never markup: Jinja escapes all of it, there are no
links, pictures are data URIs that this program encoded, and the page's own policy allows no script
and no style but the two that it names by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.redact import one_line, without_controls
from pipeline.report import charts
from pipeline.report.facts import KEPT, LATENCIES, LENGTHS, Facts, asked_with

#: Longest text of a card; what is longer is cut and says so.
LONGEST = 1_200
#: Hours that the uptime strips show.
HOURS = 7 * 24
#: Most bars of a chart by day.
DAYS = 60
#: Providers with a strip of their own.
PROVIDERS = 8
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One gallery item."""

    key: str
    image: str
    host: str
    status: str
    caption: str
    code: str = ""
    error: str = ""
    flags: tuple[str, ...] = ()
    model: str = ""
    #: Address of the picture: a data URI, or a path of the live server.
    picture: str | None = None
    #: accept, edit, reject or flag; empty: not reviewed.
    review: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The numbers that come first."""

    job: str
    model: str
    done: int
    failed: int
    #: None: not known before a first run has ended.
    left: int | None
    cost_usd: float
    #: `3 nights`, `12 minutes`, or None.
    to_go: str | None
    #: When it ends, or when the run goes on.
    ends: str | None
    running: bool
    #: Captions that somebody has decided on.
    reviewed: int
    #: The line about the day's quota, if there is one.
    quota: str | None
    made_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What stands below the charts and comes from elsewhere than records and requests."""

    #: Newest last: summaries of runs.
    runs: Sequence[Mapping[str, Any]] = ()
    #: (job, captions, requests, tokens) of this machine, most tokens first.
    jobs: Sequence[tuple[str, int, int, int]] = ()
    audit: str | None = None
    daily_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What a page needs that is served: where it asks for news, and what it may post."""

    #: `watch` or `review`.
    mode: str
    #: Sent back with every POST; empty where there is none.
    token: str = ""
    #: Number from which on news are asked for.
    after: int = 0
    reviewer: str = ""


def render(
    headline: Headline,
    facts: Facts,
    cards: Sequence[Card],
    extras: Extras,
    live: Live | None = None,
) -> str:
    """The page."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            headline=headline,
            facts=facts,
            cards=cards,
            extras=extras,
            live=live,
            panels=panels(facts, extras),
            choices=_choices(cards),
            policy=policy(live.mode if live else "report"),
            style=Markup(style()),  # noqa: S704 - our own file
            script=Markup(script(live.mode if live else "report")),  # noqa: S704 - our own files
        )
    )


def render_review(job: str, live: Live) -> str:
    """The page of `review`; its captions are asked for by its script."""
    return (
        _environment()
        .get_template("review.html.j2")
        .render(
            job=job,
            live=live,
            policy=policy("review"),
            style=Markup(style()),  # noqa: S704 - our own file
            script=Markup(script("review")),  # noqa: S704 - our own file
        )
    )


def render_cards(cards: Sequence[Card]) -> str:
    """Gallery items alone: what a live page adds."""
    return str(_macro("cards")(cards))


def render_headline(headline: Headline) -> str:
    """The headline alone."""
    return str(_macro("headline_block")(headline))


def _macro(name: str) -> Any:
    return getattr(_environment().get_template("parts.html.j2").module, name)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"clip": clip, "short": charts.short, "number": lambda n: f"{n:,}"}
    return made


@cache
def style() -> str:
    """The style sheet."""
    return (_HERE / "page.css").read_text("utf-8")


@cache
def script(mode: str) -> str:
    """The script of a page: filters and search, and what `watch` or `review` add."""
    names = {"report": ["page.js"], "watch": ["page.js", "watch.js"]}.get(mode, [f"{mode}.js"])
    return "".join((_HERE / name).read_text("utf-8") for name in names)


@cache
def policy(mode: str) -> str:
    """The Content-Security-Policy of a page (`report`, `watch`, `review`): nothing from outside,
    and only the page's own style and script."""
    own, connect = ("", "") if mode == "report" else (" 'self'", "connect-src 'self'; ")
    return (
        f"default-src 'none'; img-src data:{own}; "
        f"style-src 'sha256-{_digest(style())}'; script-src 'sha256-{_digest(script(mode))}'; "
        f"{connect}base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def clip(text: str | None, longest: int = LONGEST) -> str:
    """Text as the page shows it: without control characters, and not endless."""
    if not text:
        return ""
    cut = without_controls(text[:longest])
    if len(text) <= longest:
        return cut
    length = f"{len(text):,}" if len(text) <= KEPT else f"more than {KEPT:,}"
    return f"{cut}… ({length} characters)"


def card_of(row: Mapping[str, Any], review: str = "") -> Card:
    """A gallery item from a record. review: what somebody decided about it."""
    image = row["image"] or ""
    scheme, separator, rest = image.partition("://")
    host = rest.split("/", 1)[0].rpartition("@")[2] if separator and scheme != "package" else ""
    return Card(
        key=row["key"],
        image=one_line(image, 160),
        host=one_line(host, 80),
        status=row["status"],
        caption=row["caption"] or "",
        code=row["error_code"] or "",
        error=one_line(row["error"] or "", 300),
        flags=(*asked_with(row["prompt_id"]), *(row["flags"] or ())),
        model=one_line(row["served_model"] or row["model"] or "", 80),
        review=review,
    )


def with_picture(card: Card, picture: bytes | None) -> Card:
    """The item with its thumbnail inside."""
    if picture is None:
        return card
    data = base64.b64encode(picture).decode()
    return replace(card, picture=f"data:image/webp;base64,{data}")


def _choices(cards: Sequence[Card]) -> dict[str, list[str]]:
    """What the filters offer."""
    return {
        "status": sorted({card.status for card in cards}),
        "review": sorted({card.review for card in cards if card.review}),
        "flag": sorted({flag for card in cards for flag in card.flags}),
        "host": sorted({card.host for card in cards if card.host})[:200],
        "model": sorted({card.model for card in cards if card.model}),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart with its title, its legend, and its numbers as a table for who does not see it."""

    title: str
    chart: Markup
    legend: Markup | None = None
    wide: bool = False
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def panels(facts: Facts, extras: Extras) -> list[Panel]:
    """All charts for which there are numbers."""
    made = [_tokens(facts), _requests(facts, extras), _uptime(facts), _served(facts)]
    made += [
        _histogram("Latency of a request, seconds", LATENCIES, facts.latencies, "requests", 1000),
        _histogram("Length of captions, characters", LENGTHS, facts.lengths, "captions", 1),
        _packs(facts),
        _flags(facts),
    ]
    return [panel for panel in made if panel is not None]


def _tokens(facts: Facts) -> Panel | None:
    days = dict(list(facts.tokens.items())[-DAYS:])
    if not days:
        return None
    names, groups = charts.top_series(days, list(facts.served))
    title = "Tokens a day, by served model"
    rows = [
        (day, name, f"{count:,}") for day, models in days.items() for name, count in models.items()
    ]
    return Panel(
        title=title,
        chart=charts.bars(title, groups),
        legend=charts.legend(names),
        head=("day (UTC)", "served model", "tokens"),
        rows=rows,
    )


def _requests(facts: Facts, extras: Extras) -> Panel | None:
    days = list(facts.requests.items())[-DAYS:]
    if not days:
        return None
    limited = facts.limited
    groups = [(day[5:], (n - limited.get(day, 0), limited.get(day, 0))) for day, n in days]
    limit = extras.daily_limit
    title = "Requests a day" + (f", of a quota of {limit:,}" if limit else "")
    return Panel(
        title=title,
        chart=charts.bars(title, groups, line=limit),
        legend=charts.legend(["answered or failed", "turned away by a limit (429)"]),
        head=("day (UTC)", "requests", "turned away"),
        rows=[(day, f"{n:,}", f"{limited.get(day, 0):,}") for day, n in days],
    )


def _uptime(facts: Facts) -> Panel | None:
    everything = facts.uptime.get("", {})
    hours = sorted(hour for hour in everything if hour != "unknown")
    if not hours:
        return None
    last = datetime.strptime(hours[-1], "%Y-%m-%d %H").replace(tzinfo=UTC)
    span = [f"{last - timedelta(hours=back):%Y-%m-%d %H}" for back in range(HOURS - 1, -1, -1)]
    span = span[next(at for at, hour in enumerate(span) if hour in everything) :]
    names = sorted(facts.uptime, key=lambda name: (name != "", -_asked(facts, name)))[
        : PROVIDERS + 1
    ]
    rows = [(name or "all", [facts.uptime[name].get(hour) for hour in span]) for name in names]
    title = f"Uptime by hour, {span[0]}:00 to {span[-1]}:59 UTC"
    table = []
    for name, cells in rows:
        up, limited, down = (
            sum(getattr(cell, kind) for cell in cells if cell) for kind in ("up", "limited", "down")
        )
        share = f"{100 * up / (up + down):.2f} %" if up + down else "–"
        table.append((name, share, f"{up:,}", f"{down:,}", f"{limited:,}"))
    return Panel(
        title=title,
        chart=charts.strips(title, rows),
        legend=Markup(
            '<ul class="legend"><li class="k-up">up</li><li class="k-part">partly down</li>'
            '<li class="k-down">down</li><li class="k-lim">only 429</li><li class="k-none">'
            "nothing asked</li></ul>"
        ),
        wide=True,
        head=("provider", "uptime", "answered", "down", "429 (apart)"),
        rows=table,
    )


def _asked(facts: Facts, provider: str) -> int:
    return sum(cell.up + cell.limited + cell.down for cell in facts.uptime[provider].values())


def _served(facts: Facts) -> Panel | None:
    title, head = "Share of tokens by served model version", ("served model", "share", "tokens")
    return _shares(title, head, facts.served, sum(facts.served.values()))


def _flags(facts: Facts) -> Panel | None:
    """How often each flag is: checks, ill-typed fields, second questions."""
    title, head = "Flags, share of the images", ("flag", "share", "images")
    return _shares(title, head, facts.flags, facts.captions + facts.failures)


def _shares(
    title: str, head: tuple[str, str, str], counts: Mapping[str, int], whole: int
) -> Panel | None:
    """Counts as shares of a whole, the first eight as bars."""
    if not counts or not whole:
        return None
    percents = [(name, 100 * count / whole) for name, count in counts.items()]
    return Panel(
        title=title,
        chart=charts.shares(title, percents[:8]),
        head=head,
        rows=[(name, f"{share:.1f} %", f"{counts[name]:,}") for name, share in percents],
    )


def _histogram(
    title: str, ends: Sequence[int], bins: Sequence[int], unit: str, scale: int
) -> Panel | None:
    if not sum(bins):
        return None
    labels = [f"≤{end / scale:g}" for end in ends] + [f">{ends[-1] / scale:g}"]
    return Panel(
        title=title,
        chart=charts.bars(title, [(name, (n,)) for name, n in zip(labels, bins, strict=True)]),
        head=(title.rsplit(", ", maxsplit=1)[-1], unit),
        rows=[(name, f"{n:,}") for name, n in zip(labels, bins, strict=True)],
    )


def _packs(facts: Facts) -> Panel | None:
    if len(facts.pack_sizes) < 2:
        return None
    title = "Captions by images in their request"
    return Panel(
        title=title,
        chart=charts.bars(title, [(str(size), (n,)) for size, n in facts.pack_sizes.items()]),
        head=("images a request", "captions"),
        rows=[(str(size), f"{n:,}") for size, n in facts.pack_sizes.items()],
    )
