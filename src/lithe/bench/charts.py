"""Charts as SVG text. Colours come from the page (CSS variables), so that it can be light or dark.

Every chart is as wide as WIDTH units and scales with the page; every mark has a title, which browsers show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH = 900
LABEL = 300  # units at the left for names of rows
ROW = 22
TOP, BOTTOM = 26, 10
RIGHT = 18


@dataclass(frozen=True)
class Mark:
    """A value of a row. low, high: its spread, or the value itself. kind: the colour's name; hollow: not filled."""

    value: float
    low: float
    high: float
    kind: str
    title: str
    hollow: bool = False


@dataclass(frozen=True)
class Row:
    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Scale:
    """Logarithmic, from `low` to `high`, onto `start`..`end` units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = math.log(inside / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """1, 2, 5, 10, ... within the range; fewer where there are many."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1, 2, 5) if last - first <= 3 else (1,)
        found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        return [tick for tick in found if self.low <= tick <= self.high * 1.0001]


@dataclass(frozen=True)
class Even:
    """Linear, from `low` to `high`, onto `start`..`end` units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round numbers within the range."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = min((n * power for n in (1, 2, 5, 10)), key=lambda n: abs(n - rough))
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def scale_for(values: Iterable[float], start: float, end: float, always: Sequence[float] = ()) -> Scale:
    """A scale that shows all positive values, with some room."""
    positive = [v for v in (*values, *always) if v > 0 and math.isfinite(v)] or [1.0]
    low, high = min(positive) / 1.15, max(positive) * 1.15
    if high / low < 4:
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2
    return Scale(low, high, start, end)


def number(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def dots(rows: Sequence[Row], unit: Callable[[float], str], line: float | None = None, reach: float = 64.0) -> str:
    """A row for each model, a dot for each mark with a whisker over its spread; logarithmic.

    line  a value to draw a line at.
    reach  times that line and one part of it bound the chart; what lies beyond sits at the edge.
    """
    values = [v for row in rows for mark in row.marks for v in (mark.value, mark.low, mark.high)]
    if line is not None:
        values = [min(max(v, line / reach), line * reach) for v in values]
    scale = scale_for(values, LABEL, WIDTH - RIGHT, () if line is None else (line,))
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [_axis(scale, unit, TOP - 6, height - BOTTOM)]
    if line is not None:
        x = scale(line)
        parts.append(_line("one", x, TOP - 6, x, height - BOTTOM))
    for n, row in enumerate(rows):
        y = TOP + ROW * n + ROW / 2
        parts.append(_text("label", "end", LABEL - 12, y + 4, _short(row.label)))
        parts.append(_line("rule", LABEL, y, WIDTH - RIGHT, y))
        for k, mark in enumerate(row.marks):
            at = y + (k - (len(row.marks) - 1) / 2) * min(5.0, (ROW - 8) / max(1, len(row.marks) - 1))
            parts.append(_dot(mark, scale, at))
    return _svg(height, parts)


def _dot(mark: Mark, scale: Scale, y: float) -> str:
    name = "hollow" if mark.hollow else "full"
    spread = _line(f"whisker {mark.kind}", scale(mark.low), y, scale(mark.high), y)
    point = f'<circle class="{name} {mark.kind}" cx="{scale(mark.value):.1f}" cy="{y:.1f}" r="4"/>'
    return f"<g><title>{escape(mark.title)}</title>{spread}{point}</g>"


@dataclass(frozen=True)
class Point:
    """x, y; size: the radius; kind: the colour's name; title: shown by browsers; name: written beside it."""

    x: float
    y: float
    size: float
    kind: str
    title: str
    name: str = ""


def roofline(points: Sequence[Point], roofs: Sequence[tuple[str, float, float]], height: int = 330) -> str:
    """Points in a plane of work by byte (x) and work by second (y), both logarithmic, under roofs.

    roofs  (name, greatest y, slope): y is at most slope * x and at most the greatest; a slope of inf is a flat roof.
    """
    across = scale_for([p.x for p in points], 64, WIDTH - RIGHT)
    tops = [top for _, top, slope in roofs if math.isinf(slope)]
    up = scale_for([*(p.y for p in points), *tops], height - 34, 16)
    parts = [_axis(across, number, 10, height - 34, below=True), _side(up, WIDTH - RIGHT)]
    for name, top, slope in roofs:
        xs = [across.low, across.high] if math.isinf(slope) else [across.low, min(top / slope, across.high)]
        ys = [top, top] if math.isinf(slope) else [slope * x for x in xs]
        if ys[-1] < up.low or xs[-1] <= across.low:
            continue
        if ys[0] < up.low:
            xs[0], ys[0] = up.low / slope, up.low
        x1, x2, y1, y2 = across(xs[0]), across(xs[-1]), up(ys[0]), up(ys[-1])
        parts.append(_line("roof", x1, y1, x2, y2))
        if math.isinf(slope):
            parts.append(_text("tick", "end", x2 - 4, y2 - 5, name))
        else:
            parts.append(_text("tick", "start", x1 + 6, y1 - 8, name))
    for p in points:
        circle = f'<circle class="full {p.kind} soft" cx="{across(p.x):.1f}" cy="{up(p.y):.1f}" r="{p.size:.1f}"/>'
        parts.append(f"<g><title>{escape(p.title)}</title>{circle}</g>")
    parts.append(_text("tick", "end", WIDTH - RIGHT, height - 4, "multiply-accumulates by byte"))
    parts.append(_text("tick", "start", 4, 11, "GMAC/s"))
    return _svg(height, parts)


