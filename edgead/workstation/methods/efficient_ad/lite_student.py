"""The network of `efficient_ad`'s model size `lite`, which is ours: a packaged backbone is the teacher, and a small
student predicts its deep features from its shallow ones.

EfficientAD (arXiv 2303.14535) distils a teacher first, and its student sees pixels. Here nothing is distilled, and what
the student sees costs the device nothing: the backbone has computed it anyhow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.adapt.memory_bank.feature_metric import inverse_root
from edgead.adapt.memory_bank.feature_scale import fit_scale
from edgead.errors import SettingsError
from edgead.workstation.backbones.pretrained import Backbone

REACH = 3
"""Positions of the teacher's grid that the student sees on each side of the one that it predicts."""

STRIDE_PX = 8
"""Of the teacher's grid."""

SEEN, TAUGHT = "stride4", ("stride8", "stride16")
"""The layer that the student sees, and those that it predicts."""


class LiteStudent(nn.Module):
    """Teacher, student and the scale of their difference, exported as it stands.

    The teacher's features are averaged over 3 x 3 positions, standardised and damped as `patchcore` has them
    (`methods.patchcore.network`). What the student misses on good images has a covariance, whose inverse root is folded
    into teacher and student: their square difference is a Mahalanobis distance.

    Parameters
    ----------
    backbone : Backbone
        With the layers SEEN and TAUGHT.
    channels : sequence of int
        Of each of these layers.
    width : int
        Channels of the student's hidden layers; the last has twice as many.
    own_grids : bool
        Coarse layers are brought to the grid of the first as the last step, so that all before it costs less. Otherwise
        as the first step, as `patchcore` has it.
    """

    mean: Tensor
    inverse_std: Tensor
    squared_length: Tensor
    metric: Tensor
    quantiles: Tensor

    def __init__(self, backbone: Backbone, channels: Sequence[int], width: int, *, own_grids: bool = True):
        super().__init__()
        self.backbone = backbone
        self.own_grids = own_grids
        self.channels = list(channels[1:])
        taught = sum(self.channels)
        self.register_buffer("mean", torch.zeros(taught, 1, 1))
        self.register_buffer("inverse_std", torch.ones(taught, 1, 1))
        self.register_buffer("squared_length", torch.ones(len(self.channels)))
        self.register_buffer("metric", torch.eye(taught)[:, :, None, None])
        self.register_buffer("quantiles", torch.tensor([0.0, 1.0]))
        self.student = nn.Sequential(
            nn.Conv2d(channels[0], width, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, dilation=REACH - 1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, taught, 1),
        )

    def levels(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> the layers SEEN and TAUGHT, float32 (n, d, h', w') each."""
        return self.backbone(image.float().permute(0, 3, 1, 2))

    def average(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """The layers TAUGHT -> the teacher's features as they are, (n, d, h', w') each."""
        averaged = [F.avg_pool2d(layer, 3, stride=1, padding=1, count_include_pad=False) for layer in layers]
        return averaged if self.own_grids else [enlarge(layer, averaged[0]) for layer in averaged]

    def describe(self, averaged: Sequence[Tensor]) -> Tensor:
        """What `average` gave -> what the student is taught, (n, d, h', w') on the grid of the first layer."""
        first, *coarse = (
            F.conv2d(standardised, self.metric[:, columns])
            for standardised, columns in zip(self._standardise(averaged), self._columns(), strict=True)
        )
        for part in coarse:
            first = first + enlarge(part, first)
        return first

    def _standardise(self, averaged: Sequence[Tensor]) -> list[Tensor]:
        return [
            _damp((layer - self.mean[columns]) * self.inverse_std[columns], typical)
            for layer, columns, typical in zip(averaged, self._columns(), self.squared_length, strict=True)
        ]

    def _columns(self) -> list[slice]:
        """The channels of each layer among those of all."""
        stops = list(accumulate(self.channels))
        return [slice(stop - count, stop) for stop, count in zip(stops, self.channels, strict=True)]

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h / 8, w / 8)."""
        return self.scores(self.levels(image))

    def scores(self, levels: list[Tensor]) -> Tensor:
        """What `levels` gave -> patch scores, float32 (n, h / 8, w / 8)."""
        seen, *taught = levels
        errors = (self.describe(self.average(taught)) - self.student(surround(seen))).square().mean(dim=1)
        return 0.1 * (errors - self.quantiles[0]) / (self.quantiles[1] - self.quantiles[0])

    @torch.no_grad()
    def fit_teacher(self, rows: Sequence[Tensor]) -> None:
        """Learn the scale of the teacher's features: each channel that it gives then has a mean near 0, deviation 1.

        Parameters
        ----------
        rows : sequence of Tensor of shape (n, d), float32
            What `average` gave of each layer at positions of good images.
        """
        scales = [fit_scale(part.numpy(), [part.shape[1]]) for part in rows]
        self.mean.copy_(torch.from_numpy(np.concatenate([scale.mean for scale in scales]))[:, None, None])
        self.inverse_std.copy_(torch.from_numpy(np.concatenate([scale.inverse_std for scale in scales]))[:, None, None])
        self.squared_length.copy_(torch.from_numpy(np.concatenate([scale.squared_length for scale in scales])))
        standardised = self._standardise([part[:, :, None, None] for part in rows])
        std = torch.cat([part.std(dim=(0, 2, 3), unbiased=False) for part in standardised])
        self.metric.copy_(torch.diag(torch.where(std > 1e-6, 1 / std, 0.0))[:, :, None, None])

    @torch.no_grad()
    def fit_quantiles(self, quantiles: np.ndarray) -> None:
        """Scores become 0 and 0.1 where they were these two quantiles of held-out good images (section 3.4)."""
        start, stop = quantiles
        if not stop > start:
            raise SettingsError("the maps of good images are the same everywhere: the images are empty")
        self.quantiles.copy_(torch.tensor([start, stop]))

    @torch.no_grad()
    def fold_input(self, mean: Tensor, std: Tensor) -> None:
        """Make the student take (seen - mean) / std, by channel: its first convolution takes that in."""
        first = self.student[0]
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        first.weight.div_(std.view(1, -1, 1, 1))
        first.bias.sub_((first.weight * mean.view(1, -1, 1, 1)).sum(dim=(1, 2, 3)))

    @torch.no_grad()
    def fold_errors(self, covariance: np.ndarray) -> None:
        """Make all directions of the student's errors equally loud, whose covariance (d, d) on good images is given."""
        root = torch.from_numpy(inverse_root(covariance)).to(self.metric)
        last = self.student[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        last.weight.copy_(F.conv2d(last.weight.transpose(0, 1), root[:, :, None, None]).transpose(0, 1))
        last.bias.copy_(root @ last.bias)
        self.metric.copy_(torch.einsum("ij,jkhw->ikhw", root, self.metric))


def surround(seen: Tensor) -> Tensor:
    """Repeat the border of the layer SEEN as far as the student reaches."""
    return F.pad(seen, (2 * REACH,) * 4, mode="replicate")


def enlarge(layer: Tensor, finer: Tensor) -> Tensor:
    """Bring a layer to the grid of another one, if it is not there."""
    if layer.shape[-2:] == finer.shape[-2:]:
        return layer
    return F.interpolate(layer, size=finer.shape[-2:], mode="bilinear", align_corners=False)


def _damp(layer: Tensor, typical: Tensor) -> Tensor:
    return layer * torch.rsqrt(layer.square().sum(dim=1, keepdim=True) + typical)
