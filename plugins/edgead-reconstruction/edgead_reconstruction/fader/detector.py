"""FADeR as a detector: EAR's network or DRAEM, and gates that are trained afterwards; see `fader.training`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from edgead.adapt.methods.method import Course
from edgead.errors import SettingsError
from edgead.workstation.methods.draem.detector import Draem, DraemConfig
from edgead.workstation.methods.draem.networks import RECONSTRUCTIVE_WIDTH, DraemNetwork
from edgead.workstation.trainer.device import CPU
from edgead_reconstruction.ear.detector import EarConfig, EarMethod, ObscureConfig
from edgead_reconstruction.ear.network import to_pixels
from edgead_reconstruction.fader.attenuation import Attenuation
from edgead_reconstruction.fader.training import train_gates

DEEPEST = 8
"""Base widths that DRAEM's encoder gives."""


@dataclass(frozen=True)
class FaderConfig(ObscureConfig):
    """Settings of FADeR: the settings of `obscure`, and settings of the gates.

    Attributes
    ----------
    base : {"ear", "draem"}
        Network whose features are attenuated: the network of `obscure` and `ear` (their masks differ, see `saliency`),
        or the network of `draem`, with its settings.
    gate_steps : int
        Number of training steps of the gates, after the training of the base.
    gate_rate : float
        Learning rate of Adam for the gates; at a tenth of it, gates hardly close in so few steps.
    """

    base: Literal["ear"] = "ear"
    gate_steps: int = 300
    gate_rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_gates(self.gate_steps)


@dataclass(frozen=True)
class FaderDraemConfig(DraemConfig):
    """Settings of FADeR on DRAEM: the settings of `draem`, and settings of the gate; see `FaderConfig`."""

    base: Literal["draem"] = "draem"
    gate_steps: int = 300
    gate_rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_gates(self.gate_steps)


def _check_gates(steps: int) -> None:
    if steps < 1:
        raise SettingsError(
            f"gate_steps {steps}: at least 1 is needed; the base alone is --detector obscure, ear or draem"
        )


class Fader(EarMethod[FaderConfig]):
    """Network of EAR with gates on its skip connections, which attenuate the features of a defect."""

    name = "fader"
    config_class = FaderConfig
    presets = {
        "default": {},
        "paper": {**{name: getattr(EarConfig, name) for name in EarConfig.__annotations__}, "gate_steps": 2000},
        "draem": {**Draem.presets["cpu"], "base": "draem"},
    }
    purpose = "to compare with obscure, ear or draem: the same with gates against what leaks of a defect"
    preset_purposes = {
        "default": "gates after the paper, on obscure, which is ours: a CPU to train on; minutes",
        "paper": "after the paper, on ear: a GPU, and a file of weights",
        "draem": "ours, on draem's demonstration: two cores, half an hour",
    }

    @classmethod
    def variant(cls, settings: Mapping[str, Any]) -> type[Self]:
        return cast("type[Self]", FaderDraem) if settings.get("base") == "draem" else cls

    def __init__(self, config: FaderConfig = FaderConfig(), *, weights: Path | None = None, pretrained: bool = True):
        super().__init__(config, weights=weights, pretrained=pretrained)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network.gates.extend(Attenuation(width) for width in config.widths[:-1])

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Train as `obscure` or `ear` does, then train the gates."""
        super().learn(images, course)
        network, config = self.network.requires_grad_(False).to(course.device), self.config
        gates = network.gates.requires_grad_(True)

        def encode(image: Tensor) -> list[Tensor]:
            return network.unet.encode(network.hint(image))[:-1]

        def rebuild(image: Tensor, *, gated: bool) -> tuple[Tensor, list[Tensor]]:
            rebuilt, logits = network.unet(network.hint(image), list(gates) if gated else ())
            return rebuilt, logits

        train_gates(
            gates,
            encode,
            rebuild,
            images,
            course,
            steps=config.gate_steps,
            batch=config.batch_images,
            rate=config.gate_rate,
            seed=config.seed,
        )
        network.to(CPU)


class GatedDraemNetwork(DraemNetwork):
    """DRAEM with one gate, on its reconstruction network's encoder output, as that network has no skip connections.

    `gates`: empty, or one gate.
    """

    def __init__(self, width: float):
        super().__init__(width)
        self.gates = nn.ModuleList([Attenuation(DEEPEST * round(width * RECONSTRUCTIVE_WIDTH))])

    def repair(self, pixels: Tensor, *, gated: bool) -> tuple[Tensor, list[Tensor]]:
        """Images (n, 3, h, w) in 0..1 -> their reconstructions, and the gate's logits."""
        repairing, logits = self.reconstructive, []
        features = repairing.encoder(pixels)
        if gated:
            for gate in self.gates:
                features, passed = gate(features)
                logits.append(passed)
        return repairing.last(repairing.decoder(features)), logits

    def reconstruct_and_segment(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Image (n, 3, h, w) in 0..1 -> its reconstruction through the gate, and logits, (n, 2, h, w)."""
        rebuilt, _ = self.repair(image, gated=True)
        return rebuilt, self.discriminative(torch.cat([rebuilt, image], dim=1))


class FaderDraem(Draem):
    """DRAEM with a gate in its reconstruction network, which attenuates the features of a defect."""

    network: GatedDraemNetwork

    name = "fader"
    config_class = FaderDraemConfig
    config: FaderDraemConfig

    def __init__(
        self, config: FaderDraemConfig = FaderDraemConfig(), *, weights: Path | None = None, pretrained: bool = True
    ):
        super().__init__(config, weights=weights, pretrained=pretrained)
        drawn = self.network.state_dict()
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = GatedDraemNetwork(config.width)
        self.network.load_state_dict(drawn, strict=False)
        self.network.eval()

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Train the network as `draem` does, then only the gate, which weakens features of defects."""
        network, config = self.network, self.config
        gates, network.gates = network.gates, nn.ModuleList()
        super().learn(images, course)
        network.gates = gates
        network.requires_grad_(False).to(course.device)
        gates.requires_grad_(True)

        def rebuild(image: Tensor, *, gated: bool) -> tuple[Tensor, list[Tensor]]:
            return network.repair(to_pixels(image), gated=gated)

        train_gates(
            gates,
            lambda image: [network.reconstructive.encoder(to_pixels(image))],
            rebuild,
            images,
            course,
            steps=config.gate_steps,
            batch=config.batch_size,
            rate=config.gate_rate,
            seed=config.seed,
        )
        network.to(CPU)
