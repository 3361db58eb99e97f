"""The graph of EfficientAD: what `StudentTeacher` computes, with less to write and read, exact but for rounding.

- The student's last convolution is negated and cut in two, T(x) - S(x) = W_T t + (-W_S) s + b_T - b_S, where t and s
  are what lies before the last layers. Runtimes take a sum into the convolution before it, a difference they do not,
  and no part of the student's output is cut out and copied. Where they add up n products in another order, a
  difference moves by at most 2 n u / (1 - n u) times the sum of their sizes, u = 2^-24.
- Quantiles become a factor of each map, and one summand.
"""

from __future__ import annotations

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
        *_, last = student
        assert isinstance(last, nn.Conv2d)
        channels = last.out_channels // 2
        self.teacher, self.autoencoder, self.student = teacher, autoencoder, student[:-1]
        self.ahead, self.behind = _negated(last, slice(channels)), _negated(last, slice(channels, None))
        self.border = border
        start, stop = quantiles.double().unbind(dim=1)
        factors = 0.05 / (stop - start)  # 0.1 and the mean of both maps
        self.register_buffer("factors", (factors / channels).to(quantiles))
        self.register_buffer("summand", -(factors * start).sum().to(quantiles))
        for name, moment in zip(("pixel_mean", "pixel_std"), moments, strict=True):
            self.register_buffer(name, moment)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> combined map, float32 (n, h / 4, w / 4); see `StudentTeacher.forward`."""
        image = (image.float().permute(0, 3, 1, 2) - self.pixel_mean) / self.pixel_std
        described = self.student(image)
        differences = self.teacher(image) + self.ahead(described), self.autoencoder(image) + self.behind(described)
        local, overall = ((each * each).sum(dim=1, keepdim=True) for each in differences)
        combined = self.factors[0] * local + self.factors[1] * overall + self.summand
        return F.pad(combined, (self.border,) * 4, mode="replicate").squeeze(1)


def _negated(last: nn.Conv2d, channels: slice) -> nn.Conv2d:
    """Give a convolution's channels with the other sign."""
    assert last.bias is not None
    weight, bias = (-each.detach()[channels] for each in (last.weight, last.bias))
    made = nn.Conv2d(last.in_channels, len(weight), last.kernel_size)  # type: ignore[arg-type]
    made.padding = last.padding
    made.weight, made.bias = (nn.Parameter(each, requires_grad=False) for each in (weight, bias))
    return made