def front(
    points: Sequence[Point],
    line: Sequence[tuple[float, float]],
    least: float,
    across: tuple[str, Callable[[float], str]],
    up: str,
    height: int = 360,
) -> str:
    """Points by a cost (x, logarithmic) and what it buys (y, linear).

    line    the corners of the stairs on which no point is worse than another in both.
    least   the y below which a point is not good enough.
    across  what x is, and how it is written; up: what y is.
    """
    ys = [p.y for p in points if p.y >= least - 4 * (max(q.y for q in points) - least)] + [least]
    room = max((max(ys) - min(ys)) * 0.08, 1e-3)
    wide = scale_for([p.x for p in points], 64, WIDTH - RIGHT)
    high = Even(min(ys) - room, max(ys) + room, height - 34, 16)
    parts = [_axis(wide, across[1], 10, height - 34, below=True), _side(high, WIDTH - RIGHT)]
    parts.append(_line("roof", 64, high(least), WIDTH - RIGHT, high(least)))
    for (x1, y1), (x2, y2) in pairwise(line):
        parts += [_line("stair", wide(x1), high(y1), wide(x2), high(y1)),
                  _line("stair", wide(x2), high(y1), wide(x2), high(y2))]  # fmt: skip
    for p in points:
        circle = f'<circle class="full {p.kind}" cx="{wide(p.x):.1f}" cy="{high(p.y):.1f}" r="{p.size:.1f}"/>'
        name = _text("tick", "middle", wide(p.x), high(p.y) - 9, p.name) if p.name else ""
        parts.append(f"<g><title>{escape(p.title)}</title>{circle}{name}</g>")
    parts.append(_text("tick", "end", WIDTH - RIGHT, height - 4, across[0]))
    parts.append(_text("tick", "start", 4, 11, up))
    return _svg(height, parts)


def histogram(shapes: Sequence[tuple[float, float, Sequence[int], str]], height: int = 150) -> str:
    """Counts over values as steps, the counts logarithmic.

    shapes  (first edge, width of a bin, counts, the colour's name), drawn over one another.
    """
    low = min(first for first, _, _, _ in shapes)
    high = max(first + width * len(counts) for first, width, counts, _ in shapes)
    most = max(max(counts) for _, _, counts, _ in shapes)
    floor, across = height - 24, (WIDTH - RIGHT - 64) / max(high - low, 1e-300)
    parts = [_line("grid", 64, floor, WIDTH - RIGHT, floor)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = 64 + share * (WIDTH - RIGHT - 64)
        parts += [
            _line("grid", x, 10, x, floor),
            _text("tick", "middle", x, height - 8, f"{low + share * (high - low):.3g}"),
        ]
    for first, width, counts, kind in shapes:
        edges = [64 + (first + n * width - low) * across for n in range(len(counts) + 1)]
        tops = [floor - (floor - 12) * math.log1p(count) / math.log1p(most) for count in counts]
        corners = [(x, y) for n, y in enumerate(tops) for x in edges[n : n + 2]]
        path = [(edges[0], float(floor)), *corners, (edges[-1], float(floor))]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
        parts.append(f'<polyline class="{kind}" points="{points}"/>')
    return _svg(height, parts)


def bar(share: float, kind: str) -> str:
    """A small bar for a table's cell; 1 is its whole length."""
    length = 90 * min(max(share, 0.0), 1.0)
    rail = '<rect class="rail" width="90" height="10"/>'
    return (
        f'<svg class="bar" viewBox="0 0 90 10">{rail}<rect class="full {kind}" width="{length:.1f}" height="10"/></svg>'
    )


def _axis(scale: Scale | Even, unit: Callable[[float], str], top: float, bottom: float, below: bool = False) -> str:
    return "".join(
        _line("grid", scale(tick), top, scale(tick), bottom)
        + _text("tick", "middle", scale(tick), bottom + 14 if below else top - 6, unit(tick))
        for tick in scale.ticks()
    )


def _side(scale: Scale | Even, right: float) -> str:
    return "".join(
        _line("grid", 64, scale(tick), right, scale(tick)) + _text("tick", "end", 58, scale(tick) + 4, number(tick))
        for tick in scale.ticks()
    )


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(name: str, anchor: str, x: float, y: float, text: str) -> str:
    return f'<text class="{name}" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _short(label: str, most: int = 44) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _svg(height: float, parts: Iterable[str]) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img">{"".join(parts)}</svg>'
