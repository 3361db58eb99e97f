"""Adaptors of LSFA (Tu et al., arXiv 2401.03145): one transformer block and one projection for each modality."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PROJECTED = 512
_RATIO = 4


class Block(nn.Module):
    """Transformer block: attention over the patches of one image, then a perceptron, each after a normalisation.

    `width`: channels of the features; a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, _RATIO * width), nn.GELU(), nn.Linear(_RATIO * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Adapt features of shape (images, patches, channels); the shape stays the same."""
        x = x + self._attend(self.norm1(x))
        return x + self.perceptron(self.norm2(x))

    def _attend(self, x: Tensor) -> Tensor:
        images, patches, width = x.shape
        queries, keys, values = (
            self.qkv(x).reshape(images, patches, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights = torch.softmax((queries * (width // self.heads) ** -0.5) @ keys.transpose(2, 3), dim=3)
        return self.projection((weights @ values).transpose(1, 2).reshape(images, patches, width))


class Adaptors(nn.Module):
    """Adaptors: a block for each modality (colour, height), and linear maps to compare patches of both in training."""

    def __init__(self, colour_width: int, height_width: int, heads: int):
        super().__init__()
        self.colour, self.height = Block(colour_width, heads), Block(height_width, heads)
        self.colour_head = nn.Linear(colour_width, PROJECTED)
        self.height_head = nn.Linear(height_width, PROJECTED)
