"""Network of MetaUAS; see `edgead_foundation.metauas.detector` for the method and its source.

The encoder is timm's EfficientNet-B4. Its "same" padding equals the padding of the authors' encoder if image sides are
multiples of `STRIDE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead.workstation.backbones.pretrained import Backbone

STRIDE = 32
LEVELS = {"stem": 48, "stride4": 32, "stride8": 56, "stride16": 160, "stride32": 448}
"""Channels of the encoder's levels."""
ALIGNED = ("stride8", "stride16", "stride32")
DECODER = (256, 128, 64, 64, 48)
"""Channels of the decoder's blocks, coarsest first."""

_GROUPS = {"stride4": slice(0, 2), "stride8": slice(2, 3), "stride16": slice(3, 5), "stride32": slice(5, 7)}
# Numbers of timm's stages. Each of our stages ends before the next convolution with a stride.
_SQUEEZE = 16


class MetaUasNetwork(nn.Module):
    """Network that gives the probability of each pixel to have changed from the prompt; exported unchanged.

    The prompt is stored as its features, in one buffer for each level of `ALIGNED`.

    `image_size`: height and width, multiples of `STRIDE`.
    """

    def __init__(self, image_size: tuple[int, int]):
        super().__init__()
        self.encoder = _encoder()
        self.segmenter = Segmenter(LEVELS, DECODER)
        for name in ALIGNED:
            grid = [side // int(name.removeprefix("stride")) for side in image_size]
            self.register_buffer(f"prompt_{name}", torch.zeros(1, LEVELS[name], *grid))

    @property
    def learnt(self) -> dict[str, np.ndarray]:
        """Prompt's features by the names of buffers, float32 (1, d, h', w')."""
        return {f"prompt_{name}": self.get_buffer(f"prompt_{name}").numpy() for name in ALIGNED}

    @torch.no_grad()
    def set_prompt(self, image: Tensor) -> None:
        """Compute and store the features of the prompt, uint8 RGB (1, h, w, 3)."""
        for name, level in self.levels(image).items():
            if name in ALIGNED:
                self.get_buffer(f"prompt_{name}").copy_(level)

    def levels(self, image: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (n, h, w, 3) -> features of each level, float32 (n, d, h', w')."""
        return dict(zip(LEVELS, self.encoder(image.float().permute(0, 3, 1, 2)), strict=True))

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> probabilities, float32 (n, h, w)."""
        return self.segmenter(self.levels(image), {name: self.get_buffer(f"prompt_{name}") for name in ALIGNED})


class Segmenter(nn.Module):
    """Layers after the encoder: alignment with the prompt, and the decoder.

    `levels`: channels of the encoder's levels, finest first.
    `channels`: channels of the decoder's blocks, coarsest first, one for each level.
    """

    def __init__(self, levels: Mapping[str, int], channels: Sequence[int]):
        super().__init__()
        self.alignments = nn.ModuleDict({name: SoftAlignment(levels[name]) for name in ALIGNED})
        self.decoder = Decoder([count * (1 + (name in ALIGNED)) for name, count in levels.items()], channels)
        self.last = nn.Conv2d(channels[-1], 1, 1)

    def forward(self, levels: Mapping[str, Tensor], prompt: Mapping[str, Tensor]) -> Tensor:
        """Levels (n, d, h', w') and aligned levels of the prompt (1, d, h', w') -> probabilities (n, h, w)."""
        joined = [
            self.alignments[name](level, prompt[name]) if name in ALIGNED else level for name, level in levels.items()
        ]
        return self.last(self.decoder(joined)).sigmoid()[:, 0]


class SoftAlignment(nn.Module):
    """Soft feature alignment: appends to each feature the mean of the prompt's features, weighted by similarity."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = nn.Conv2d(channels, channels // 2, 1)

    def forward(self, query: Tensor, prompt: Tensor) -> Tensor:
        """Features (n, d, h, w) and the prompt's (1, d, h, w) -> features with aligned features, (n, 2 d, h, w)."""
        # A product, not a convolution: in a half-float graph the prompt is a constant, for which OpenVINO 2026.4
        # computed the convolutions of two levels wrongly, in float32 too.
        reduced = self.reduce.weight.flatten(1) @ prompt.flatten(2) + self.reduce.bias[:, None]  # type: ignore[index]
        likeness = self.reduce(query).flatten(2).transpose(1, 2) @ reduced
        weights = likeness.softmax(dim=2)  # over the prompt's places, without scale or temperature
        aligned = prompt.flatten(2) @ weights.transpose(1, 2)
        return torch.cat([query, aligned.view_as(query)], dim=1)


class Decoder(nn.Module):
    """Decoder of a U-Net with scSE gates.

    `levels`: channels of the encoder's levels, finest first.
    `channels`: channels of the blocks, coarsest first, one for each level.
    """

    def __init__(self, levels: Sequence[int], channels: Sequence[int]):
        super().__init__()
        coarsest, *skips = reversed(levels)
        inputs = [coarsest, *channels[:-1]]
        self.blocks = nn.ModuleList(DecoderBlock(*each) for each in zip(inputs, [*skips, 0], channels, strict=True))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (n, d, h', w'), finest first, at half the sides of the image -> (n, d, h, w)."""
        x, *skips = reversed(levels)
        for block, skip in zip(self.blocks, [*skips, None], strict=True):
            x = block(x, skip)
        return x


class DecoderBlock(nn.Module):
    """Block that doubles the sides, concatenates the level of that size, and mixes both by two convolutions.

    `inputs`, `skip`, `outputs`: channels; without a skip there are no gates.
    """

    def __init__(self, inputs: int, skip: int, outputs: int):
        super().__init__()
        self.gate_inputs = Gate(inputs + skip) if skip else nn.Identity()
        self.first = _convolution(inputs + skip, outputs)
        self.second = _convolution(outputs, outputs)
        self.gate_outputs = Gate(outputs) if skip else nn.Identity()

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Features (n, d, h, w), and features of twice the sides, or none -> (n, outputs, 2 h, 2 w)."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        if skip is not None:
            x = self.gate_inputs(torch.cat([x, skip], dim=1))
        return self.gate_outputs(self.second(self.first(x)))


class Gate(nn.Module):
    """scSE: squeeze and excitation of channels and of places, summed.

    Roy, Navab, Wachinger, "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks",
    MICCAI 2018 (arXiv 1803.02579).
    """

    def __init__(self, channels: int):
        super().__init__()
        squeezed = channels // _SQUEEZE
        self.channels = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )
        self.places = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.channels(x) + x * self.places(x)


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def _encoder() -> Backbone:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise SettingsError(f"metauas needs {error.name}: {install_command('vit')}") from error
    network: Any = timm.create_model("tf_efficientnet_b4", pretrained=False)
    stages: list[tuple[str, nn.Module]] = [("stem", nn.Sequential(network.conv_stem, network.bn1))]
    for name, groups in _GROUPS.items():
        stages.append((name, nn.Sequential(*chain.from_iterable(network.blocks[groups]))))
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Backbone(stages, list(LEVELS), mean=[255 * m for m in mean], std=[255 * s for s in std])
