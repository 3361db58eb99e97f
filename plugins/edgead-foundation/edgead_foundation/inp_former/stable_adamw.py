"""AdamW whose steps are clipped tensor by tensor: Wortsman et al., "Stable and low-precision training for large-scale
vision-language models", NeurIPS 2023 (arXiv 2304.13013), as in INP-Former's code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class StableAdamW(torch.optim.Optimizer):
    """AdamW with AMSGrad's maximum; its rate is reduced if the mean square of a tensor's update would exceed 1.

    As in the authors' code, the maximum is taken before the bias correction, and clipping uses the gradient of this
    step instead of its running mean.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-10,
        weight_decay: float = 1e-4,
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state |= {name: torch.zeros_like(parameter) for name in ("mean", "square", "largest")}
        state["step"] += 1
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        for_mean, for_square = group["betas"]
        state["mean"].mul_(for_mean).add_(gradient, alpha=1 - for_mean)
        state["square"].mul_(for_square).addcmul_(gradient, gradient, value=1 - for_square)
        torch.maximum(state["largest"], state["square"], out=state["largest"])
        scale = state["largest"].sqrt().div_(math.sqrt(1 - for_square ** state["step"])).add_(group["eps"])
        loudness = (gradient / scale).square().mean().sqrt().clamp_min(1)
        parameter.sub_(state["mean"] / scale / loudness, alpha=group["lr"] / (1 - for_mean ** state["step"]))
