"""Numbers of the authors' code of foundation backbones, from weights and images that are drawn by their names.

`python tests/towers_authors.py CODE OUT` writes the fixture, with CODE a folder of copies: `site` (open_clip_torch
3.3.0, MIT License), `dino` and `dinov2` (facebookresearch, Apache-2.0), `dinov3` (facebookresearch, DINOv3 License).
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from authors import numbers
from torch import Tensor, nn

WIDTH, DEPTH, HEADS = 24, 3, 3
GRID = 4
GRIDS = ((4, 4), (6, 6), (3, 5))
"""Rows and columns of patches of the images: those that the positions are for, more, and others than as many."""
BLOCKS = (2, 3)
PATCHES = {
    "clip": 16,
    "openclip": 16,
    "dino": 8,
    "dinov2": 14,
    "dinov2_reg": 14,
    "dinov3": 16,
    "dinov3_plus": 16,
}


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """A parameter by its name: small where it adds to tokens, so that the eps of a normalisation counts."""
    x = numbers(name, shape)
    if name.endswith("bias_mask"):
        third = shape[0] // 3
        return torch.tensor([1.0] * third + [0.0] * third + [1.0] * third)
    if len(shape) == 1 and name.endswith(("weight", "gamma")):
        value = 1 + 0.3 * x if name.endswith("weight") else 0.6 + 0.2 * x
    elif name.endswith(("token", "tokens", "embedding", "pos_embed")):
        value = 0.05 * x
    elif name.endswith("bias"):
        value = (0.02 if "patch_embed" in name else 0.2) * x
    else:
        value = (0.05 if len(shape) == 4 else 1.2) * x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, np.float32))


def draw_image(name: str, grid: tuple[int, int]) -> Tensor:
    """A normalised image, float32 (1, 3, h, w)."""
    rows, columns = (PATCHES[name] * count for count in grid)
    return torch.from_numpy(numbers(f"image {rows} {columns}", (1, 3, rows, columns)).astype(np.float32))


def fill(network: nn.Module) -> dict[str, Tensor]:
    """Draw all that a file of the authors holds, but what is computed of nothing."""
    state = network.state_dict()
    drawn = {name: draw(name, tuple(x.shape)) for name, x in state.items() if not name.endswith("periods")}
    network.load_state_dict({**state, **drawn})
    return drawn


def _openclip(activation: type[nn.Module]) -> dict[str, np.ndarray]:
    from open_clip.model import resize_pos_embed
    from open_clip.transformer import VisionTransformer

    def build(grid: tuple[int, int]) -> nn.Module:
        side = tuple(16 * count for count in grid)
        return VisionTransformer(side, 16, WIDTH, DEPTH, HEADS, 4.0, output_dim=512, act_layer=activation).eval()

    drawn = fill(build((GRID, GRID)))

    def run(image: Tensor, grid: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
        network = build(grid)
        state = {f"visual.{name}": value for name, value in drawn.items()}
        resize_pos_embed(state, types.SimpleNamespace(visual=network))
        network.load_state_dict({name.removeprefix("visual."): value for name, value in state.items()})
        indices = [block - 1 for block in BLOCKS]
        found = network.forward_intermediates(image, indices=indices, intermediates_only=True)
        return found["image_intermediates"], network(image)

    return _numbers("openclip", {f"visual.{name}": value for name, value in drawn.items()}, run)


def _dino() -> dict[str, np.ndarray]:
    sys.modules["utils"] = types.ModuleType("utils")
    sys.modules["utils"].trunc_normal_ = nn.init.trunc_normal_  # type: ignore[attr-defined]
    from vision_transformer import VisionTransformer

    layer_norm = partial(nn.LayerNorm, eps=1e-6)
    sizes = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    network = VisionTransformer([8 * GRID], 8, qkv_bias=True, norm_layer=layer_norm, **sizes).eval()

    def run(image: Tensor, grid: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
        x, found = network.prepare_tokens(image), []
        for number, block in enumerate(network.blocks, 1):
            x = block(x)
            if number in BLOCKS:
                found.append(x[:, 1:].transpose(1, 2).unflatten(2, grid))
        return found, network(image)

    return _numbers("dino", fill(network), run)


def _dinov2(name: str) -> dict[str, np.ndarray]:
    from dinov2.models.vision_transformer import DinoVisionTransformer

    registers = {"num_register_tokens": 4, "interpolate_antialias": True, "interpolate_offset": 0.0}
    network = DinoVisionTransformer(
        14 * GRID,
        14,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        init_values=1.0,
        block_chunks=0,
        **(registers if name == "dinov2_reg" else {}),
    ).eval()
    return _numbers(name, fill(network), partial(_intermediate, network))


def _dinov3(name: str) -> dict[str, np.ndarray]:
    from dinov3.models.vision_transformer import DinoVisionTransformer

    network = DinoVisionTransformer(
        patch_size=16,
        pos_embed_rope_base=100,
        pos_embed_rope_normalize_coords="separate",
        pos_embed_rope_rescale_coords=2,
        pos_embed_rope_dtype="fp32",
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        ffn_ratio=6 if name == "dinov3_plus" else 4,
        ffn_layer="swiglu" if name == "dinov3_plus" else "mlp",
        layerscale_init=1e-5,
        norm_layer="layernormbf16",
        n_storage_tokens=4,
        mask_k_bias=True,
    ).eval()
    network.init_weights()
    return _numbers(name, fill(network), partial(_intermediate, network))


def _intermediate(network: nn.Module, image: Tensor, grid: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
    del grid
    blocks = [block - 1 for block in BLOCKS]
    return list(network.get_intermediate_layers(image, n=blocks, reshape=True, norm=False)), network(image)


def _numbers(
    name: str, drawn: dict[str, Tensor], run: Callable[[Tensor, tuple[int, int]], tuple[list[Tensor], Tensor]]
) -> dict[str, np.ndarray]:
    names = sorted(drawn)
    found = {
        "names": np.array(names),
        "shapes": np.array([" ".join(map(str, drawn[key].shape)) for key in names]),
    }
    with torch.inference_mode():
        for number, grid in enumerate(GRIDS):
            tokens, embedding = run(draw_image(name, grid), grid)
            for block, x in zip(BLOCKS, tokens, strict=True):
                found[f"block{block}_{number}"] = x.numpy()
            found[f"embedding_{number}"] = embedding.numpy()
    return found


def main(code: Path, out: Path) -> None:
    """Run the authors' code and write its numbers."""
    sys.path[:0] = [str(code / folder) for folder in ("site", "dino", "dinov2", "dinov3")]
    from open_clip.transformer import QuickGELU

    found = {
        "clip": _openclip(QuickGELU),
        "openclip": _openclip(nn.GELU),
        "dino": _dino(),
        "dinov2": _dinov2("dinov2"),
        "dinov2_reg": _dinov2("dinov2_reg"),
        "dinov3": _dinov3("dinov3"),
        "dinov3_plus": _dinov3("dinov3_plus"),
    }
    flat = {f"{name}/{key}": value for name, numbers in found.items() for key, value in numbers.items()}
    np.savez_compressed(out, **flat)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
