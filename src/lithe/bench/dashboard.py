"""A page of charts from result files: one HTML file, which needs no network and no script.

python -m lithe.bench.dashboard FOLDER PAGE.html
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lithe.bench.charts import Mark, Point, Row, bar, dots, number, roofline
from lithe.bench.fresh import FROM_CACHE, FROM_NOTHING
from lithe.bench.page import page
from lithe.bench.report import SCHEMA
from lithe.errors import FileMissing, InputError

Result = dict[str, Any]
KINDS = {  # peer or way of starting -> its colour on the page
    "official": "blue", "lithe-fast": "red", "openvino": "orange", "openvino-strict": "violet", "onnxruntime": "green",
    FROM_CACHE: "ink", FROM_NOTHING: "grey",
}  # fmt: skip
STEPS_SHOWN = 25


def read_results(folder: Path) -> list[Result]:
    """Every result of a folder, oldest first. Raises FileMissing where there is none, InputError for a foreign file."""
    paths = sorted(folder.glob("*.json"))
    results = []
    for path in paths:
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"not a result file: {error}", where=str(path)) from error
        if not isinstance(result, dict) or result.get("schema") != SCHEMA:
            raise InputError(f"not a result file of schema {SCHEMA}", where=str(path))
        results.append(result)
    if not results:
        raise FileMissing(f"there is no result file in {folder}", hint="make bench")
    return sorted(results, key=lambda result: result["date"])


def dashboard(results: Sequence[Result]) -> str:
    """The page. The newest result is shown; the one before on the same processor is what it is compared with."""
    newest = results[-1]
    before = [r for r in results[:-1] if r["machine"]["name"] == newest["machine"]["name"]]
    sections = [
        ("At a glance", glance(newest)),
        ("Inference", inference(newest)),
        ("Start-up: load and first inference", start_up(newest)),
        ("Memory above the file's size", memory(newest)),
        ("Steps against the limits of this machine", steps(newest)),
        ("Compared with the result before", releases(before[-1] if before else None, newest)),
        ("All figures", figures(newest)),
    ]
    return page("Lithe, measured", about(newest), [(title, body) for title, body in sections if body])


def about(result: Result) -> str:
    machine, versions = result["machine"], result["versions"]
    caches = ", ".join(f"{name} {size // 1024:,} KiB" for name, size in machine["caches"].items())
    facts = [
        ("measured", f"{result['date'][:16].replace('T', ' ')} UTC, commit {result['commit'] or 'unknown'}"),
        (
            "processor",
            f"{machine['name']} (family {machine['family']}, model {machine['model']}), {machine['cores']} cores",
        ),
        ("caches", caches),
        ("features", " ".join(machine["features"])),
        ("versions", ", ".join(f"{name} {number}" for name, number in versions.items())),
    ]
    loads = [model["load"] for model in result["models"] if "load" in model]
    if loads:
        busy = "; more than the cores can do, so spreads are wide" if max(loads) > machine["cores"] + 1 else ""
        facts.append(("load", f"{min(loads):.1f} to {max(loads):.1f} programs at once while measuring{busy}"))
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts)


def ratios(result: Result) -> Iterable[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """(model, turns, comparison) for each ratio that was measured."""
    for model in result["models"]:
        for turns in model["turns"]:
            for comparison in turns["comparisons"]:
                if comparison["ratio"] is not None:
                    yield model, turns, comparison


def glance(result: Result) -> str:
    """Geometric means by kind of model, peer and number of threads."""
    groups: dict[tuple[str, str, int], list[tuple[float, str, bool]]] = {}
    for model, turns, c in ratios(result):
        key = (model["kind"], c["peer"], turns["threads"])
        groups.setdefault(key, []).append((c["ratio"], model["model"], c["agrees"]))
    rows = []
    for (kind, peer, threads), found in sorted(groups.items()):
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio, _, _ in found))
        best, worst = min(found), max(found)
        losses, differ = sum(r > 1 for r, _, _ in found), sum(not agrees for _, _, agrees in found)
        count = f"<td class=n>{threads}</td><td class=n>{len(found)}</td>"
        rows.append(
            f"<tr><td>{escape(kind)}</td><td>{_key(peer)}</td>{count}"
            f"<td class='n strong {_side(mean)}'>{mean:.2f}</td>"
            f"<td class=n title='{escape(best[1])}'>{best[0]:.2f}</td>"
            f"<td class='n {_side(worst[0])}' title='{escape(worst[1])}'>{worst[0]:.2f}</td>"
            f"<td class=n>{losses or ''}</td><td class=n>{differ or ''}</td></tr>"
        )
    head = _head(
        "kind", "against", "#threads", "#models", "#geometric mean", "#best", "#worst", "#slower", "#outputs differ"
    )
    note = "Lithe's time by the peer's: <b class=win>below 1 Lithe is faster</b>, <b class=loss>above 1 slower</b>."
    return f"<p>{note}</p><div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def inference(result: Result) -> str:
    """A chart of ratios for each number of threads."""
    parts = [
        "<p>Time of an inference by the peer's, medians of turns in one process; the line holds 80 % of the turns. "
    ]
    parts.append("Hollow: the outputs differ by more than a step, or 0.0001 of the greatest value. Slowest first.</p>")
    for threads in sorted({turns["threads"] for _, turns, _ in ratios(result)}):
        rows: dict[str, list[Mark]] = {}
        for model, turns, c in ratios(result):
            if turns["threads"] != threads:
                continue
            title = f"{model['model']}: {c['ratio']:.3f} of {c['peer']} ({c['ratio_10']:.3f} .. {c['ratio_90']:.3f}), "
            title += f"{number(turns['lithe_ms'])} against {number(c['ms'])} ms"
            mark = Mark(c["ratio"], c["ratio_10"], c["ratio_90"], KINDS[c["peer"]], title, not c["agrees"])
            rows.setdefault(f"{_stem(model)}  {number(turns['lithe_ms'])} ms", []).append(mark)
        ordered = sorted(rows.items(), key=lambda item: -max(mark.value for mark in item[1]))
        chart = dots([Row(name, tuple(marks)) for name, marks in ordered], lambda v: f"{v:g}×", line=1.0)
        parts.append(f"<h3>{threads} thread{'s' if threads > 1 else ''}</h3>{_legend(_peers(result))}{chart}")
    return "".join(parts)


def start_up(result: Result) -> str:
    note = "Fresh processes, from a path to the first result, imports apart. From nothing: an empty code cache."
    return _fresh_chart(result, "first_ms", 1.0, lambda v: f"{v:g} ms", note)


def memory(result: Result) -> str:
    note = "Peak of a process that loads a model and runs it once, less one that only imports the runtime, less the "
    note += "file. A process below its file's size (weights not touched, or read from the cache) sits at the left edge."
    return _fresh_chart(result, "above_file_bytes", 1e6, lambda v: f"{v:g} MB", note)


def _fresh_chart(result: Result, key: str, by: float, unit: Any, note: str) -> str:
    rows: list[tuple[float, Row]] = []
    names: dict[str, None] = {}
    for model in result["models"]:
        found = {name: facts[key] / by for name, facts in model.get("fresh", {}).items() if facts[key] is not None}
        names |= dict.fromkeys(found)
        marks = [
            Mark(
                max(v, 0.05), max(v, 0.05), max(v, 0.05), KINDS[name], f"{model['model']}, {name}: {unit(round(v, 2))}"
            )
            for name, v in found.items()
        ]
        if marks:
            rows.append((found.get(FROM_CACHE, 0.0), Row(_stem(model), tuple(marks))))
    if not rows:
        return ""
    ordered = [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
    return f"<p>{note}</p>{_legend(names)}{dots(ordered, unit)}"


def steps(result: Result) -> str:
    """The roofline and the longest steps of each model that has them."""
    parts: list[str] = []
    for model in result["models"]:
        layers = model.get("layers", {})
        if "layers" in layers:
            parts.append(_steps_of(model, layers, not parts))
    if not parts:
        return ""
    note = (
        "One thread. The floor of a step: its multiply-accumulates at the measured peak, or its bytes at the measured "
    )
    note += "bandwidth of the cache that holds them. Over 100 %: fewer multiplications than the plain loops have "
    note += "(Winograd), or data that lay nearer than the floor assumes."
    return f"<p>{note}</p>{''.join(parts)}"


def _steps_of(model: dict[str, Any], layers: dict[str, Any], first: bool) -> str:
    found = layers["layers"]
    whole = sum(step["us"] for step in found) or 1.0
    floor = sum(step["floor_us"] for step in found)
    peaks = layers["peaks"]
    kinds = {step["limit"] for step in found if step["macs"]}
    roofs = [(f"{k} {v / 1e9:.0f} GMAC/s", v / 1e9, math.inf) for k, v in peaks["macs"].items() if k in kinds]
    top = max((v for _, v, _ in roofs), default=1.0)
    for level in peaks["levels"]:
        rate = level["bytes_a_second"] / 1e9
        roofs.append((f"{level['name']} {rate:.0f} GB/s", top, rate))
    points = [
        Point(
            s["macs"] / max(s["bytes"], 1), s["gmacs"], 3 + 14 * math.sqrt(s["us"] / whole), _colour(s), _step_title(s)
        )
        for s in found
        if s["macs"] and s["gmacs"] > 0
    ]
    rows = "".join(
        f"<tr><td>{escape(s['source'])}</td><td>{escape(s['output'])}</td><td class=n>{s['us']:.1f}</td>"
        f"<td class=n>{s['us'] / whole:.1%}</td><td class=n>{s['macs'] / 1e6:.2f}</td><td class=n>{s['gmacs']:.0f}</td>"
        f"<td class=n>{s['floor_us']:.1f}</td><td>{escape(s['limit'])}</td>"
        f"<td class=n>{s['fraction']:.0%}</td><td>{bar(s['fraction'], _colour(s))}</td></tr>"
        for s in sorted(found, key=lambda s: -s["us"])[:STEPS_SHOWN]
    )
    head = _head("step", "output", "#µs", "#share", "#MMAC", "#GMAC/s", "#floor µs", "limit", "#reached", "")
    summary = f"{escape(_stem(model))}: {whole:.0f} µs, floor {floor:.0f} µs, {floor / whole:.0%} reached"
    chart = roofline(points, roofs) if points else ""
    return (
        f"<details{' open' if first else ''}><summary>{summary}</summary>{chart}"
        f"<div class=wide><table><tr>{head}</tr>{rows}</table></div></details>"
    )


def _colour(step: dict[str, Any]) -> str:
    return "green" if step["fraction"] >= 0.6 else "orange" if step["fraction"] >= 0.3 else "red"


def _step_title(step: dict[str, Any]) -> str:
    return f"{step['source']} {step['output']}: {step['us']:.1f} µs, {step['gmacs']:.0f} GMAC/s, {step['fraction']:.0%}"


def releases(before: Result | None, now: Result) -> str:
    """Two results of the same processor, one thread: how the ratio to each peer has moved."""
    if before is None:
        return "<p>This needs two result files of the same processor.</p>"
    old = {(m["model"], t["threads"], c["peer"]): c["ratio"] for m, t, c in ratios(before)}
    rows: dict[str, list[Mark]] = {}
    for model, turns, c in ratios(now):
        then = old.get((model["model"], turns["threads"], c["peer"]))
        if then is None or turns["threads"] != 1:
            continue
        title = f"{model['model']} against {c['peer']}: ratio {then:.3f} before, {c['ratio']:.3f} now"
        change = c["ratio"] / then
        rows.setdefault(_stem(model), []).append(Mark(change, change, change, KINDS[c["peer"]], title))
    if not rows:
        return "<p>The two results have no model in common.</p>"
    ordered = sorted(rows.items(), key=lambda item: -max(mark.value for mark in item[1]))
    note = (
        f"Commit {escape(now['commit'])} by commit {escape(before['commit'])} ({before['date'][:10]}), one thread: the "
    )
    note += "ratio to each peer now, by the ratio then; the peer stands for the state of the machine. Below 1: faster."
    chart = dots([Row(name, tuple(marks)) for name, marks in ordered], lambda v: f"{v:g}×", line=1.0)
    return f"<p>{note}</p>{_legend(_peers(now))}{chart}"


def figures(result: Result) -> str:
    """Everything as a table, notes included."""
    rows = []
    for model in result["models"]:
        if note := model.get("note"):
            rows.append(f"<tr><td>{escape(_stem(model))}</td><td colspan=9>{escape(note)}</td></tr>")
        for turns in model["turns"]:
            rows += [f"<tr>{_cells(model, turns, c)}</tr>" for c in turns["comparisons"]]
    head = _head(
        "model", "kind", "#threads", "against", "#Lithe ms", "#peer ms", "#ratio", "#10 %", "#90 %", "#differ by"
    )
    table = f"<div class=wide><table><tr>{head}</tr>{''.join(rows)}</table></div>"
    return f"<details><summary>{len(rows)} comparisons</summary>{table}</details>"


def _cells(model: dict[str, Any], turns: dict[str, Any], c: dict[str, Any]) -> str:
    cells = f"<td>{escape(_stem(model))}</td><td>{escape(model['kind'])}</td><td class=n>{turns['threads']}</td>"
    cells += f"<td>{_key(c['peer'])}</td>"
    if c["ratio"] is None:
        return f"{cells}<td colspan=6 class=quiet>{escape(c['note'])}</td>"
    differ = "" if c["agrees"] else f"{c['difference']:.3g}"
    cells += f"<td class=n>{number(turns['lithe_ms'])}</td><td class=n>{number(c['ms'])}</td>"
    cells += f"<td class='n {_side(c['ratio'])}'>{c['ratio']:.3f}</td>"
    return f"{cells}<td class=n>{c['ratio_10']:.3f}</td><td class=n>{c['ratio_90']:.3f}</td><td class=n>{differ}</td>"


def _head(*names: str) -> str:
    """Heads of columns; "#" marks those of numbers."""
    return "".join(f"<th class=n>{escape(n[1:])}</th>" if n[:1] == "#" else f"<th>{escape(n)}</th>" for n in names)


def _peers(result: Result) -> dict[str, None]:
    return dict.fromkeys(c["peer"] for _, _, c in ratios(result))


def _legend(names: Iterable[str]) -> str:
    return f"<p class=legend>{' '.join(_key(name) for name in names)}</p>"


def _key(name: str) -> str:
    dot = f'<svg viewBox="0 0 10 10"><circle class="full {KINDS[name]}" cx="5" cy="5" r="4"/></svg>'
    return f"<span class=key>{dot}{escape(name)}</span>"


def _stem(model: dict[str, Any]) -> str:
    return str(model["model"]).removesuffix(".tflite")


def _side(ratio: float) -> str:
    return "loss" if ratio > 1 else "win"


def main(arguments: Sequence[str]) -> int:
    folder, output = (Path(argument) for argument in arguments)
    output.write_text(dashboard(read_results(folder)), encoding="utf-8")
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
