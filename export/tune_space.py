"""What `edgead tune` chooses from. A longer list is a wider search; nothing else knows what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from edgead.errors import SettingsError
from edgead.train import find_preset

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
PRESETS = (("patchcore", "default"), ("patchcore", "fast"))


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


def draw_candidates(detectors: Sequence[str], count: int, seed: int) -> list[Candidate]:
    """The presets, and candidates drawn from the space at random, `count` in all."""
    unknown = [name for name in detectors if name not in SPACE]
    if unknown:
        raise SettingsError(f"cannot tune {', '.join(unknown)}: choose from {', '.join(SPACE)}")
    everything = [
        Candidate(name, dict(zip(SPACE[name], values, strict=True)))
        for name in detectors
        for values in product(*SPACE[name].values())
    ]
    order = np.random.default_rng(seed).permutation(len(everything))
    presets = [Candidate(name, find_preset(name, preset), f"{name} {preset}") for name, preset in PRESETS]
    return [*presets, *(everything[i] for i in order[: max(0, count - len(presets))])]
