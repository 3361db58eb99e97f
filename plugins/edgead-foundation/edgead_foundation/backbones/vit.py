"""Vision transformers (Dosovitskiy et al. 2021) as DINO and DINOv2 give them, by the names of their files."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgead.errors import SettingsError

HEAD_WIDTH = 64
"""Channels of a head in every published DINO; a file does not say how many heads it has."""
LARGEST_SIDE = 224
"""Of images, in pixels: DINOv2 files have positions of larger ones, which are interpolated to this."""


@dataclass(frozen=True, slots=True)
class VitShape:
    """Sizes of a transformer; the defaults are those of ViT-B/8.

    Attributes
    ----------
    image_size, patch_size : int
        Side of the image and of a patch, in pixels.
    width, depth, heads : int
        Channels of a token, number of blocks, heads of each attention.
    mlp_ratio : int
        Channels inside the MLP of a block, in widths.
    """

    image_size: int = 224
    patch_size: int = 8
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


class Attention(nn.Module):
    """Self-attention of all tokens; `allowed` takes keys away from some queries."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Tokens (n, t, d) -> (n, t, d); `allowed`, bool, broadcasts to (n, heads, queries, keys)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each after its normalisation and added to what came in."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Tokens (n, t, d) -> (n, t, d); for `allowed` see `Attention`."""
        x = x + self.attn(self.norm1(x), allowed)
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    def __init__(self, patch_size: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """A transformer over patches and one class token, which comes first.

    Parts stand by themselves, for those who do other things between blocks: `embed`, each of `blocks`, `norm`.
    """

    def __init__(self, shape: VitShape):
        super().__init__()
        self.shape = shape
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + shape.grid**2, shape.width))
        self.patch_embed = PatchEmbedding(shape.patch_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads, shape.mlp_ratio) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, eps=1e-6)

    def embed(self, image: Tensor) -> Tensor:
        """RGB normalised like ImageNet, (n, 3, side, side) -> tokens with their positions, (n, 1 + patches, d)."""
        patches = self.patch_embed(image)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1)
        return tokens + self.pos_embed

    def forward(self, image: Tensor) -> Tensor:
        """RGB normalised like ImageNet, (n, 3, side, side) -> normalised tokens, (n, 1 + patches, d)."""
        x = self.embed(image)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def read_vit(file: Path) -> VisionTransformer:
    """Read a transformer of DINO or DINOv2: a published `*_pretrain.pth`, or the same tensors as safetensors.

    Its shape follows from the tensors; heads have 64 channels. Nothing is unpickled but tensors. Images are 224 pixels
    at most: positions of larger ones are interpolated, as DINOv2 does.

    Raises
    ------
    SettingsError
        It is no such file: the message says what was found and what to do.
    """
    state = _read_state(file)
    try:
        plain = _without_scales({name: value.float() for name, value in state.items()})
        shape = _shape_of(plain)
        if shape.image_size > LARGEST_SIDE:
            shape = replace(shape, image_size=LARGEST_SIDE // shape.patch_size * shape.patch_size)
            plain["pos_embed"] = _resized(plain["pos_embed"], shape.grid)
        network = VisionTransformer(shape)
        network.load_state_dict(plain)
    except (AttributeError, KeyError, IndexError, RuntimeError, ValueError) as error:
        shown = ", ".join(sorted(map(str, state))[:4])
        raise SettingsError(
            f"{file} is no vision transformer of DINO ({' '.join(str(error).split())[:200]}); its entries begin with "
            f"{shown or 'none'}. Give dino_vitbase8_pretrain.pth of facebookresearch/dino, or "
            "dinov2_vits14_pretrain.pth of facebookresearch/dinov2"
        ) from error
    return network


def _read_state(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SettingsError(f"there is no file {file}: give the weights of a vision transformer") from error
    except pickle.UnpicklingError as error:
        raise SettingsError(
            f"{file} holds Python objects, which edgead does not unpickle: give a file of `state_dict()` alone"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise SettingsError(f"{file} is damaged, or holds no tensors ({error}): copy it again") from error
    if not isinstance(state, Mapping):
        raise SettingsError(f"{file} holds a {type(state).__name__} instead of a state dict")
    return state


def _shape_of(state: Mapping[str, Tensor]) -> VitShape:
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    grid = math.isqrt(state["pos_embed"].shape[1] - 1)
    ratio = state["blocks.0.mlp.fc1.weight"].shape[0] // width
    if width % HEAD_WIDTH:
        raise ValueError(f"{width} channels are no multiple of {HEAD_WIDTH}")
    return VitShape(grid * patch, patch, width, depth, width // HEAD_WIDTH, ratio)


def _without_scales(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What DINOv2 multiplies each residual by goes into the layer before; the token of its training is left out."""
    plain = {name: value for name, value in state.items() if ".ls" not in name and name != "mask_token"}
    for name, gamma in state.items():
        for scale, layer in ((".ls1.gamma", ".attn.proj"), (".ls2.gamma", ".mlp.fc2")):
            if name.endswith(scale):
                before = name.removesuffix(scale) + layer
                plain[f"{before}.weight"] = gamma[:, None] * plain[f"{before}.weight"]
                plain[f"{before}.bias"] = gamma * plain[f"{before}.bias"]
    return plain


def _resized(positions: Tensor, grid: int) -> Tensor:
    """Positions (1, 1 + patches, d), that of the class token first, for another grid of patches."""
    before = math.isqrt(positions.shape[1] - 1)
    patches = positions[:, 1:].unflatten(1, (before, before)).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, (grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], patches.flatten(2).transpose(1, 2)], dim=1)
