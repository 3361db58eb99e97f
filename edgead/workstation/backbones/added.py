"""Backbones of other packages, found by entry points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.workstation.backbones.pretrained import Backbone


class AddedBackbone(Protocol):
    """A backbone of another package.

    A package adds some by `[project.entry-points."edgead.backbones"]` with `NAME = "module:BACKBONES"`, a mapping from
    their names to objects such as this one.

    Attributes
    ----------
    layers : tuple of str
        Finest first.
    patch : int
        Both sides of an image are multiples of it, pixels.
    licence : str
        Of the weights.
    """

    @property
    def layers(self) -> tuple[str, ...]: ...

    @property
    def patch(self) -> int: ...

    @property
    def licence(self) -> str: ...

    def build(
        self, layers: Sequence[str], image_size: tuple[int, int], weights: Path | None, pretrained: bool
    ) -> Backbone:
        """Build it, see `edgead.workstation.backbones.pretrained.build_backbone`."""
        ...


def find_added(name: str | None, own: Collection[str]) -> AddedBackbone | None:
    """Look a backbone of another package up; None for one of edgead's `own`, for which no package is imported."""
    return None if name is None or name in own else added_backbones().get(name)


def added_backbones() -> Mapping[str, AddedBackbone]:
    """All that other packages add.

    Raises
    ------
    SettingsError
        Those of a package cannot be imported.
    """
    found: dict[str, AddedBackbone] = {}
    for entry in entry_points(group="edgead.backbones"):
        try:
            found |= entry.load()
        except Exception as error:
            raise SettingsError(f"backbones of {entry.value} cannot be imported: {error}") from error
    return found
