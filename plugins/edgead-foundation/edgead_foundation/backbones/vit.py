"""Vision transformers (Dosovitskiy et al. 2021) of DINO and DINOv2, with the names of their files."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.models import vision_transformer
from torch import Tensor

from edgead.errors import SettingsError

HEAD_WIDTH = 64
"""Channels of a head in every published DINO; a file does not say how many heads it has."""
LARGEST_SIDE = 224
"""Largest side of images in pixels; DINOv2's positions are for larger images, and are interpolated to this side."""


@dataclass(frozen=True, slots=True)
class VitShape:
    """Sizes of a transformer; the defaults are those of ViT-B/8.

    `image_size`, `patch_size`: side of the image and of a patch, in pixels.
    `width`, `depth`, `heads`: channels of a token, number of blocks, heads of each attention.
    `mlp_ratio`: channels inside the MLP of a block, in multiples of `width`.
    """

    image_size: int = 224
    patch_size: int = 8
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: int = 4

    @property
    def grid(self) -> int:
        """Number of patches along a side."""
        return self.image_size // self.patch_size


class VisionTransformer(vision_transformer.VisionTransformer):
    """Transformer of timm over one class token and patches, in this order; returns the normalised tokens.

    Its stages can be called separately, for other operations between blocks: `embed`, each of `blocks`, `norm`.
    """

    def __init__(self, shape: VitShape):
        super().__init__(
            img_size=shape.image_size,
            patch_size=shape.patch_size,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            mlp_ratio=shape.mlp_ratio,
            num_classes=0,
            global_pool="",
        )
        self.shape = shape

    def embed(self, image: Tensor) -> Tensor:
        """RGB normalised like ImageNet, (n, 3, side, side) -> tokens with their positions, (n, 1 + patches, d)."""
        tokens: Tensor = self._pos_embed(self.patch_embed(image))
        return tokens


def read_vit(file: Path) -> VisionTransformer:
    """Read a transformer of DINO or DINOv2: a published `*_pretrain.pth`, or the same tensors as safetensors.

    Its shape follows from the tensors; heads have 64 channels. Nothing is unpickled but tensors. Images have at most
    224 pixels: positions for larger images are interpolated, as in DINOv2.

    Raises SettingsError: the file is no such transformer; the message says what was found and what to do.
    """
    state = _read_state(file)
    try:
        plain = _without_scales({name: value.float() for name, value in state.items()})
        shape = _shape_of(plain)
        if shape.image_size > LARGEST_SIDE:
            shape = replace(shape, image_size=LARGEST_SIDE // shape.patch_size * shape.patch_size)
            plain["pos_embed"] = resample_abs_pos_embed(
                plain["pos_embed"], new_size=[shape.grid, shape.grid], antialias=False
            )
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
    """Fold DINOv2's layer scales into the preceding layers, and drop the mask token of its training."""
    plain = {name: value for name, value in state.items() if ".ls" not in name and name != "mask_token"}
    for name, gamma in state.items():
        for scale, layer in ((".ls1.gamma", ".attn.proj"), (".ls2.gamma", ".mlp.fc2")):
            if name.endswith(scale):
                before = name.removesuffix(scale) + layer
                plain[f"{before}.weight"] = gamma[:, None] * plain[f"{before}.weight"]
                plain[f"{before}.bias"] = gamma * plain[f"{before}.bias"]
    return plain
