"""The frame of a report: one HTML page that needs nothing else, light or dark, wide or narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark;
  --paper: #fbfbf9; --card: #fff; --ink: #1d2127; --soft: #5c6570; --line: #dfe2e6; --grid: #e9ebee;
  --asked: #2f6fde; --made: #d9622b; --other: #7b8794; --floor: #2a9461; --bad: #b3261e; --bad-paper: #fdeceb; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --card: #1b1f25; --ink: #e6e8eb; --soft: #9aa4b0; --line: #323943; --grid: #2a3038;
  --asked: #6da2ff; --made: #ff9460; --other: #8793a1; --floor: #58c58f; --bad: #ff8a80; --bad-paper: #33201f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 20px 60px; max-width: 1180px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 25px; line-height: 1.2; margin: 0 0 6px; } h2 { font-size: 20px; margin: 40px 0 4px; }
h3 { font-size: 15px; margin: 22px 0 2px; }
p { margin: 4px 0 10px; max-width: 78ch; } .soft, .note { color: var(--soft); } .note { font-size: 13px; }
nav a { margin-right: 14px; } a { color: var(--asked); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 10px 0; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 6px 0 14px; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
table { border-collapse: collapse; min-width: 50%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { color: var(--soft); font-weight: 600; } tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
td small { color: var(--soft); display: block; font-size: 11.5px; } td.bad, .bad { color: var(--bad); }
tr.whole td { font-weight: 600; } tr.whole small { font-weight: 400; }
.failed { border: 1px solid var(--bad); background: var(--bad-paper); border-radius: 8px; padding: 10px 16px;
  margin: 16px 0; } .failed h2 { margin: 0 0 4px; font-size: 16px; color: var(--bad); }
.failed ul { margin: 4px 0; padding-left: 20px; }
details { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 10px 0; }
summary { padding: 9px 14px; cursor: pointer; } summary b { margin-right: 10px; }
summary .soft { font-size: 13px; font-variant-numeric: tabular-nums; }
.scene { padding: 0 14px 14px; } .scene p { margin: 2px 0 8px; font-size: 13.5px; }
.scene img { width: 100%; max-width: 1150px; border-radius: 4px; display: block; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); gap: 12px;
  margin: 12px 0; align-items: start; }
.card:has(.plot) { grid-row: span 2; }
.card { border: 1px solid var(--line); border-radius: 8px; background: var(--card); padding: 8px; }
svg { display: block; width: 100%; height: auto; } svg.plot { max-width: 330px; margin: 0 auto; }
svg text { fill: var(--soft); font-size: 11px; } svg .title { fill: var(--ink); font-weight: 600; font-size: 12px; }
svg .end { text-anchor: end; } svg .mid { text-anchor: middle; }
svg path, svg polyline { fill: none; stroke-linejoin: round; stroke-linecap: round; }
.grid { stroke: var(--grid); } .floor { stroke: var(--floor); stroke-dasharray: 4 4; stroke-width: 1.3; }
.bar { stroke: var(--ink); stroke-width: 2; } .asked { stroke: var(--asked); stroke-width: 2; }
.made { stroke: var(--made); stroke-width: 2; } .one { stroke: var(--other); stroke-width: 1; opacity: .45; }
.start { fill: var(--floor); } .made.dot { fill: var(--made); } .one.dot { fill: var(--other); }
footer { margin-top: 40px; color: var(--soft); font-size: 12.5px; }
@media (max-width: 600px) { body { padding: 18px 12px 40px; } h1 { font-size: 21px; } }
"""


def page(title: str, body: Sequence[str]) -> str:
    """A whole HTML document."""
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style></head><body>",
        *body,
        "</body></html>",
        "",
    ])  # fmt: skip


def facts(values: Mapping[str, str]) -> str:
    """A list of names and values."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(v)}</dd>" for name, v in values.items()) + "</dl>"
