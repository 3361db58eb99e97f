"""timm's modules of the foundation backbones, and its names for the tensors of other projects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead_foundation.backbones.names import DINOV3, Tower


def create(tower: Tower, image_size: tuple[int, int], *, pretrained: bool = False) -> nn.Module:
    """Build timm's module for images of one size; with `pretrained` it downloads what timm has for it.

    Raises
    ------
    SettingsError
        timm is not installed.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise SettingsError(f"foundation backbones need {error.name}: {install_command('vit')}") from error
    # Rotary positions become constants of the graph where the size is fixed; the class token is the image's embedding.
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
    """Give tensors the names that they have in timm: of OpenAI, OpenCLIP, facebookresearch, or timm's already.

    Parameters
    ----------
    network : nn.Module
        The tower for images of the size that the positions are for, on any device.
    """
    from timm.models import eva, vision_transformer

    module: Any = eva if tower.family is DINOV3 else vision_transformer
    return module.checkpoint_filter_fn(dict(state), network)
