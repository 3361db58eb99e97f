"""The network of `efficient_ad`'s model size `lite`, which is ours: a packaged backbone is the teacher, and a small
student predicts its deep features from its shallow ones.

EfficientAD (arXiv 2303.14535) distils a teacher first, and its student sees pixels. Here nothing is distilled, and what
the student sees costs the device nothing: the backbone has computed it anyhow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.memory_bank.feature_metric import inverse_root
from edgead.memory_bank.feature_scale import fit_scale
from edgead.methods.backbones import Backbone

REACH = 3
"""Positions of the teacher's grid that the student sees on each side of the one that it predicts."""

STRIDE_PX = 8
"""Of the teacher's grid."""

SEEN, TAUGHT = "stride4", ("stride8", "stride16")
"""The layer that the student sees, and those that it predicts."""


class LiteStudent(nn.Module):
    """Teacher, student and the scale of their difference, exported as it stands.

    The teacher's features are averaged over 3 x 3 positions, standardised and damped as `patchcore` has them
    (`edgead.methods.network`). What the student misses on good images has a covariance, whose inverse root is folded
    into teacher and student: their square difference is a Mahalanobis distance.

    Parameters
    ----------
    backbone : Backbone
        With the layers SEEN and TAUGHT.
    channels : sequence of int
        Of each of these layers.
    width : int
        Channels of the student's hidden layers; the last has twice as many.
    """

    mean: Tensor
    inverse_std: Tensor
    squared_length: Tensor
    metric: Tensor
    quantiles: Tensor

    def __init__(self, backbone: Backbone, channels: Sequence[int], width: int):
        super().__init__()
        self.backbone = backbone
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

    def align(self, layers: Sequence[Tensor]) -> Tensor:
        """The layers TAUGHT -> the teacher's features as they are, on the grid of the first, (n, d, h', w')."""
        first, *rest = (F.avg_pool2d(layer, 3, stride=1, padding=1, count_include_pad=False) for layer in layers)
        grid = first.shape[-2:]
        return torch.cat([first, *(F.interpolate(x, size=grid, mode="bilinear", align_corners=False) for x in rest)], 1)

    def describe(self, aligned: Tensor) -> Tensor:
        """What `align` gave -> what the student is taught, (n, d, h', w')."""
        return F.conv2d(self._standardise(aligned), self.metric)

    def _standardise(self, aligned: Tensor) -> Tensor:
        layers = ((aligned - self.mean) * self.inverse_std).split(self.channels, dim=1)
        squared = zip(layers, self.squared_length, strict=True)
        return torch.cat([x * torch.rsqrt(x.square().sum(dim=1, keepdim=True) + typical) for x, typical in squared], 1)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h / 8, w / 8)."""
        return self.scores(self.levels(image))

    def scores(self, levels: list[Tensor]) -> Tensor:
        """What `levels` gave -> patch scores, float32 (n, h / 8, w / 8)."""
        seen, *taught = levels
        errors = (self.describe(self.align(taught)) - self.student(surround(seen))).square().mean(dim=1)
        return 0.1 * (errors - self.quantiles[0]) / (self.quantiles[1] - self.quantiles[0])

    @torch.no_grad()
    def fit_teacher(self, rows: Tensor) -> None:
        """Learn the scale of the teacher's features: each channel that it gives then has a mean near 0, deviation 1.

        Parameters
        ----------
        rows : Tensor of shape (n, d), float32
            What `align` gave at positions of good images.
        """
        scale = fit_scale(rows.numpy(), self.channels)
        self.mean.copy_(torch.from_numpy(scale.mean)[:, None, None])
        self.inverse_std.copy_(torch.from_numpy(scale.inverse_std)[:, None, None])
        self.squared_length.copy_(torch.from_numpy(scale.squared_length))
        std = self._standardise(rows[:, :, None, None]).std(dim=(0, 2, 3), unbiased=False)
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
