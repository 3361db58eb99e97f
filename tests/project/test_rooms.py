"""The architecture is what docs/architecture.md says: wings of rooms, of which each imports only those above it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgead"
MAX_ROOMS = 35


def modules() -> dict[str, Path]:
    """Find every module of the package by its name, those of `export/` included, which is the package edgead.export."""
    paths = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    paths |= {path.relative_to(ROOT): path for path in (ROOT / "export").rglob("*.py")}
    return {".".join(name.with_suffix("").parts).removesuffix("__init__").rstrip("."): paths[name] for name in paths}


def room_of(module: str) -> str:
    """The folder of a module, within the line too; nothing for what the package or the line itself says."""
    room = module.removeprefix("line.").partition(".")[0]
    return {"export": "workstation", "line": ""}.get(room, room)


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
        found[room_of(module)] |= {room_of(target) for target in imported(path, known)} - {room_of(module)}
    found.pop("")
    return dict(found)


@pytest.fixture(scope="module")
def wings() -> dict[str, list[str]]:
    """Read the tables of rooms: the rooms of each wing, in the order of the page."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    titled = re.findall(r"^### (\w+)$(.*?)(?=^#)", text, re.MULTILINE | re.DOTALL)
    found = {title: re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) for title, table in titled}
    return {title: rooms for title, rooms in found.items() if rooms}


def test_the_tables_name_every_room_once_and_no_other(arrows, wings):
    rooms = [room for wing in wings.values() for room in wing]
    assert sorted(rooms) == sorted(arrows)
    assert len(rooms) <= MAX_ROOMS


def test_a_room_imports_only_rooms_above_it(arrows, wings):
    order = [room for wing in wings.values() for room in wing]
    upwards = [(room, other) for room in order for other in arrows[room] if order.index(other) >= order.index(room)]
    assert upwards == []


def test_only_the_faces_may_import_the_line(wings):
    assert list(wings)[-2:] == ["Line", "Faces"], "what stands below the line may import it"
    assert sorted(wings["Line"]) == sorted({module.split(".")[1] for module in modules() if module.startswith("line.")})


def test_tests_lie_in_the_folder_of_a_wing(wings):
    folders = {path.parent.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders == {*(wing.lower() for wing in wings), "hostile", "project"}


def test_no_files_import_each_other():
    """Not for types either: of two that need each other one has what belongs to a third, or both are one."""
    known = modules()
    TopologicalSorter({module: imported(path, known, late=False) for module, path in known.items()}).prepare()


def test_the_ways_of_a_frame_and_an_image_name_what_there_is():
    pytest.importorskip("torch", reason="the way of an image goes through the workstation's packages")
    names = re.findall(r"`(edgead[\w.]*):([\w.]+)`", (ROOT / "docs" / "architecture.md").read_text())
    assert len(names) > 30
    for module, name in names:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
