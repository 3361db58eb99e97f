"""The graph of EfficientAD: what `StudentTeacher` computes, in fewer layers, exact but for the order of its sums.

- The last convolutions take the differences: T(x) - S(x) = [W_T, -W_S] [t, s] + b_T - b_S, where t and s are what lies
  before them. Both sides add up the same n products, so in float32 they differ by at most 2 n u / (1 - n u) times the
  sum of their sizes, u = 2^-24.
- Where layers are as slight as nano's, a GPU spends its time on starting them. Teacher and student, whose hidden layers
  have the same form, then run side by side: depthwise layers with the channels of both, others with a group for each.
  Larger layers fill a GPU one by one, and stay apart.
- Quantiles become a factor of each map, and one summand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MergedStudentTeacher(nn.Module):
    """A trained `StudentTeacher` as it is exported, of its parts; `moments` are mean and deviation of the pixels."""

    pixel_mean: Tensor
    pixel_std: Tensor
    factors: Tensor
    summand: Tensor

    def __init__(
        self,
        teacher: nn.Sequential,
        student: nn.Sequential,
        autoencoder: nn.Sequential,
        quantiles: Tensor,
        moments: tuple[Tensor, Tensor],
        border: int,
    ):
        super().__init__()
        taught, imitated, reconstructed = (_last(layers) for layers in (teacher, student, autoencoder))
        self.border = border
        self.local = Difference(taught, imitated, slice(taught.out_channels))
        self.overall = Difference(reconstructed, imitated, slice(taught.out_channels, None))
        self.autoencoder = autoencoder[:-1]
        self.both: nn.Sequential | None = None
        if any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in teacher):
            self.both = _side_by_side(list(teacher)[:-1], list(student)[:-1])
        else:
            self.teacher, self.student = teacher[:-1], student[:-1]
        start, stop = quantiles.double().unbind(dim=1)
        factors = 0.05 / (stop - start)  # 0.1 and the mean of both maps
        self.register_buffer("factors", (factors / taught.out_channels).to(quantiles))
        self.register_buffer("summand", -(factors * start).sum().to(quantiles))
        for name, moment in zip(("pixel_mean", "pixel_std"), moments, strict=True):
            self.register_buffer(name, moment)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> combined map, float32 (n, h / 4, w / 4); see `StudentTeacher.forward`."""
        image = (image.float().permute(0, 3, 1, 2) - self.pixel_mean) / self.pixel_std
        if self.both is None:
            taught, imitated = self.teacher(image), self.student(image)
            described = torch.cat([taught, imitated], dim=1)
        else:
            described = self.both(image)
            imitated = described[:, described.shape[1] // 2 :]
        differences = self.local(described), self.overall(self.autoencoder(image), imitated)
        local, overall = ((each * each).sum(dim=1, keepdim=True) for each in differences)
        combined = self.factors[0] * local + self.factors[1] * overall + self.summand
        return F.pad(combined, (self.border,) * 4, mode="replicate").squeeze(1)


class Difference(nn.Module):
    """`first` of one input, less some channels of `second` of another: one convolution where both have one form."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, channels: slice):
        super().__init__()
        negated = -second.weight[channels], -_bias(second)[channels]
        self.first: nn.Conv2d | None = None
        if (first.kernel_size, first.padding) == (second.kernel_size, second.padding):
            weight = torch.cat([first.weight, negated[0]], dim=1)
            self.last = _convolution(first, weight, _bias(first) + negated[1])
        else:
            self.first, self.last = first, _convolution(second, *negated)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Both inputs, or one that has the channels of both -> their difference, float32 (n, channels, h, w)."""
        if self.first is None:
            return self.last(torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0])
        of_first, of_second = inputs
        return self.first(of_first) + self.last(of_second)


def _side_by_side(first: Sequence[nn.Module], second: Sequence[nn.Module]) -> nn.Sequential:
    """Put layers of the same form, which see the same image, beside each other: the channels of `first` come first."""
    layers: list[nn.Module] = []
    for one, other in zip(first, second, strict=True):
        if isinstance(one, nn.Conv2d) and isinstance(other, nn.Conv2d):
            weight, bias = torch.cat([one.weight, other.weight]), torch.cat([_bias(one), _bias(other)])
            layers.append(_convolution(one, weight, bias, groups=2 * one.groups if layers else 1))
        else:
            layers.append(one)
    return nn.Sequential(*layers)


def _convolution(like: nn.Conv2d, weight: Tensor, bias: Tensor, groups: int = 1) -> nn.Conv2d:
    """Give a convolution of the same form other weights."""
    made = nn.Conv2d(groups * weight.shape[1], len(weight), like.kernel_size, groups=groups)  # type: ignore[arg-type]
    made.stride, made.padding = like.stride, like.padding
    made.weight, made.bias = (nn.Parameter(each.detach(), requires_grad=False) for each in (weight, bias))
    return made


def _last(layers: nn.Sequential) -> nn.Conv2d:
    last = layers[-1]
    assert isinstance(last, nn.Conv2d)
    return last


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach()
