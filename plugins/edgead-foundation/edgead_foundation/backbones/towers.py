"""Building of foundation backbones with weights; `edgead_foundation.backbones.names` lists them.

The networks are timm's, and equal the authors' (`tests/test_towers_authors.py`), except that timm interpolates position
embeddings for other image sizes in its own way; here each family's authors are followed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.workstation.backbones.pretrained import Backbone
from edgead_foundation.backbones.files import read_tower
from edgead_foundation.backbones.names import TOWERS, Positions
from edgead_foundation.backbones.networks import create

_OFFSET = 0.1


class TowerBackbone(Backbone):
    """Tower cut after the last block used; `forward` returns the patch tokens of the requested blocks."""

    network: Any  # of timm, whose methods torch's type stubs lack

    def __init__(self, network: Any, layers: Sequence[str]):
        nn.Module.__init__(self)
        blocks = sorted({int(layer.removeprefix("block")) for layer in layers})
        self.layers = tuple(f"block{number}" for number in blocks)
        self.indices = [number - 1 for number in blocks]
        network.prune_intermediate_layers(self.indices, prune_norm=True)
        self.network = network
        for name in ("mean", "std"):
            values = 255 * torch.tensor(network.pretrained_cfg[name])
            self.register_buffer(name, values.view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        """RGB in 0..255, float32 (n, 3, h, w) -> tokens of each layer, (n, d, h / patch, w / patch)."""
        x = (image - self.mean) / self.std
        return self.network.forward_intermediates(x, indices=self.indices, intermediates_only=True)


def build_tower(
    name: str,
    image_size: tuple[int, int],
    *,
    weights: Path | None = None,
    pretrained: bool = True,
    positions: Positions | None = None,
) -> nn.Module:
    """Build a whole tower of timm for images of one size, in evaluation mode.

    `name`: name in `TOWERS`.
    `image_size`: height and width, multiples of the patch.
    `weights`: file for `edgead_foundation.backbones.files.read_tower`; by default the weights are downloaded, once,
        into the cache of the Hugging Face Hub.
    `pretrained`: false leaves the weights random.
    `positions` ({"antialiased", "plain", "offset", "bilinear"}): interpolation of positions to the image size; by
        default as the authors of the tower's family do it.
    Raises SettingsError: the image size is not possible, weights do not fit, or cannot be downloaded.
    """
    tower = TOWERS[name]
    tower.check_image_size(image_size)
    network = create(tower, image_size)
    if pretrained:
        state = _download(name) if weights is None else read_tower(weights, name)
        if "pos_embed" in state:
            rows, columns = (side // tower.patch for side in image_size)
            how = positions or tower.family.positions
            state["pos_embed"] = resize_positions(state["pos_embed"], (rows, columns), how)
        network.load_state_dict(state)
    return network.eval()


def resize_positions(positions: Tensor, grid: tuple[int, int], how: Positions) -> Tensor:
    """Interpolate learnt position embeddings of a square grid of patches; a class token's embedding is not changed.

    `positions`: Tensor of shape (1, t, d).
    `grid`: rows and columns of patches.
    `how` ({"antialiased", "plain", "offset", "bilinear"}): DINO and DINOv2 without registers pass torch a scale,
        computed from a grid a tenth of a patch larger; CLIP (as resized by OpenCLIP) and DINOv2 with registers pass a
        size. The copy of OpenCLIP in MuSc passes a size without antialiasing.
    """
    side = math.isqrt(positions.shape[1])
    first = positions.shape[1] - side**2
    if grid == (side, side):
        return positions
    square = positions[:, first:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if how == "offset":
        scales = [(count + _OFFSET) / side for count in grid]
        resized = F.interpolate(square, scale_factor=scales, mode="bicubic")
    elif how == "bilinear":
        resized = F.interpolate(square, size=list(grid), mode="bilinear")
    else:
        resized = F.interpolate(square, size=list(grid), mode="bicubic", antialias=how == "antialiased")
    return torch.cat([positions[:, :first], resized.flatten(2).transpose(1, 2)], dim=1)


def _download(name: str) -> dict[str, Tensor]:
    """Load weights from timm's repositories on the Hugging Face Hub, or from its cache."""
    tower = TOWERS[name]
    logging.getLogger("timm").setLevel(logging.ERROR)
    try:
        return create(tower, (tower.side, tower.side), pretrained=True).state_dict()
    except Exception as error:  # noqa: BLE001  whatever the hub's client raises, of three libraries below it
        raise SettingsError(
            f"the weights of {name} could not be downloaded ({_first_line(error)}): give a file with --weights, see "
            "the page Use a foundation backbone, or try again on a computer with a network"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
