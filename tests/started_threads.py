"""Threads that a package starts, as its source names them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


def started_threads(package: ModuleType) -> Iterator[tuple[str, str]]:
    """Files of a package and names of all threads that its device side starts, as far as the source says them."""
    for file in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in ("threading.Thread", "RestartingThread") and file.name != "restarting_thread.py":
                named = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
                text = ast.unparse((named or node.args)[0]) if named or node.args else "?"
                yield file.name, text.lstrip("f").strip("'\"").partition("{")[0].strip()
