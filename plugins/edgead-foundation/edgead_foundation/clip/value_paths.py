"""Image towers of AnomalyCLIP and its successors, with a second path of refined attention in the last blocks.

A block's own attention mixes information of the whole image; patches that attend to patches with similar values stay
local (CLIP Surgery, Li et al. 2023; DPAM, Zhou et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch.nn.functional as F
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention: queries, keys and values, (n, heads, t, d) each -> (n, heads, t, d)."""

Beside = Callable[[Any, Tensor], Tensor]
"""Function of a block, and of the first path between its attention and its MLP: (n, t, d) -> (n, t', d)."""


def value_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Compute attention of values to values."""
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
    """Run a tower of timm with a second path in its last blocks.

    The second path begins with the input of the first of these blocks. Each block adds to it the refined attention of
    its input on the first path, and no MLP. The first path is the tower's own.

    `tower`: nn.Module.
    `tokens` (Tensor of shape (n, 1 + patches, d)): tokens with positions, before the first normalisation.
    `blocks`: numbers, from 1, of the blocks whose tokens are returned; before the second path these are the tower's
        own.
    `refined`: number of last blocks with the second path.
    `attention`: attention of the second path, which shares projections with the first.
    `beside`: function called for each returned block, whose result is returned before the block's tokens; only if all
        of these blocks have the second path.
    Returns (Tensor of shape (n, 1 + patches, d), list of Tensor of shape (n, 1 + patches, d)): output of the last block
        on the first path, and outputs of the requested blocks on the second, before any last normalisation.
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
    """Compute timm's attention and `attention` for the same tokens, (n, t, d) each, after the layer's projection."""
    queries, keys, values = layer.qkv(x).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    own, other = F.scaled_dot_product_attention(queries, keys, values), attention(queries, keys, values)
    return layer.proj(own.transpose(1, 2).flatten(2)), layer.proj(other.transpose(1, 2).flatten(2))
