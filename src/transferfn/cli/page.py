"""One page of drawings and a table: a single HTML file that fetches nothing and has no scripts."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --soft: #595959; --grid: #e6e6e6; --grey: #8c8c8c;
  --disc: #f5f5f5; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e4e4e4; --soft: #a8a8a8;
  --grid: #34383d; --grey: #82868b; --disc: #1f2226; --c0: #56b4e9; --c1: #ff8a3d; --c2: #2fc79a; --c3: #e39bc6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 92rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: .2rem 0; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .3rem; }
p { margin: .3rem 0; max-width: 60rem; } .soft, figcaption { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: .6rem 1.2rem; }
figure { margin: 0; break-inside: avoid; } svg { width: 100%; height: auto; display: block; }
@media print { body { padding: 0; max-width: none; font-size: 9pt; } .grid { grid-template-columns: repeat(3, 1fr); }
  section { break-inside: avoid; } }
"""

# What is drawn in a light paper's colours follows those of the page.
INKS = {
    "#1a1a1a": "var(--ink)",
    "#595959": "var(--soft)",
    "#e6e6e6": "var(--grid)",
    "#8c8c8c": "var(--grey)",
    "#f5f5f5": "var(--disc)",
    "#0072b2": "var(--c0)",
    "#d55e00": "var(--c1)",
    "#009e73": "var(--c2)",
    "#cc79a7": "var(--c3)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page with a title of its own."""

    title: str
    """The title."""

    lines: Sequence[str]
    """Paragraphs below it."""

    drawings: Sequence[tuple[str, str]]
    """SVG documents and their captions."""


def svg_of(figure: Figure) -> str:
    """Return a figure as an SVG document without a ground of its own and without the time of day.

    Args:
        figure: The figure.
    """
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return drawn.getvalue()


def page(
    title: str,
    lines: Sequence[str],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    sections: Sequence[Section],
) -> str:
    """Put the page together.

    Args:
        title: What it is about.
        lines: Paragraphs at the top.
        header: Names of the columns of the table.
        rows: Its rows.
        sections: What follows, drawings side by side where there is room.

    Returns:
        An HTML document.

    Example:
        >>> text = page("runs/a", ["Two layers & no more."], ["layer"], [["1"]], [])
        >>> "<title>runs/a</title>" in text, "layers &amp; no more" in text, "<script" in text
        (True, True, False)
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'
    number = 0
    parts = []
    for section in sections:
        figures = []
        for drawing, caption in section.drawings:
            number += 1
            below = f"<figcaption>{html.escape(caption)}</figcaption>"
            figures.append(f"<figure>{inlined(drawing, f'd{number}', caption)}{below}</figure>")
        parts.append(
            f"<section><h2>{html.escape(section.title)}</h2>\n{_paragraphs(section.lines)}"
            f'<div class="grid">{"".join(figures)}</div></section>\n'
        )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n{_paragraphs(lines)}"
        f"{table if rows else ''}{''.join(parts)}</body></html>\n"
    )


def inlined(drawing: str, prefix: str, name: str) -> str:
    """Make of an SVG document an element of a page: names of its parts unique there, its colours those of the page.

    Args:
        drawing: The document, as matplotlib writes it.
        prefix: What names of its parts begin with.
        name: What it shows, for those who cannot see it.
    """
    text = drawing[drawing.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: INKS.get(found[0], found[0]), text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(name)}" ', 1)


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(line)}</p>\n" for line in lines)
