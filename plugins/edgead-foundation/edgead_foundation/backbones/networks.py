"""Modules of the foundation backbones from timm, and renaming of other projects' tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead_foundation.backbones.names import DINOV3, Tower


def create(tower: Tower, image_size: tuple[int, int], *, pretrained: bool = False) -> nn.Module:
    """Build timm's module for images of one size; with `pretrained` timm downloads its weights.

    Raises SettingsError: timm is not installed.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise SettingsError(f"foundation backbones need {error.name}: {install_command('vit')}") from error
    # With a fixed size rotary positions become constants of the graph; the class token is the image's embedding.
    of_family: dict[str, Any] = {"dynamic_img_size": False, "global_pool": "token"} if tower.family is DINOV3 else {}
    return timm.create_model(
        f"{tower.architecture}.{tower.family.tag}",
        pretrained=pretrained,
        img_size=image_size,
        embed_dim=tower.width,
        depth=tower.depth,
        num_heads=tower.heads,
        **of_family,
    )


def rename(state: Mapping[str, Tensor], tower: Tower, network: nn.Module) -> dict[str, Tensor]:
    """Convert weights of a checkpoint of OpenAI, OpenCLIP, facebookresearch or timm to timm's names and layout.

    `network`: timm's module, built for the image size of the checkpoint's position embeddings; on any device.
    """
    from timm.models import eva, vision_transformer

    module: Any = eva if tower.family is DINOV3 else vision_transformer
    return module.checkpoint_filter_fn(dict(state), network)
