"""Stand-alone pages: sections, tables and charts in one file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from edgead.html import charts
from edgead.html.style import STYLE


def page(title: str, header: str, sections: Iterable[tuple[str, str]]) -> str:
    """Write a page.

    Parameters
    ----------
    title : str
    header : str
        HTML below the title.
    sections : iterable of (str, str)
        Their titles, and their HTML.
    """
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{charts.STYLE}{STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{header}</header>{body}</main></body></html>\n"
    )


def figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, raw: tuple[int, ...] = ()) -> str:
    """Lay out rows; the columns `raw` are HTML already."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><tr>{names}</tr>{_body(rows, raw)}</table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Lay out names and what is known of them; long words are broken."""
    return f'<div class="wide"><table class="facts">{_body(rows, ())}</table></div>'


def _body(rows: Iterable[Sequence[str]], raw: tuple[int, ...]) -> str:
    cells = ("".join(f"<td>{c if i in raw else escape(c)}</td>" for i, c in enumerate(row)) for row in rows)
    return "".join(f"<tr>{row}</tr>" for row in cells)
