"""The architecture is what docs/architecture.md says: its rooms, what each imports, nothing upwards."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edgead"
MAX_ROOMS = 35


def modules() -> dict[str, Path]:
    """Find every module of the package by its name, those of `export/` included, which is the package edgead.export."""
    paths = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    paths |= {path.relative_to(ROOT): path for path in (ROOT / "export").rglob("*.py")}
    return {".".join(name.with_suffix("").parts).removesuffix("__init__").rstrip("."): paths[name] for name in paths}


def room_of(module: str) -> str:
    room = module.partition(".")[0]
    return "workstation" if room == "export" else room  # which lies at the top for those who look for it


def nodes(tree: ast.AST, *, late: bool) -> Iterator[ast.AST]:
    """Give what stands in a file; without `late` not what its functions do."""
    for node in ast.iter_child_nodes(tree):
        if late or not isinstance(node, ast.FunctionDef):
            yield node
            yield from nodes(node, late=late)


def imported(path: Path, known: dict[str, Path], *, late: bool = True) -> set[str]:
    """Find the modules of the package that a file imports, at its top, for types, and `late`, inside its functions."""
    found = set()
    for node in nodes(ast.parse(path.read_text()), late=late):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name.removeprefix("edgead.") in known else base for name in names]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            continue
        found.update(target.removeprefix("edgead.") for target in targets if target.startswith("edgead."))
    return found


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    known = modules()
    found: dict[str, set[str]] = defaultdict(set)
    for module, path in known.items():
        if module:
            found[room_of(module)] |= {room_of(target) for target in imported(path, known)} - {room_of(module)}
    return dict(found)


@pytest.fixture(scope="module")
def table() -> dict[str, set[str]]:
    """Read the table of rooms: each with what it may import, in the order of the page."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \| [^|]+ \|([^|]*)\|$", text, re.MULTILINE)
    return {room: set(re.findall(r"[\w.]+", imports)) for room, imports in rows}


def test_the_table_names_every_room_and_no_other(arrows, table):
    assert set(table) == set(arrows)
    assert len(table) <= MAX_ROOMS


def test_a_room_imports_what_the_table_says(arrows, table):
    assert {room: arrows[room] for room in table} == table


def test_no_room_imports_one_further_down(table):
    order = list(table)
    upwards = [(room, other) for room in order for other in table[room] if order.index(other) >= order.index(room)]
    assert upwards == []


def test_no_files_import_each_other():
    """Not for types either: of two that need each other one has what belongs to a third, or both are one."""
    known = modules()
    TopologicalSorter({module: imported(path, known, late=False) for module, path in known.items()}).prepare()


def test_the_parts_of_the_daemon_do_not_import_their_assembly(arrows):
    parts = ("sources", "sinks", "triggers", "evidence", "drift", "detector", "runtime")
    assert [part for part in parts if "daemon" in arrows[part]] == []


def test_the_ways_of_a_frame_and_an_image_name_what_there_is():
    pytest.importorskip("torch", reason="the way of an image goes through the workstation's packages")
    names = re.findall(r"`(edgead[\w.]*):([\w.]+)`", (ROOT / "docs" / "architecture.md").read_text())
    assert len(names) > 30
    for module, name in names:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
