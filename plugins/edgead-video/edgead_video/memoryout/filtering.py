"""Sparse feature filtering module of MemoryOut: a mixture of narrow experts (small networks); each token uses few.

Each expert is a normalisation, a bottleneck and the projection back. There is no skip connection: what no bottleneck
passes is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 2.0
"""Sum of the weights of the chosen experts."""


class Routing(NamedTuple):
    """Scores and weights of experts for tokens.

    `scores` (Tensor of shape (n, t, experts)): softmax over all experts.
    `weights` (Tensor of shape (n, t, experts)): weights that sum up to `SCALE` for each token; 0 for experts that are
        not chosen.
    """

    scores: Tensor
    weights: Tensor


def route(tokens: Tensor, gate: Tensor, chosen: int) -> Routing:
    """Choose the experts with the highest scores for each token.

    `tokens`: Tensor of shape (n, t, d).
    `gate`: Tensor of shape (experts, d).
    `chosen`: number of experts for each token; a single expert has its score x `SCALE` as its weight.
    """
    scores = (tokens @ gate.T).softmax(-1)
    best, index = scores.topk(chosen, dim=-1)
    if chosen > 1:
        best = best / (best.sum(-1, keepdim=True) + 1e-20)
    taken = index[..., None] == torch.arange(len(gate), device=index.device)
    return Routing(scores, (taken * (SCALE * best)[..., None]).sum(-2))


def balance(routing: Routing, chosen: int) -> Tensor:
    """Return the load imbalance of experts over a sequence: 1 for equal use, up to experts / chosen."""
    _, length, experts = routing.scores.shape
    taken = (routing.weights > 0).to(routing.scores).sum(1) * (experts / (length * chosen))
    return (taken * routing.scores.mean(1)).sum(1).mean()


class Experts(nn.Module):
    """Parallel experts: each normalises, narrows by `down`, activates by SiLU and widens by `up`.

    All experts are computed for each token, in two products: as they are narrow, that costs less than sorting tokens.

    `dim`: length of a token.
    `bottleneck`: width of an expert; smaller than `dim`.
    """

    def __init__(self, count: int, dim: int, bottleneck: int):
        super().__init__()
        self.norm_weight = nn.Parameter(torch.ones(count, dim))
        self.norm_bias = nn.Parameter(torch.zeros(count, dim))
        self.down_weight = nn.Parameter(torch.empty(count, bottleneck, dim).uniform_(-1, 1) * dim**-0.5)
        self.down_bias = nn.Parameter(torch.empty(count, bottleneck).uniform_(-1, 1) * dim**-0.5)
        self.up_weight = nn.Parameter(torch.empty(count, dim, bottleneck).uniform_(-1, 1) * bottleneck**-0.5)
        self.up_bias = nn.Parameter(torch.empty(count, dim).uniform_(-1, 1) * bottleneck**-0.5)

    def forward(self, tokens: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the sum of the experts' outputs weighted by `weights` (n, t, count); without them, the plain sum."""
        count, dim, bottleneck = self.up_weight.shape
        normal = F.layer_norm(tokens, (dim,))
        # Each expert's scale and shift of the normalised token are folded into its `down`.
        down = (self.down_weight * self.norm_weight[:, None]).flatten(0, 1)
        bias = self.down_bias + (self.down_weight * self.norm_bias[:, None]).sum(2)
        squeezed = F.silu(F.linear(normal, down, bias.flatten()))
        up = self.up_weight.transpose(1, 2).flatten(0, 1)
        if weights is None:
            return squeezed @ up + self.up_bias.sum(0)
        counted = squeezed * weights.repeat_interleave(bottleneck, dim=2)
        return counted @ up + weights @ self.up_bias


class Filter(nn.Module):
    """Sparse feature filtering module.

    `dim`: length of a token.
    `bottleneck`: width of each expert.
    `experts`, `chosen`: number of experts beside the shared one, and number of experts that each token uses.
    """

    def __init__(self, dim: int, bottleneck: int, experts: int, chosen: int):
        super().__init__()
        self.chosen = chosen
        self.gate = nn.Parameter(torch.empty(experts, dim).uniform_(-1, 1) * dim**-0.5)
        self.experts = Experts(experts, dim, bottleneck)
        self.shared = Experts(1, dim, bottleneck)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Filter tokens (n, t, d); return them and their `balance`."""
        routing = route(tokens, self.gate, self.chosen)
        return self.experts(tokens, routing.weights) + self.shared(tokens), balance(routing, self.chosen)
