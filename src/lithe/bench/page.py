"""The frame of a page: style, title, table of contents."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

COLOURS = ("ink", "blue", "orange", "violet", "green", "red", "grey")
FRAME = """
:root { color-scheme: light dark; --ground: #fbfaf8; --card: #fff; --ink: #1c1c1e; --quiet: #6a6a70; --line: #e3e0da;
  --blue: #2a6fd6; --orange: #c8641b; --violet: #7d55c7; --green: #1f8a52; --red: #c0343b; --grey: #9a9aa2; }
@media (prefers-color-scheme: dark) { :root { --ground: #17181b; --card: #1f2125; --ink: #ececee; --quiet: #9d9da6;
  --line: #34363c; --blue: #6ea8ff; --orange: #f09a4f; --violet: #b899f5; --green: #55c48a; --red: #f0757b;
  --grey: #777a82; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 20px 80px; }
h1 { font-size: 32px; margin: 0 0 14px; letter-spacing: -0.02em; }
h2 { font-size: 21px; margin: 0 0 8px; } h3 { margin: 22px 0 2px; font-size: 16px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 22px 24px;
  margin-top: 22px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 0; font-size: 14px; }
dt, .quiet { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
nav { margin-top: 18px; display: flex; flex-wrap: wrap; gap: 6px 18px; }
a { color: var(--blue); text-decoration: none; } p { margin: 0 0 10px; max-width: 80ch; }
table { border-collapse: collapse; font-size: 13.5px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); white-space: nowrap; text-align: left; }
th { font-weight: 600; color: var(--quiet); } td.quiet { white-space: normal; font-size: 12.5px; }
th.n, td.n { text-align: right; } .strong { font-weight: 700; } .wide { overflow-x: auto; }
.win { color: var(--green); } .loss { color: var(--red); }
details { margin-top: 10px; } summary { cursor: pointer; font-weight: 600; padding: 4px 0; }
.legend { margin: 4px 0; } .key { display: inline-flex; align-items: center; gap: 6px; margin-right: 16px; }
.key svg { width: 10px; } .bar { width: 90px; display: block; }
.chart { width: 100%; height: auto; display: block; font: 12px system-ui, "Segoe UI", sans-serif; }
.grid { stroke: var(--line); } .rule { stroke: var(--line); stroke-dasharray: 1 4; }
.one { stroke: var(--ink); stroke-width: 1.5; } .stair { stroke: var(--blue); stroke-width: 1.2; opacity: 0.7; }
.roof { stroke: var(--quiet); stroke-width: 1.5; }
.rail { fill: var(--line); } .tick { fill: var(--quiet); font-size: 11px; } .label { fill: var(--ink); }
.whisker { stroke-width: 1.6; opacity: 0.55; }
.hollow { fill: var(--card); stroke-width: 1.8; } .soft { opacity: 0.65; }
"""
MARKS = "\n".join(
    f"circle.full.{c}, rect.full.{c} {{ fill: var(--{c}); }} .whisker.{c}, .hollow.{c} {{ stroke: var(--{c}); }}"
    for c in COLOURS
)
STYLE = FRAME + MARKS


def page(title: str, about: str, sections: Sequence[tuple[str, str]]) -> str:
    """A whole HTML page; `about` holds <dt> and <dd>, each section is (title, body)."""
    links = "".join(f'<a href="#s{n}">{escape(name)}</a>' for n, (name, _) in enumerate(sections))
    bodies = "".join(
        f'<section id="s{n}"><h2>{escape(name)}</h2>{body}</section>' for n, (name, body) in enumerate(sections)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1><dl>{about}</dl><nav>{links}</nav>{bodies}</main></body></html>\n"
    )
