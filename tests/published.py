"""Checks of presets that carry a paper's name: each constant beside the file and line of its authors that has it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from edgead.adapt.methods import METHODS, find_preset

Published = Mapping[tuple[str, str], Mapping[str, tuple[Any, str]]]
"""Settings of (method, preset): the authors' value of each, and the line that has it."""
Constants = Mapping[str, list[tuple[str, Any, Any, str]]]
"""Of each method: name, ours, theirs, the line that has it."""


def check_docs(published: Published, methods: Collection[str]) -> None:
    """The table of detectors names just the presets that are published, of the methods that are given."""
    page = (Path(__file__).parent.parent / "docs/how-to/choose-a-detector.md").read_text()
    rows = re.findall(
        r"^\| (`[^|]+) \|[^|]*\|([^|]*)\|", page.partition("| `--detector` |")[2].partition("## ")[0], re.M
    )
    named = {tuple(re.findall(r"`(\w+)`", names)): set(re.findall(r"`(\w+)`", presets)) for names, presets in rows}
    named = {names: presets for names, presets in named.items() if set(names) <= set(methods)}
    assert {name for names in named for name in names} == set(methods)
    assert named == {names: {preset for name, preset in published if name in names} for names in named}


def check_preset(
    method: str, preset: str, theirs: Mapping[str, tuple[Any, str]], ours: Collection[str], commit: str
) -> None:
    """A preset has the authors' values, and no setting is left out by mistake."""
    config = METHODS.find(method).config_class(**find_preset(method, preset))
    found = {name: getattr(config, name) for name in theirs}
    expected = {name: pytest.approx(x) if isinstance(x, float) else x for name, (x, _) in theirs.items()}
    assert found == expected, f"{commit}: {theirs}"
    assert {field.name for field in fields(config)} == theirs.keys() | set(ours), "published, or ours?"
