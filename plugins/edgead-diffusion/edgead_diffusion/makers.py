"""Methods of `edgead defects`: SeaS and AnoGen, with the Stable Diffusion of their setting `weights`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from edgead.adapt.methods.settings import read_settings
from edgead.dataset.folders import StageProgress
from edgead.dataset.made_sets import MadeSet
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.synthetic.made_set import Recipe
from edgead.synthetic.makers import DefectMaker
from edgead.synthetic.rejects import RealDefect
from edgead.workstation.trainer.loop import span_text
from edgead_diffusion.cost import count_passes, time_pass
from edgead_diffusion.learners import PLANS
from edgead_diffusion.made_set import Diffusion, make_by_diffusion
from edgead_diffusion.stable_diffusion import open_stable_diffusion


class _ByDiffusion(DefectMaker):
    """Base; its settings: `weights` (folder of a Stable Diffusion), `device`, and all fields of the method's plan."""

    name: ClassVar[str]

    def __init__(self, settings: Mapping[str, Any], recipe: Recipe, rejects: Sequence[RealDefect]):
        chosen = {"seed": recipe.seed, **settings}
        weights, device = chosen.pop("weights", None), chosen.pop("device", "auto")
        if not isinstance(weights, str):
            raise SettingsError(f"{self.name} needs --set weights=FOLDER, the folder of a Stable Diffusion")
        if not rejects:
            raise SettingsError(f"{self.name} learns from rejects: name them, --from")
        plan = read_settings(PLANS[self.name], chosen, detector=self.name)
        folder = named_path(weights)
        self._diffusion = Diffusion(open_stable_diffusion(folder, device=device, force=True), folder, plan)
        self._recipe, self._rejects = recipe, rejects

    @property
    def cost(self) -> str:
        model, _, plan = self._diffusion
        if model.device.type != "cpu":
            return ""
        passes = count_passes(plan, len({reject.kind for reject in self._rejects}), self._recipe.count)
        span = span_text(time_pass(model) * passes)
        return f"{self.name} needs a GPU: on this CPU it takes about {span}, by one timed pass"

    def make(self, good: Sequence[Path], folder: Path, progress: StageProgress) -> MadeSet:
        return make_by_diffusion(self._diffusion, good, self._rejects, folder, self._recipe, progress=progress)


class Seas(_ByDiffusion):
    """SeaS (Dai et al. 2025)."""

    name = "seas"

    def __init__(self, settings: Mapping[str, Any], recipe: Recipe, rejects: Sequence[RealDefect]):
        if recipe.where is not None:
            raise SettingsError("--where: seas makes defects where it has learnt that they are, leave it out")
        super().__init__(settings, recipe, rejects)


class Anogen(_ByDiffusion):
    """AnoGen (Gui et al. 2024)."""

    name = "anogen"
