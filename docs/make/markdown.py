"""Markdown tables, and descriptions of attributes from docstrings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay rows out as a Markdown table; line ends and bars inside cells are escaped."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def code(text: object) -> str:
    return f"`{text}`" if str(text) else ""


def first_paragraph(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0]


def attributes(docstring: str | None) -> dict[str, str]:
    """Read the section Attributes of a numpydoc docstring: return descriptions by name."""
    _, _, section = (docstring or "").partition("Attributes\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines()[1:]:
        if match := re.match(r"\s*(\w+(?:, \w+)*) : (.*)", line):
            names, kind = match[1].split(", "), match[2]
            found |= dict.fromkeys(names, f"{kind}." if kind.startswith("{") else "")
        elif line.strip():
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return found
