"""Registry of methods that make defects: edgead's own, and those that other packages add by entry points.

A package adds one by `[project.entry-points."edgead.defects"]` with `NAME = "module:Class"`, a subclass of
`edgead.synthetic.makers.DefectMaker`. Each is imported when it is asked for.
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


MAKERS: Added[type[DefectMaker]] = Added(
    "edgead.defects", "method", {}, OWN, {one: f"{one} {_MOVED}" for one in ("ratio", "paste")}
)
"""Methods of other packages."""
