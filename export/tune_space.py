"""What `edgead tune` chooses from. A longer list is a wider search; nothing else knows what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product, zip_longest
from typing import Any

import numpy as np

from edgead.errors import SettingsError
from edgead.train import PatchCoreConfig, find_preset
from edgead.train.settings import plain_settings

SPACE: dict[str, dict[str, list[Any]]] = {
    "patchcore": {
        "backbone": ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"],
        "layers": [["stride8", "stride16"], ["stride16", "stride32"], ["stride8", "stride16", "stride32"]],
        "image_size": [[160, 160], [192, 192], [224, 224], [256, 256], [320, 320]],
        "memory_bank_size": [1000, 3000, 10000],
        "window": [1, 3, 5],
        "global_weight": [0.0, 0.25, 1.0],
    },
    "mvg": {
        "backbone": ["efficientnet_lite0", "efficientnet_lite2"],
        "image_size": [[224, 224], [320, 320], [448, 448]],
    },
}
# What a graph is made of: candidates that share these have the same network, whose time is measured once.
GRAPH = ("backbone", "layers", "image_size")
PRESETS = ("default", "fast")  # of patchcore


@dataclass(frozen=True)
class Candidate:
    """Settings of a detector that may be the winner."""

    detector: str
    settings: dict[str, Any] = field(hash=False)
    name: str = ""

    @property
    def graph(self) -> tuple[str, ...]:
        """Candidates with the same one run the same network, as far as its time goes."""
        return (self.detector, *(str(self.settings.get(key)) for key in GRAPH))

    def __str__(self) -> str:
        if self.name:
            return self.name
        parts = []
        for key, value in self.settings.items():
            shown = "+".join(map(str, value)) if key == "layers" else value[0] if key == "image_size" else value
            parts.append(str(shown) if key in ("backbone", "layers", "image_size") else f"{key}={shown}")
        return f"{self.detector} {' '.join(parts)}"


def draw_candidates(detectors: Sequence[str], seed: int) -> list[Candidate]:
    """Order all there are by when to try them: the presets, then in turn a neighbour of a preset and any other.

    A neighbour differs from a preset in one setting: presets were chosen with care, and what is better is often near.
    """
    unknown = [name for name in detectors if name not in SPACE]
    if unknown:
        raise SettingsError(f"cannot tune {', '.join(unknown)}: choose from {', '.join(SPACE)}")
    everything = [
        Candidate(name, dict(zip(SPACE[name], values, strict=True)))
        for name in detectors
        for values in product(*SPACE[name].values())
    ]
    presets = [Candidate("patchcore", find_preset("patchcore", name), f"patchcore {name}") for name in PRESETS]
    whole = [plain_settings(PatchCoreConfig(**preset.settings)) for preset in presets]
    away = [min((_differences(one, settings) for settings in whole), default=2) for one in everything]
    order = np.random.default_rng(seed).permutation(len(everything))
    neighbours = [everything[i] for i in order if away[i] == 1]
    others = [everything[i] for i in order if away[i] > 1]
    turns = zip_longest(neighbours, others)
    return [*presets, *(one for pair in turns for one in pair if one is not None)]


def _differences(candidate: Candidate, preset: dict[str, Any]) -> int:
    """Number of settings in which a candidate differs from a preset of patchcore; all, where it is no patchcore."""
    if candidate.detector != "patchcore":
        return len(candidate.settings)
    return sum(value != preset[key] for key, value in candidate.settings.items())
