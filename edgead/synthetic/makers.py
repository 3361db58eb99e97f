"""Registry of methods that make defects: edgead's own, and those that other packages add by entry points.

A package adds one by `[project.entry-points."edgead.defects"]` with `NAME = "module:Class"`, a subclass of
`edgead.synthetic.makers.DefectMaker`. Each is imported when it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from edgead.dataset.folders import StageProgress
from edgead.dataset.made_sets import MadeSet
from edgead.errors import SettingsError
from edgead.process.installation import comes_with
from edgead.synthetic.made_set import Recipe
from edgead.synthetic.rejects import RealDefect

OWN = ("ratio", "paste", "drawn")


class DefectMaker(ABC):
    """A method of another package that makes defects; opened before anything is written.

    Parameters
    ----------
    settings : mapping of str to object
        What `edgead defects --set NAME=VALUE` says, as plain JSON types.
    recipe : Recipe
    rejects : sequence of RealDefect
        None where no folder of rejects was named.

    Raises
    ------
    SettingsError
        A setting that is unknown or cannot be, or a recipe or rejects that the method has no use for.
    """

    @abstractmethod
    def __init__(self, settings: Mapping[str, Any], recipe: Recipe, rejects: Sequence[RealDefect]): ...

    @property
    def cost(self) -> str:
        """What it will take, in words, where a person should agree to wait; empty where nobody need."""
        return ""

    @abstractmethod
    def make(self, good: Sequence[Path], folder: Path, progress: StageProgress) -> MadeSet:
        """Write a folder of made defects, see `edgead.synthetic.made_set.make_defects`."""


def maker_names() -> tuple[str, ...]:
    """Name all methods that are here, edgead's own first."""
    return (*OWN, *sorted(entry.name for entry in entry_points(group="edgead.defects")))


def find_maker(name: str) -> type[DefectMaker]:
    """Look up a method of another package.

    Raises
    ------
    SettingsError
        There is none of that name; the message lists those there are. Or it cannot be imported.
    """
    entry = next((each for each in entry_points(group="edgead.defects") if each.name == name), None)
    if entry is None:
        known = f"unknown method {name!r}: choose one of {', '.join(maker_names())}"
        raise SettingsError(comes_with("edgead.defects", name) or known)
    try:
        found: type[DefectMaker] = entry.load()
    except Exception as error:
        raise SettingsError(f"method {name} of {entry.value} cannot be imported: {error}") from error
    return found
