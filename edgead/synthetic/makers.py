"""Registry of methods that make defects: built-in ones, and those that packages add by entry points.

A package adds one by `[project.entry-points."edgead.defects"]` with `NAME = "module:Class"`, a subclass of
`edgead.synthetic.makers.DefectMaker`. Each is imported on first use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgead.components.added import Added
from edgead.dataset.folders import StageProgress
from edgead.dataset.made_sets import MadeSet
from edgead.synthetic.made_set import DRAWN, Recipe
from edgead.synthetic.rejects import RealDefect

OWN = (DRAWN,)
_MOVED = "was taken out after version 0.1.0: take --method drawn, or seas or anogen of edgead-diffusion"


class DefectMaker(ABC):
    """Base of a package's method that makes defects; it is constructed before anything is written.

    `settings`: settings of `edgead defects --set NAME=VALUE`, as plain JSON types.
    `rejects`: real rejects; None if no folder of rejects was given.
    Raises SettingsError: a setting is unknown or invalid, or the method does not support the recipe or the rejects.
    """

    @abstractmethod
    def __init__(self, settings: Mapping[str, Any], recipe: Recipe, rejects: Sequence[RealDefect]): ...

    @property
    def cost(self) -> str:
        """Describe the cost in words, if the user should agree to wait; else empty."""
        return ""

    @abstractmethod
    def make(self, good: Sequence[Path], folder: Path, progress: StageProgress) -> MadeSet:
        """Write a folder of made defects, see `edgead.synthetic.made_set.make_defects`."""


MAKERS: Added[type[DefectMaker]] = Added(
    "edgead.defects", "method", {}, OWN, {one: f"{one} {_MOVED}" for one in ("ratio", "paste")}
)
"""Methods that make defects, from other packages, by name."""
