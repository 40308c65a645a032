"""Charts as inline SVG. Pure functions of numbers; every text in them is escaped.

Colours come from the page's style sheet by class, so that they follow light, dark and print; no
style attributes, which the page's policy forbids. Every chart has a name that is read aloud.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from pipeline.report.facts import Uptime

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 480, 180, 46, 22, 8
#: Widest bar with the room beside it.
WIDEST = 60
#: Classes of series: c0 … c5; what comes after shares the last one.
SERIES = 6


def bars(
    name: str, groups: Sequence[tuple[str, Sequence[float]]], line: float | None = None
) -> Markup:
    """Stacked bars. groups: (label, one value a series); line: a limit drawn across."""
    top = round_up(max([sum(values) for _, values in groups] + [line or 0.0, 1.0]))
    plot = HEIGHT - TOP - BOTTOM
    step = min(WIDEST, (WIDTH - LEFT) / max(1, len(groups)))
    parts = [_axis(top)]
    every = max(1, -(-len(groups) // 8))
    for at, (label, values) in enumerate(groups):
        x, y = LEFT + at * step, float(TOP + plot)
        for series, value in enumerate(values):
            height = plot * value / top
            y -= height
            if height > 0:
                parts.append(
                    Markup('<rect class="c{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        min(series, SERIES - 1),
                        _n(x + step * 0.1),
                        _n(y),
                        _n(step * 0.8),
                        _n(height),
                    )
                )
        if at % every == 0:
            parts.append(
                Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                    _n(x + step / 2), HEIGHT - 6, label
                )
            )
    if line:
        y = TOP + plot * (1 - line / top)
        parts.append(
            Markup('<line class="limit" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                LEFT, WIDTH, _n(y), _n(y)
            )
        )
    return _svg(name, HEIGHT, parts)


def round_up(value: float) -> float:
    """The next number that reads well at the end of an axis, and halved: 1, 2, 4, 6, 8 or 10 of
    a power of ten."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 6, 8, 10) if step * unit >= value)


def _axis(top: float) -> Markup:
    plot = HEIGHT - TOP - BOTTOM
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = TOP + plot * (1 - share)
        lines.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(LEFT, WIDTH, _n(y), _n(y), LEFT - 5, _n(y + 4), short(top * share))
        )
    return Markup("").join(lines)


def strips(name: str, rows: Sequence[tuple[str, Sequence[Uptime | None]]]) -> Markup:
    """One strip a provider, one cell an hour: up, partly down, down, only rate-limited, no request."""
    made = []
    for label, cells in rows:
        up = sum(cell.up for cell in cells if cell)
        down = sum(cell.down for cell in cells if cell)
        share = f"{100 * up / (up + down):.1f} %" if up + down else "–"
        parts = [
            Markup('<rect class="{}" x="{}" width="{}" height="10"/>').format(_cell(cell), at, 0.82)
            for at, cell in enumerate(cells)
        ]
        made.append(_row(label, share, len(cells), parts))
    return _rows(name, made)


def shares(name: str, rows: Sequence[tuple[str, float]]) -> Markup:
    """Horizontal bars of percentages."""
    made = []
    for at, (label, share) in enumerate(rows):
        parts = [
            Markup('<rect class="none" width="100" height="10"/>'),
            Markup('<rect class="c{}" width="{}" height="10"/>').format(
                min(at, SERIES - 1), _n(share)
            ),
        ]
        made.append(_row(label, f"{share:.1f} %", 100, parts))
    return _rows(name, made)


def _row(label: str, value: str, width: int, parts: Sequence[Markup]) -> Markup:
    """Text beside a drawing that takes what width there is: text in it would be stretched."""
    return Markup(
        '<div class="row"><bdi>{}</bdi><svg viewBox="0 0 {} 10" preserveAspectRatio="none" '
        'aria-hidden="true">{}</svg><span>{}</span></div>'
    ).format(label[:60], width, Markup("").join(parts), value)


def _rows(name: str, rows: Sequence[Markup]) -> Markup:
    return Markup('<div class="rows-chart" role="group" aria-label="{}">{}</div>').format(
        name, Markup("").join(rows)
    )


def _cell(cell: Uptime | None) -> str:
    if cell is None or not cell.up + cell.limited + cell.down:
        return "none"
    if not cell.up + cell.down:
        return "lim"
    share = cell.down / (cell.up + cell.down)
    return "up" if share <= 0.05 else "part" if share < 0.5 else "down"


def _svg(name: str, height: int, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, name, Markup("").join(parts)
    )


def legend(names: Sequence[str]) -> Markup:
    """What the colours of a chart's series mean."""
    cells = [
        Markup(
            '<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="c{}" width="10" height="10"/></svg> {}</li>'
        ).format(min(at, SERIES - 1), escape(name))
        for at, name in enumerate(names)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(cells))


def short(value: float) -> str:
    """A number as an axis shows it: 950, 1.2k, 3.4M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def top_series(
    days: Mapping[str, Mapping[str, int]], names: Sequence[str]
) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """The names that get a colour of their own, and each day's values in their order; all others
    are added up under `other`."""
    own = list(names[: SERIES - 1])
    rest = [name for name in names if name not in own]
    groups = []
    for day, values in days.items():
        row = [float(values.get(name, 0)) for name in own]
        if rest:
            row.append(float(sum(values.get(name, 0) for name in rest)))
        groups.append((day[5:], row))
    return own + (["other"] if rest else []), groups
