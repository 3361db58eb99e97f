"""What a docstring or a message names by its whole dotted path exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

pytest.importorskip("torch", reason="some of what is named needs the workstation's packages")

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(edgead(?:\.\w+)+)(:\w+(?:\.\w+)*)?`")


def references(folder: Path) -> Iterator[tuple[str, str]]:
    """Each path in backticks within the strings of a folder's code, as `resolve_name` takes it, and where it stands."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for module, name in NAMED.findall(node.value):
                    yield module + name, f"{path.relative_to(ROOT)}:{node.lineno}"


@pytest.mark.parametrize("folder", ["edgead", "export", "plugins"])
def test_what_is_named_by_its_whole_path_exists(folder):
    found = list(references(ROOT / folder))
    assert found
    missing = []
    for name, where in found:
        try:
            resolve_name(name)
        except (ImportError, AttributeError) as error:
            missing.append(f"{where}: {name}: {error}")
    assert not missing, "\n".join(missing)
