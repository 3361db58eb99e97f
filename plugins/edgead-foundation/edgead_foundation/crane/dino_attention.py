"""Attention of Crane+ (Salehi et al. 2025): CLIP's values, gathered from patches that are similar in DINOv2."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARPNESS, ABOVE_MEAN = 3.0, 1.2
"""Factor for the excess of a cosine over its bound, and the bound as a multiple of the mean cosine."""


class DinoAttention(nn.Module):
    """Attention weights between patches, computed from an image by DINOv2.

    `tower` (nn.Module): DINOv2 of timm, for the image size of CLIP, with the same number of patches.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tower: Any):
        super().__init__()
        self.tower = tower
        for name in ("mean", "std"):
            self.register_buffer(name, 255 * torch.tensor(tower.pretrained_cfg[name]).view(1, 3, 1, 1))

    def forward(self, image: Tensor, *, one_mean: bool = False) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> weights of patches for each patch, rows of sum 1, (n, patches, patches).

        `one_mean`: use the mean cosine of the batch, as in the authors' training, not of each image.
        """
        tokens = self.tower.forward_features((image.float().permute(0, 3, 1, 2) - self.mean) / self.std)
        patches = F.normalize(tokens[:, self.tower.num_prefix_tokens :], dim=-1)
        cosines = patches @ patches.mT
        mean = cosines.mean() if one_mean else cosines.mean(dim=(1, 2), keepdim=True)
        above = (cosines - ABOVE_MEAN * mean) * SHARPNESS
        # If all patches are equal none is above the bound, and the authors' code gives NaN: each patch keeps itself.
        itself = torch.eye(above.shape[-1], dtype=torch.bool, device=above.device)
        return above.masked_fill((above < 0) & ~itself, float("-inf")).softmax(dim=-1)


def gather_values(block: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    """Sum a block's patch values by weights, and project them.

    `block` (nn.Module): block of a tower of timm.
    `tokens` (Tensor of shape (n, 1 + patches, d)): tokens before the block's first normalisation, the class token
        first.
    `weights`: Tensor of shape (n, patches, patches).
    Returns Tensor of shape (n, patches, d).
    """
    values = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1)[2][:, 1:]
    return block.attn.proj(weights @ values)
