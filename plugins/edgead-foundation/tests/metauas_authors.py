"""Numbers of the authors' code of MetaUAS, from weights and images that are drawn by their names.

`python tests/metauas_authors.py CODE OUT` writes the fixture, with CODE a folder of copies: `metauas.py` of
gaobb/MetaUAS (MIT License), `smp` with segmentation_models_pytorch of ragavsachdeva (MIT License), and `site` with
efficientnet_pytorch 0.6.3 (Apache-2.0) and einops 0.8.1 (MIT License).
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from authors import numbers
from torch import Tensor, nn

SIZE = (64, 96)
STEP = 3
"""The fixture has every third pixel, and every 16th channel of aligned features."""
CHANNEL_STEP = 16
LEVELS, DECODER = (16, 20, 24, 18, 22), (24, 16, 16, 16, 16)
"""Channels of what is run without an encoder: its levels, finest first, and the decoder's blocks."""
GAINS = {"_project_conv": 1.2, "_depthwise": 1.8, "_expand": 1.2}
GAINS |= {"alignment.2": 2.0, "reduction": 1.0, "decoder": 1.4, "mask_head": 2.0}


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """A parameter or buffer by its name in the authors' code, float64."""
    x = numbers(name, shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) == 4:
        # Features that neither grow nor fade with depth, weights of the alignment that are neither alike nor decided.
        gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
        x = gain * x / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("running_var"):
        x = 1 + 0.5 * np.tanh(x)
    elif name.endswith(("running_mean", "bias")):
        # Many of them hide in the end what the image was.
        x = (0.1 if name.startswith("encoder.") else 0.3) * x
    else:
        x = 1 + 0.3 * x
    return torch.from_numpy(np.asarray(x))


def images(name: str, count: int) -> np.ndarray:
    """Smooth images, uint8 RGB (count, h, w, 3)."""
    coarse = numbers(name, (count, SIZE[0] // 8, SIZE[1] // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    fine = numbers(f"{name} fine", (count, *SIZE, 3))
    return np.clip(128 + 50 * coarse + 12 * fine, 0, 255).astype(np.uint8)


def queries_and_prompt() -> tuple[np.ndarray, np.ndarray]:
    """Two queries and a prompt: one query is much like it, and moved."""
    prompt = images("prompt", 1)
    near = np.roll(prompt, (8, 8), axis=(1, 2))
    near[:, 20:36, 40:60] = 250
    return np.concatenate([near, images("query", 1)]), prompt


def _stand_in(name: str, **members: Any) -> None:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(members)


def _authors_module(code: Path) -> Any:
    """Import the authors' module, without what it draws, trains and downloads with."""
    from torchvision import transforms  # noqa: F401  before stand-ins take names that its imports look for

    for name in ("kornia", "matplotlib", "matplotlib.pyplot"):
        _stand_in(name)
    _stand_in("pytorch_lightning", LightningModule=nn.Module)
    sys.path[:0] = [str(code), str(code / "site")]
    package = code / "smp" / "segmentation_models_pytorch"
    _stand_in("segmentation_models_pytorch", __path__=[str(package)])
    _stand_in("segmentation_models_pytorch.encoders", __path__=[str(package / "encoders")])
    from segmentation_models_pytorch.encoders.efficientnet import efficient_net_encoders

    def get_encoder(name: str, in_channels: int, depth: int, weights: str) -> nn.Module:
        given = efficient_net_encoders[name]
        return given["encoder"](**{**given["params"], "depth": depth})

    encoders = sys.modules["segmentation_models_pytorch.encoders"]
    encoders.get_encoder = get_encoder
    encoders.get_preprocessing_params = lambda name, pretrained: efficient_net_encoders[name]["pretrained_settings"][
        pretrained
    ]
    import metauas

    return metauas


def levels(name: str) -> list[np.ndarray]:
    """Features of an encoder of `LEVELS` channels, of an image of 64 x 96 pixels, finest first."""
    sides = [tuple(side >> step for side in SIZE) for step in range(1, 6)]
    return [numbers(f"{name} {i}", (2, count, *sides[i])) for i, count in enumerate(LEVELS)]


def _fill(network: nn.Module, prefix: str = "") -> list[str]:
    state = {name: draw(prefix + name, tuple(value.shape)) for name, value in network.state_dict().items()}
    network.double().eval().load_state_dict(state)
    return sorted(state)


def _after_the_encoder(module: Any) -> dict[str, np.ndarray]:
    """Run what follows the encoder with few channels, which the authors' constructor does not know."""
    alignment = nn.ModuleList(module.AlignmentModule(count, count // 2, "sa", "cat") for count in LEVELS[:1:-1])
    decoder = module.UnetDecoder([3, *LEVELS], DECODER, n_blocks=5, attention_type="scse", num_coam_layers=3)
    parts = {"alignment": alignment, "decoder": decoder, "mask_head": nn.Conv2d(DECODER[-1], 1, 1)}
    for name, part in parts.items():
        _fill(part, f"{name}.")
    given = {"encoder_depth": 5, "decoder_depth": 5, "decoder_name": "unet", "training": False, **parts}
    # The image is one of the levels, which the decoder leaves out.
    like = types.SimpleNamespace(**given, preprocess=lambda x: x, encoder=lambda x: [None, *map(torch.from_numpy, x)])
    with torch.inference_mode():
        found = module.MetaUAS.forward(like, {"query_image": levels("query"), "prompt_image": levels("prompt")})
    return {"small_map": found[:, 0, ::STEP, ::STEP].numpy()}


def fixture(code: Path) -> dict[str, np.ndarray]:
    """Run the authors' network as their demonstration builds it, and a part of it with few channels."""
    module = _authors_module(code)
    network = module.MetaUAS("efficientnet-b4", "unet", 5, 5, 3, "sa", "cat")
    unused = ("encoder._conv_head.", "encoder._bn1.")
    names = [name for name in _fill(network) if not name.startswith(unused)]
    query, prompt = (torch.from_numpy(x).double().permute(0, 3, 1, 2) / 255 for x in queries_and_prompt())
    aligned = []
    for each in network.alignment:
        each.register_forward_hook(lambda module, inputs, output: aligned.append(output))
    with torch.inference_mode():
        # Their evaluation gives as many prompts as queries.
        found = network({"query_image": query, "prompt_image": prompt.expand_as(query)})[:, 0]
    results = {"names": np.array(names)} | _after_the_encoder(module)
    for stride, level in zip((32, 16, 8), aligned, strict=True):
        results[f"aligned{stride}"] = level[:, ::CHANNEL_STEP].numpy()
    return {**results, "map": found[:, ::STEP, ::STEP].numpy(), "scores": found.amax(dim=(1, 2)).numpy()}


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], **fixture(Path(sys.argv[1])))
