"""The model of each product: a part's recipe chooses which one judges it, and no other does so unsaid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.daemon.active_model import ActiveModel
from edgead.daemon.thresholds import KeptThresholds
from edgead.errors import EdgeadError, SettingsError
from edgead.site.part_naming import RecipeSection
from edgead.site.schema import PipelineSection
from edgead.types import Frame, Verdict


class Recipes:
    """Judges each frame by the model of its part's recipe, and one whose part names none by the pipeline's own.

    All models are loaded and tested before the first frame, and each keeps its own memory of its frames, so that a
    change of recipe costs no time.

    Parameters
    ----------
    pipeline : str
    section : PipelineSection
    own : ActiveModel
        Of the pipeline itself; loaded, steered and closed elsewhere.
    kept : KeptThresholds
    threads : int, optional
        Threads of each network, where the section says nothing.
    accept : callable
        Raises where the site does not let a model in.
    """

    def __init__(
        self,
        pipeline: str,
        section: PipelineSection,
        own: ActiveModel,
        kept: KeptThresholds,
        *,
        threads: int | None = None,
        accept: Callable[[Artifact], None] = lambda artifact: None,
    ):
        self._section = section
        self._of_recipes = {
            name: ActiveModel(f"{pipeline}/{name}", _as_pipeline(section, recipe), kept, threads=threads, accept=accept)
            for name, recipe in section.recipes.items()
        }
        self.slots: Mapping[str, ActiveModel] = {"": own, **self._of_recipes}
        """By recipe; "" is the pipeline's own."""

    def load(self) -> None:
        """Load and test the models of all recipes.

        Raises
        ------
        EdgeadError
            One cannot be used; its recipe is named.
        """
        for name, slot in self._of_recipes.items():
            try:
                slot.load()
                recipe = self._section.recipes[name]
                if recipe.thresholds is not None:
                    slot.judge_by(recipe.thresholds)
            except EdgeadError as error:
                raise SettingsError(f"recipe {name}: {error}") from error

    def step(self, frame: Frame) -> Verdict | None:
        """Judge a frame, as `ActiveModel.step`.

        Raises
        ------
        SettingsError
            Its part asks for a recipe that there is not, and no other model may judge it.
        """
        recipe = self.recipe_of(frame)
        if recipe is not None:
            return self.slots[recipe].step(frame)
        if self._section.unknown_recipe == "fault":
            raise SettingsError(f"its part asks for an unknown recipe, known are {', '.join(self._of_recipes)}")
        verdict = self.slots[""].step(frame)
        if verdict is None or verdict.decision != "ok":
            return verdict
        return replace(verdict, decision="review")

    def recipe_of(self, frame: Frame) -> str | None:
        """The name in `slots` of the model that a frame's product has; None where it has none."""
        recipe = frame.part.recipe if self._of_recipes else ""  # without models recipes are words for the record
        return recipe if recipe in self.slots else None

    def golden(self) -> list[np.ndarray]:
        """Read the golden images of every model in service, the pipeline's own among them; uint8 BGR."""
        return [image for slot in self.slots.values() if slot.model for image in slot.golden()]

    def close(self) -> None:
        for slot in self._of_recipes.values():
            slot.close()


def _as_pipeline(section: PipelineSection, recipe: RecipeSection) -> PipelineSection:
    return section.model_copy(update={"model": recipe.model, "recipes": {}})
