"""The pages of the documentation as a test reads them: their links, their code blocks, and how blocks are run.

A comment before a block says what a reader need not see: `<!-- not run: WHY -->`, or `<!-- here: TEXT = OTHER -->`,
which puts something in the place of what is not here, such as the built-in line for a camera. A block whose title is
the name of a file is that file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"((?:^<!-- .*? -->\n)*)^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    title: str
    text: str
    reason: str = ""
    """Why it does not run."""
    instead: dict[str, str] = field(default_factory=dict)

    @property
    def as_run(self) -> str:
        text = self.text
        for shown, used in self.instead.items():
            assert shown in text, f"{self.page}: {shown!r} is not in the block"
            text = text.replace(shown, used)
        return text


def written_pages() -> dict[str, str]:
    """Every page that people write, by its name in the repository."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in found}


def blocks(page: str, text: str) -> Iterator[Block]:
    for comments, language, title, content in _BLOCK.findall(text):
        reason = re.search(r"<!-- not run: (.*?) -->", comments)
        instead = dict(pair.split(" = ", 1) for pair in re.findall(r"<!-- here: (.*?) -->", comments))
        yield Block(page, language, title, content, reason[1] if reason else "", instead)


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def links(text: str) -> Iterator[tuple[str, str]]:
    """Path and anchor of every link and image that leads to no other host; one of them may be empty."""
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        if "://" not in "".join(target):
            path, _, anchor = "".join(target).partition("#")
            yield path, anchor


def anchors(text: str) -> set[str]:
    """What GitHub, and the site, make of the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = [re.sub(r"[^\w\- ]", "", line.lower()).strip() for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {heading.replace(" ", "-") for heading in headings}


def sentences(text: str) -> Iterator[str]:
    """What is read of a page as running text: no code, table, heading or image; links as their text."""
    text = re.sub(r"^```.*?^```$", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(?:\||#|!!!|<).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^ *(?:[-*:]|\d+\.) +", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?])[\"')*]*\s+", " ".join(paragraph.split()))


def run_blocks(page: str, folder: Path) -> list[str]:
    """Run the commands and the Python of a page in their order; return why the others do not run."""
    tools = folder / "bin"
    tools.mkdir()
    for name, start in {"python": "", "edgead": "-c 'from edgead.cli import main; main()'"}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "COLUMNS": "100"}
    left_out = []
    for block in blocks(page, (ROOT / page).read_text(encoding="utf-8")):
        if block.title.endswith((".yaml", ".py")):
            (folder / block.title).write_text(block.as_run)
        elif block.reason:
            left_out.append(block.reason)
        elif block.language in ("bash", "python"):
            command = ["bash", "-ec"] if block.language == "bash" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, block.as_run], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, f"{page}:\n{block.as_run}\n{done.stdout}\n{done.stderr}"
    return left_out
