"""The drift of a pipeline: each product is compared with good parts of its own, and the pipeline has one state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.daemon.model_drift import ModelDrift
from edgead.drift import DriftSection
from edgead.errors import SettingsError
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from edgead.daemon.active_model import ActiveModel
    from edgead.drift import DriftState


class PipelineDrift:
    """The watches of a pipeline's own model and of those of its recipes.

    Each has the false alarms of its section among its own parts, so that all of them together have no more among all.

    Parameters
    ----------
    pipeline : str
    slots : mapping of str to ActiveModel
        The models by recipe; "" is the pipeline's own.
    section : DriftSection or None
        None watches nothing.
    folder : Path
        Where the states are kept.
    """

    def __init__(self, pipeline: str, slots: Mapping[str, ActiveModel], section: DriftSection | None, folder: Path):
        self._pipeline = pipeline
        self._newest: str | None = None  # until the first part comes
        self._watches = {
            recipe: ModelDrift(
                f"{pipeline}/{recipe}" if recipe else pipeline, slot, section, folder / _file_name(pipeline, recipe)
            )
            for recipe, slot in slots.items()
        }

    @property
    def state(self) -> DriftState | None:
        """The first warning, with the recipe's name; without one, the state of the product that came last."""
        for recipe, watch in self._watches.items():
            state = watch.state
            if state is not None and state.state == "warning":
                return replace(state, reason=f"recipe {recipe}: {state.reason}") if recipe else state
        return None if self._newest is None else self._watches[self._newest].state

    def add(self, recipe: str, frame: Frame, verdict: Verdict) -> None:
        """Look at the next part, which the model of a recipe has judged; see `ModelDrift.add`."""
        if self._newest is None:  # a warning of a product that has not come since the start stands, too
            for watch in self._watches.values():
                watch.begin()
        self._newest = recipe
        self._watches[recipe].add(frame, verdict)

    def require_watched(self) -> None:
        """Raise SettingsError where nothing is watched."""
        if all(watch.state is None for watch in self._watches.values()):
            raise SettingsError(f"{self._pipeline}: no drift is watched")

    def start_again(self) -> None:
        """Forget all that warn, or all parts where none does; from any thread."""
        watched = [(watch, watch.state) for watch in self._watches.values()]
        warn = [watch for watch, state in watched if state is not None and state.state == "warning"]
        for watch in warn or [watch for watch, state in watched if state is not None]:
            watch.start_again()

    def save(self) -> None:
        """Keep all states for the next start."""
        for watch in self._watches.values():
            watch.save()


def _file_name(pipeline: str, recipe: str) -> str:
    """Recipes may have any character."""
    return f"{pipeline}.{hashlib.sha256(recipe.encode()).hexdigest()[:16]}.json" if recipe else f"{pipeline}.json"
