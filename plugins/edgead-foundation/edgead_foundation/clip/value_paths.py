"""The image towers of AnomalyCLIP and those who follow it: beside its last blocks runs a path of refined attention.

A block's own attention gathers what makes the whole image; patches that attend to patches of like values stay local
(CLIP Surgery, Li et al. 2023; DPAM, Zhou et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch.nn.functional as F
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values, (n, heads, t, d) each -> (n, heads, t, d)."""

Beside = Callable[[Any, Tensor], Tensor]
"""A block, and the first path between its attention and its MLP, (n, t, d) -> (n, t', d)."""


def value_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Values attend to values."""
    del queries, keys
    return F.scaled_dot_product_attention(values, values, values)


def two_paths(
    tower: Any,
    tokens: Tensor,
    blocks: Collection[int],
    refined: int,
    attention: Attention = value_attention,
    beside: Beside | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Run a tower of timm with a second path beside its last blocks.

    The second path begins with what comes into the first of these blocks. Each adds to it the refined attention of what
    comes in on the first path, and no MLP. The first path is the tower's own.

    Parameters
    ----------
    tower : nn.Module
    tokens : Tensor of shape (n, 1 + patches, d)
        With their positions, before the first normalisation.
    blocks : collection of int
        Numbers from 1 of the blocks whose tokens are asked for; before the second path begins they are the tower's own.
    refined : int
        How many of the last blocks have the second path.
    attention : callable
        Of the second path; it shares projections with the first.
    beside : callable, optional
        What else is taken of each block asked for, before its tokens; only of blocks that have the second path.

    Returns
    -------
    (Tensor of shape (n, 1 + patches, d), list of Tensor of shape (n, 1 + patches, d))
        What the last block leaves on the first path, and each block asked for on the second, before any last
        normalisation; with `beside` also what that gives.
    """
    first = second = tower.norm_pre(tokens)
    begins, found = len(tower.blocks) - refined, []
    for number, block in enumerate(tower.blocks):
        if number < begins:
            first = second = block(first)
        else:
            attended, local = _attend(block.attn, block.norm1(first), attention)
            second = second + local
            first = first + attended
            if beside is not None and number + 1 in blocks:
                found.append(beside(block, first))
            first = first + block.mlp(block.norm2(first))
        if number + 1 in blocks:
            found.append(second)
    return first, found


def _attend(layer: Any, x: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
    """The attention of timm's layer and another one of the same tokens, (n, t, d) each, after their projection."""
    queries, keys, values = layer.qkv(x).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    own, other = F.scaled_dot_product_attention(queries, keys, values), attention(queries, keys, values)
    return layer.proj(own.transpose(1, 2).flatten(2)), layer.proj(other.transpose(1, 2).flatten(2))
