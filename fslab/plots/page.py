"""One HTML file that loads nothing from anywhere: its frame, tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import plotly.graph_objects as go

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #667; --line: #d5d5dd;
  --card: #f6f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ee; --paper: #15161a; --soft: #a5a7b4; --line: #3a3c46; --card: #1e2026; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 75rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.1rem; margin: 0 0 .25rem; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0 2rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: 1rem; margin: 1rem 0; }
.stages { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(12rem, 100%), 1fr));
  gap: .75rem; margin: .75rem 0; }
figure { margin: 0; }
figure img { width: 100%; max-height: 26rem; object-fit: contain; object-position: left top;
  display: block; }
figcaption, dt { color: var(--soft); font-size: .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
h2.part { margin: 2rem 0 .5rem; font-size: 1.25rem; }
.plot { overflow-x: auto; margin: 1rem 0; background: #fff; border-radius: .5rem; }
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_WITH_SCRIPT = f"{_POLICY}; script-src 'unsafe-inline'"


def page(title: str, parts: Iterable[str], script: str = "") -> str:
    """Return a whole HTML page of parts that are HTML already.

    The page's own policy forbids loading anything, and scripts too unless one is given: that of
    `plotly_script`, which `figure` needs.
    """
    policy = _WITH_SCRIPT if script else _POLICY
    head = f"<script>{script}</script>\n" if script else ""
    whole = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n{head}</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )
    return whole.encode("utf-8", "backslashreplace").decode()  # names of files may be no text


def plotly_script() -> str:
    """Return the installed plotly.js, for the one place of a page that holds it: 4 to 5 MB."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def figure(drawn: go.Figure, name: str) -> str:
    """Return a plotly figure as HTML; the name is unique on its page, in plain letters."""
    inner = drawn.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displayModeBar": False}
    )
    return f'<div class="plot">{inner}</div>'


def heading(words: str) -> str:
    """Return the heading of a part."""
    return f'<h2 class="part">{escape(words)}</h2>'


def paragraph(words: str) -> str:
    """Return a text as a paragraph."""
    return f"<p>{escape(words)}</p>"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as an HTML table, columns by the keys of the first; nothing for no rows."""
    if not rows:
        return ""
    keys = list(rows[0])
    head = "".join(f'<th scope="col">{escape(key)}</th>' for key in keys)
    body = "\n".join(
        "<tr>" + "".join(_cell(row.get(key, "")) for key in keys) + "</tr>" for row in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(value: object) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        places = 3 if abs(value) < 10 else 1
        words = f"{value:.{places}f}" if isinstance(value, float) else str(value)
        return f'<td class="number">{words}</td>'
    return f"<td>{escape(str(value))}</td>"
