"""The sparse feature filtering module of MemoryOut: a mixture of narrow experts, of which each token takes few.

Each expert is a normalisation, a bottleneck and the way back. There is no way around them: what no bottleneck
carries is gone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 2.0
"""Sum of the weights of the chosen experts."""


class Routing(NamedTuple):
    """Which experts tokens take.

    Attributes
    ----------
    scores : Tensor of shape (n, t, experts)
        Softmax over all experts.
    weights : Tensor of shape (n, t, experts)
        0 for experts that are not chosen; the others sum up to `SCALE`.
    """

    scores: Tensor
    weights: Tensor


def route(tokens: Tensor, gate: Tensor, chosen: int) -> Routing:
    """Choose the experts with the highest scores for each token.

    Parameters
    ----------
    tokens : Tensor of shape (n, t, d)
    gate : Tensor of shape (experts, d)
    chosen : int
        Experts that each token takes; with one alone, its weight is its score x `SCALE`.
    """
    scores = (tokens @ gate.T).softmax(-1)
    best, index = scores.topk(chosen, dim=-1)
    if chosen > 1:
        best = best / (best.sum(-1, keepdim=True) + 1e-20)
    taken = index[..., None] == torch.arange(len(gate), device=index.device)
    return Routing(scores, (taken * (SCALE * best)[..., None]).sum(-2))


def balance(routing: Routing, chosen: int) -> Tensor:
    """How unevenly the tokens of a sequence take experts: 1 where all are taken alike, up to experts / chosen."""
    _, length, experts = routing.scores.shape
    taken = (routing.weights > 0).to(routing.scores).sum(1) * (experts / (length * chosen))
    return (taken * routing.scores.mean(1)).sum(1).mean()


class Experts(nn.Module):
    """Experts side by side: each normalises, squeezes by `down`, activates by SiLU and widens by `up`.

    All are computed for each token, in two products: narrow as they are, that costs less than to sort tokens.

    Parameters
    ----------
    count : int
    dim : int
        Of a token.
    bottleneck : int
        Of an expert; smaller than `dim`.
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
        """Sum up what the experts give, by weights (n, t, count); without, each counts once."""
        count, dim, bottleneck = self.up_weight.shape
        normal = F.layer_norm(tokens, (dim,))
        # What each expert multiplies the normalised token by and adds to it goes into its `down`.
        down = (self.down_weight * self.norm_weight[:, None]).flatten(0, 1)
        bias = self.down_bias + (self.down_weight * self.norm_bias[:, None]).sum(2)
        squeezed = F.silu(F.linear(normal, down, bias.flatten()))
        up = self.up_weight.transpose(1, 2).flatten(0, 1)
        if weights is None:
            return squeezed @ up + self.up_bias.sum(0)
        counted = squeezed * weights.repeat_interleave(bottleneck, dim=2)
        return counted @ up + weights @ self.up_bias


class Filter(nn.Module):
    """One sparse feature filtering module.

    Parameters
    ----------
    dim : int
        Of a token.
    bottleneck : int
        Of each expert.
    experts, chosen : int
        How many there are beside the one that all tokens share, and how many each token takes of them.
    """

    def __init__(self, dim: int, bottleneck: int, experts: int, chosen: int):
        super().__init__()
        self.chosen = chosen
        self.gate = nn.Parameter(torch.empty(experts, dim).uniform_(-1, 1) * dim**-0.5)
        self.experts = Experts(experts, dim, bottleneck)
        self.shared = Experts(1, dim, bottleneck)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Filter tokens (n, t, d); gives them and their `balance`."""
        routing = route(tokens, self.gate, self.chosen)
        return self.experts(tokens, routing.weights) + self.shared(tokens), balance(routing, self.chosen)
