"""Search space of `edgead tune`; extending a list here widens the search and needs no other change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from edgead.adapt.methods import find_preset
from edgead.adapt.methods.patchcore import PatchCoreConfig
from edgead.adapt.methods.settings import plain_settings
from edgead.adapt.training.good_images import Proportions, keep_proportions
from edgead.errors import SettingsError

SPACE: dict[str, dict[str, list[Any]]] = {
    "patchcore": {
        "backbone": ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"],
        "layers": [["stride16"], ["stride8", "stride16"], ["stride8", "stride16", "stride32"]],
        "image_size": [[192, 192], [224, 224], [256, 256], [288, 288], [320, 320], [384, 384], [448, 448]],
    },
    "mvg": {
        "backbone": ["efficientnet_lite0", "efficientnet_lite2"],
        "image_size": [[224, 224], [320, 320], [448, 448]],
    },
}
# Settings chosen within a trial, as their best values depend on the others and cost little: patches are scored once for
# all windows, and a greedily chosen bank begins with all smaller ones.
WINDOWS = {"patchcore": (1, 3, 5)}
ROWS = {"patchcore": (1000, 3000, 10_000, 20_000)}
CHOSEN_IN_TRIAL = ("memory_bank_size", "window")
# Settings that determine the graph: candidates that share them have the same network, whose time is measured once.
GRAPH = ("backbone", "layers", "image_size")
PRESETS = ("default", "fast")  # presets of patchcore


@dataclass(frozen=True)
class Candidate:
    """Candidate of a search: a detector and its settings."""

    detector: str
    settings: dict[str, Any] = field(hash=False)
    name: str = ""

    @property
    def graph(self) -> tuple[str, ...]:
        """Key of the network: the networks of candidates with equal keys take equal time."""
        return (self.detector, *(str(self.settings.get(key)) for key in GRAPH))

    def differences(self, other: Candidate) -> int:
        """Return the number of settings in which two candidates differ; all of them for different detectors."""
        if self.detector != other.detector:
            return len(self.settings)
        return sum(value != other.settings[key] for key, value in self.settings.items())

    def with_settings(self, **settings: Any) -> Candidate:
        """Return the candidate with other settings; it is no preset any more."""
        return Candidate(self.detector, {**self.settings, **settings})

    def reopened(self) -> Candidate:
        """Return the candidate with the settings that a trial chooses left open; presets are returned unchanged."""
        if self.name:
            return self
        return Candidate(
            self.detector, {key: value for key, value in self.settings.items() if key not in CHOSEN_IN_TRIAL}
        )

    def keeping(self, proportions: Proportions) -> Candidate:
        """Return the candidate with an input size of the images' proportions; a preset is returned unchanged."""
        if self.detector != "patchcore":
            return self
        return replace(self, settings=keep_proportions(self.settings, proportions))

    def __str__(self) -> str:
        if self.name:
            return self.name
        parts = []
        for key, value in self.settings.items():
            if key == "image_size":
                shown = str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"
            else:
                shown = "+".join(map(str, value)) if key == "layers" else str(value)
            parts.append(shown if key in GRAPH else f"{key}={shown}")
        return f"{self.detector} {' '.join(parts)}"


def draw_candidates(detectors: Sequence[str], seed: int) -> list[Candidate]:
    """Return all candidates: presets, presets with a quarter of the patches, then all others in random order."""
    unknown = [name for name in detectors if name not in SPACE]
    if unknown:
        raise SettingsError(f"cannot tune {', '.join(unknown)}: choose from {', '.join(SPACE)}")
    everything = [
        Candidate(name, dict(zip(SPACE[name], values, strict=True)))
        for name in detectors
        for values in product(*SPACE[name].values())
    ]
    presets = [_preset(name) for name in PRESETS]
    coarse = [preset.with_settings(layers=["stride16"]) for preset in presets]
    order = np.random.default_rng(seed).permutation(len(everything))
    drawn = [everything[i] for i in order]
    return [*presets, *sorted(drawn, key=lambda one: all(one.differences(each) for each in coarse))]


def nearest_first(candidates: Sequence[Candidate], leaders: Sequence[Candidate]) -> list[Candidate]:
    """Sort candidates stably: first all that differ from some leader in one setting at most, then the others."""
    return sorted(candidates, key=lambda one: all(one.differences(leader) > 1 for leader in leaders))


def _preset(name: str) -> Candidate:
    settings = plain_settings(PatchCoreConfig(**find_preset("patchcore", name)))
    return Candidate(
        "patchcore", {key: settings[key] for key in (*SPACE["patchcore"], *CHOSEN_IN_TRIAL)}, f"patchcore {name}"
    )
