"""The product stays within the lines that docs/architecture.md gives each room, and all of them together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".js", ".css", ".html", ".cpp", ".h", ".inc", ".cu", ".cuh"}
ROW = re.compile(r"^\| `?([\w/-]+)`? \|(?: [^|]+ \|)? [\d,]+ \| ([\d,]+) \|$", re.MULTILINE)
WHOLE = "all"


def product_files() -> Iterator[tuple[str, Path]]:
    """Each file of the product with its room: a folder of `edgead` or of its line, a module, or a package beside it."""
    for path in sorted((ROOT / "edgead").rglob("*")):
        top = path.relative_to(ROOT / "edgead").as_posix().removeprefix("line/").split("/")[0].removesuffix(".py")
        if top != "export":  # a link to the folder below, where edgead is installed in place
            yield ("edgead" if top == "__init__" else top), path
    for folder in ("export", "csrc"):
        yield from ((folder, path) for path in sorted((ROOT / folder).rglob("*")))
    for package in sorted((ROOT / "plugins").glob("*/edgead_*")):
        yield from ((f"plugins/{package.parent.name}", path) for path in sorted(package.rglob("*")))


def count_lines() -> Counter[str]:
    """Lines of the product by room; those of tests do not count."""
    found: Counter[str] = Counter()
    for room, path in product_files():
        if path.suffix in SUFFIXES and path.is_file():
            found[room] += path.read_bytes().count(b"\n")
    return found


def budgets() -> dict[str, int]:
    """The budget of each room, and of the whole, as the page has it."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return {room: int(budget.replace(",", "")) for room, budget in ROW.findall(page)}


def above(found: Mapping[str, int], allowed: Mapping[str, int]) -> list[str]:
    """Say of each room, and of all together, what is above its budget."""
    counted = {**found, WHOLE: sum(found.values())}
    return [f"{room} has {n:,} lines, budget {allowed[room]:,}" for room, n in counted.items() if n > allowed[room]]


def test_no_room_and_not_the_whole_is_above_its_budget():
    found, allowed = count_lines(), budgets()
    assert {*found, WHOLE} == set(allowed), "the table of budgets has a row for each room, and one for all"
    too_much = above(found, allowed)
    assert not too_much, f"{'; '.join(too_much)}: take lines out, or name in the same commit what went for them"


def test_a_room_or_the_whole_that_is_above_is_named():
    allowed = {"cli": 10, "web": 10, WHOLE: 15}
    assert above({"cli": 10, "web": 5}, allowed) == []
    assert above({"cli": 11, "web": 4}, allowed) == ["cli has 11 lines, budget 10"]
    assert above({"cli": 10, "web": 6}, allowed) == ["all has 16 lines, budget 15"]


def test_code_of_every_folder_counts_and_tests_do_not():
    found = count_lines()
    assert found["version"] == (ROOT / "edgead" / "version.py").read_text().count("\n")
    assert min(found["export"], found["csrc"], found["web"], found["plugins/edgead-plant"]) > 1000
    assert not any("tests" in path.parts for _, path in product_files() if path.suffix in SUFFIXES)
