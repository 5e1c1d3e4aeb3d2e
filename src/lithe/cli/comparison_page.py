"""A comparison as one HTML page: verdict, a chart along the graph, a table to be sorted, histograms of the worst."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lithe.bench.charts import Mark, Row, dots, histogram
from lithe.bench.page import page
from lithe.optimize.comparison.findings import Comparison, Layer

WORST = 6  # tensors with a histogram
REACH = 80.0  # decibels on either side of the line that the chart shows

SORTING = """<script>
for (const head of document.querySelectorAll("table.sorted th")) head.onclick = () => {
  const table = head.closest("table"), column = head.cellIndex, down = head.dataset.down !== "yes";
  const key = row => { const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
    return text === "" || isNaN(text) ? text : +text; };
  for (const other of table.tHead.rows[0].cells) delete other.dataset.down;
  if (down) head.dataset.down = "yes";
  const rows = [...table.tBodies[0].rows].sort((r, s) => { const a = key(r), b = key(s);
    const order = typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
    return down ? order : -order; });
  table.tBodies[0].append(...rows);
};
</script><style>table.sorted th { cursor: pointer; } tr.wrong td { color: var(--red); } pre { white-space: pre-wrap; }
polyline.blue { stroke: var(--blue); } polyline.orange { stroke: var(--orange); }
polyline { fill: none; stroke-width: 1.6; }</style>"""


def comparison_page(found: Comparison) -> str:
    """The whole page, which needs nothing but itself."""
    about = [
        ("float model", found.a), ("compared with", found.b), ("samples", str(found.samples)),
        ("tensors", f"{len(found.layers)} in both, {len(found.unmatched)} in the float model alone"),
    ]  # fmt: skip
    sections = [
        ("Verdict", f'<pre class="strong">{escape(found.verdict)}</pre>'),
        ("Signal-to-noise along the graph", _chart(found)),
        ("Tensors", _table(found)),
        ("The worst tensors", "".join(map(_spread, found.worst(WORST)))),
    ]
    if found.unmatched:
        sections.append(("Not in the other model", f"<p>{escape(', '.join(found.unmatched))}</p>"))
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in about)
    return page(f"{found.a} and {found.b}", items, sections)


def _chart(found: Comparison) -> str:
    """Decibels are a logarithm: the chart's logarithmic axis shows the ratios of power themselves."""
    rows = [Row(layer.name, tuple(_marks(layer))) for layer in found.layers]
    chart = dots(rows, lambda ratio: f"{_decibels(ratio):.0f} dB", _ratio(found.least), _ratio(REACH))
    colours = (("blue", "whole tensor"), ("orange", "the layer alone"), ("red", "the layer alone, goes wrong"))
    circle = '<svg viewBox="0 0 10 10"><circle class="full {}" cx="5" cy="5" r="4"/></svg>'
    keys = "".join(f'<span class="key">{circle.format(colour)}{name}</span>' for colour, name in colours)
    note = "Power of the float values over that of the difference. A line reaches to the worst quarter of the channels."
    return f'<p class="quiet">{note}</p><p class="legend">{keys}</p>{chart}'


def _marks(layer: Layer) -> list[Mark]:
    title = f"{layer.name}: {layer.snr:.1f} dB"
    whole = _mark(layer.snr, layer.quarter, "blue", title)
    if layer.own is None or layer.own_quarter is None:
        return [whole]
    colour = "red" if layer.wrong else "orange"
    return [whole, _mark(layer.own, layer.own_quarter, colour, f"{layer.name} alone: {layer.own:.1f} dB")]


def _mark(value: float, quarter: float, colour: str, title: str) -> Mark:
    ends = sorted((value, quarter))
    return Mark(_ratio(value), _ratio(ends[0]), _ratio(ends[1]), colour, f"{title}, worst quarter {quarter:.1f} dB")


def _ratio(decibels: float) -> float:
    return float(10 ** (decibels / 10))


def _decibels(ratio: float) -> float:
    from math import log10

    return 10 * log10(ratio)


def _table(found: Comparison) -> str:
    head, rows = found.rows()
    figures = [_figures(layer) for layer in found.layers]
    titles = "".join(f'<th class="{_class(i)}">{escape(name)}</th>' for i, name in enumerate(("#", *head)))
    body = "".join(
        f'<tr class="{"wrong" if layer.wrong else ""}"><td class="n">{number}</td>'
        + "".join(_cell(i, text, value) for i, (text, value) in enumerate(zip(row, values, strict=True)))
        + "</tr>"
        for number, (layer, row, values) in enumerate(zip(found.layers, rows, figures, strict=True))
    )
    table = f'<table class="sorted"><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>'
    return f'<p class="quiet">A click on a title sorts.</p><div class="wide">{table}</div>{SORTING}'


def _cell(column: int, text: str, value: object) -> str:
    key = escape("" if value is None else str(value))
    return f'<td class="{_class(column + 1)}" data-value="{key}">{escape(text)}</td>'


def _class(column: int) -> str:
    return "n" if column == 0 or column > 3 else ""


def _figures(layer: Layer) -> Sequence[object]:
    """What the columns of `Comparison.rows` are sorted by."""
    quarter = layer.quarter if layer.own_quarter is None else layer.own_quarter
    return (
        layer.name, layer.operator, layer.type, layer.snr, layer.own, quarter, layer.rmse_steps, layer.cosine,
        layer.saturated, layer.bits, "wrong" if layer.wrong else "",
    )  # fmt: skip


def _spread(layer: Layer) -> str:
    causes = "".join(
        f"<p><strong>{escape(c.name)}</strong>: {escape(c.evidence)}<br>try: {escape('; '.join(c.tries))}</p>"
        for c in layer.causes
    )
    reach = "" if layer.reach is None else f"; the integers reach {layer.reach[0]:.3g} .. {layer.reach[1]:.3g}"
    about = f"float values {layer.low:.3g} .. {layer.high:.3g}{reach}. Blue: float, orange: the other; logarithmic."
    shapes = [(s.low, s.width, s.counts, colour) for s, colour in zip(layer.spreads, ("blue", "orange"), strict=True)]
    title = f"<h3>{escape(layer.name)} ({escape(layer.operator)})</h3>"
    return f'{title}<p class="quiet">{about}</p>{causes}{histogram(shapes)}'
