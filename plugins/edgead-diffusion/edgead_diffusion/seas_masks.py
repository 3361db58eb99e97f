"""Refined mask prediction of SeaS, from features of U-Net and decoder while they make a defect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COARSE, FINE = 128, 64
WIDTH = COARSE + FINE
HEADS, LAYERS, GROUPS = 8, 4, 32


class FeedForward(nn.Module):
    """Feed-forward network of two layers; one half of the first layer's output gates the other, through a GELU."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.Linear(width, 8 * width)
        self.outer = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.inner(x).chunk(2, dim=-1)
        return self.outer(x * F.gelu(gate))


class SelfAttentionLayer(nn.Module):
    """Layer of self-attention over all pixels and a feed-forward network, each after a normalisation."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Linear(width, width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm1(x)
        q, k, v = (f(normal).unflatten(2, (HEADS, -1)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        x = x + self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.ff(self.norm3(x))


class CoarseAttention(nn.Module):
    """Four self-attention layers over the coarse features, between two 1 x 1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, WIDTH, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        self.transformer_blocks = nn.Sequential(*(SelfAttentionLayer(WIDTH) for _ in range(LAYERS)))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.transformer_blocks(self.proj_in(self.norm(x)).flatten(2).transpose(1, 2))
        return x + self.proj_out(pixels.transpose(1, 2).reshape(x.shape))


class MaskRefinement(nn.Module):
    """Upsampling of coarse features to twice the side, with the decoder's features of that side."""

    def __init__(self, fine_channels: int):
        super().__init__()
        self.conv1 = _convolution(fine_channels, 1)
        for number, size in enumerate((1, 3, 1, 1, 3, 1, 3, 1), start=2):
            # conv6 is unused, as in the authors' code, but their files contain it.
            self.add_module(f"conv{number}", _convolution(WIDTH, size))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Refine (n, 192, h, w) by the decoder's (n, c, 2 h, 2 w) -> (n, 192, 2 h, 2 w)."""
        coarse = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
        direct = self._chain(coarse, 5)
        deep = self._chain(coarse, 2, 3, 4)
        deeper = self._chain(deep, 7, 8, 9)
        return self.conv1(fine) * (deep + direct + deeper) + coarse

    def _chain(self, x: Tensor, *numbers: int) -> Tensor:
        for number in numbers:
            x = self.get_submodule(f"conv{number}")(x)
        return x


class MaskPredictor(nn.Module):
    """Predictor of defect probabilities for every pixel, from features of Stable Diffusion's U-Net and decoder.

    `unet`: channels of the U-Net's second and third up block.
    `decoder`: channels of the decoder's first three up blocks.
    """

    def __init__(self, unet: tuple[int, int] = (1280, 640), decoder: tuple[int, int, int] = (512, 512, 256)):
        super().__init__()
        self.low_feature_conv = nn.Conv2d(unet[0], COARSE, 1, bias=False)
        self.mid_feature_conv = nn.Conv2d(unet[1], FINE, 1, bias=False)
        self.attention = CoarseAttention()
        self.refinements = nn.ModuleList(MaskRefinement(channels) for channels in decoder)
        self.out_layer = nn.Sequential(nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, 2, 3, padding=1))

    def coarse(self, features: Sequence[Tensor]) -> Tensor:
        """Outputs of the U-Net's blocks, (n, 1280, h / 2, w / 2) and (n, 640, h, w) -> (n, 192, h, w)."""
        low, middle = features
        low = F.interpolate(self.low_feature_conv(low), size=middle.shape[-2:], mode="bilinear", align_corners=False)
        return self.attention(torch.cat([low, self.mid_feature_conv(middle)], dim=1))

    def refine(self, coarse: Tensor, decoded: Sequence[Tensor]) -> Tensor:
        """Coarse features, and outputs of the decoder's blocks -> (n, 192, 8 h, 8 w)."""
        for refinement, fine in zip(self.refinements, decoded, strict=True):
            coarse = refinement(coarse, fine)
        return coarse

    def forward(self, features: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
        """Features of images with a defect -> probabilities of good and of defect, (n, 2, 8 h, 8 w)."""
        return self.out_layer(self.refine(self.coarse(features), decoded)).softmax(dim=1)

    def learn(self, features: Sequence[Tensor], decoded: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the probabilities for a training step, at the sizes of the image and of the coarse features.

        `features`: features for `coarse`, of images with a defect, then of as many good images, which are not refined.
        `decoded`: decoder features of images with a defect.
        """
        coarse = self.coarse(features)
        defects, good = coarse.chunk(2)
        good = F.interpolate(good, scale_factor=8, mode="bilinear", align_corners=False)
        whole = self.out_layer(torch.cat([self.refine(defects, decoded), good]))
        return whole.softmax(dim=1), self.out_layer(coarse).softmax(dim=1)


def _convolution(inputs: int, size: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, WIDTH, size, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(WIDTH), nn.ReLU())
