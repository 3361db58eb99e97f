"""What the authors' code of SimpleNet computes from weights and inputs of numpy's generators.

`python tests/simplenet_authors.py CODE OUT` writes the fixture, with CODE a copy of DonaldRR/SimpleNet (MIT License,
commit 351a2b8d4e8cfc944dbccbf9bc6ceda930c6f26b). Of what that imports beside torch, nothing counts here; it stands in
below.
"""

from __future__ import annotations

import sys
import types
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

FIXTURE = Path(__file__).parent / "fixtures" / "simplenet" / "authors.npz"
SEED = 20
LEVELS_SHAPE, WHOLE_SHAPE = (48, 64), (64, 96)
UNUSED = ("layer4", "fc")  # of the backbone


def fill(state: dict[str, Tensor], seed: int) -> None:
    """Fill weights in the order of their names: products by their width, deviations around 0.5, the rest around 0."""
    rng = np.random.default_rng(seed)
    for name in sorted(state):
        tensor = state[name]
        if not tensor.is_floating_point() or name.startswith(UNUSED):
            continue
        if tensor.dim() > 1:
            values = rng.standard_normal(tensor.shape, np.float32) * np.float32(np.sqrt(1.5 / tensor[0].numel()))
        elif name.endswith(("running_var", "weight")):
            values = rng.uniform(0.3, 0.7, tensor.shape)
        else:
            values = rng.standard_normal(tensor.shape, np.float32) * np.float32(0.1)
        tensor.copy_(torch.from_numpy(values.astype(np.float32)))


def make_backbone() -> torch.nn.Module:
    """WideResNet50 with the weights of this fixture."""
    network = torchvision.models.wide_resnet50_2(weights=None)
    fill(network.state_dict(), SEED)
    return network.eval()


def make_levels() -> list[Tensor]:
    """Layers 2 and 3 of four images that nobody took."""
    rng = np.random.default_rng(SEED + 3)
    shapes = [(4, 512, 6, 8), (4, 1024, 3, 4)]
    return [torch.from_numpy(rng.standard_normal(shape, np.float32)) for shape in shapes]


def make_images() -> np.ndarray:
    """Two images for the whole way, uint8 RGB (2, h, w, 3)."""
    return np.random.default_rng(SEED + 5).integers(0, 256, (2, *WHOLE_SHAPE, 3), np.uint8)


class Noise:
    """The noise of one training, in the order in which it is asked for."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(SEED + 4)

    def __call__(self, mean: float, std: float, shape: tuple[int, ...]) -> Tensor:
        return mean + torch.from_numpy(self._rng.standard_normal(tuple(shape), np.float32)) * np.float32(std)


BATCHES = ([0, 1], [2, 3], [0, 3])
"""The images of each step of that training."""


def main(code: str, out: str) -> None:
    """Run the authors' code."""
    losses: list[float] = []
    _stand_in(losses)
    sys.path.insert(0, code)
    import simplenet

    backbone = make_backbone()
    levels = make_levels()

    def build(shape: tuple[int, int]):
        network = simplenet.SimpleNet(torch.device("cpu"))
        network.load(
            backbone=backbone,
            layers_to_extract_from=["layer2", "layer3"],
            device=torch.device("cpu"),
            input_shape=(3, *shape),
            pretrain_embed_dimension=1536,
            target_embed_dimension=1536,
            meta_epochs=40,
            noise_std=0.015,
            dsc_hidden=1024,
            dsc_layers=2,
            dsc_margin=0.5,
            pre_proj=1,
        )
        fill(network.pre_projection.state_dict(), SEED + 1)
        fill(network.discriminator.state_dict(), SEED + 2)
        return network

    class Given(torch.nn.Module):
        """In place of the backbone: an image is the number of its levels."""

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            picked = images[:, 0, 0, 0].long()
            return dict(zip(("layer2", "layer3"), (level[picked] for level in levels), strict=True))

    network = build(LEVELS_SHAPE)
    network.forward_modules["feature_aggregator"] = Given()
    numbers = torch.arange(4.0)[:, None, None, None].expand(4, 3, *LEVELS_SHAPE)
    features, _ = network._embed(numbers, provide_patch_shapes=True, evaluation=True)
    found = {"features": features.reshape(4, 48, -1)[:2, ::16], **_scored(network, numbers, features, (6, 8))}
    torch.normal = Noise()
    network.logger = simplenet.TBWrapper("")
    network._train_discriminator([{"image": numbers[batch]} for batch in BATCHES])
    found["losses"] = np.array(losses)
    found |= {f"trained_{key}": value for key, value in _scored(network, numbers, features, (6, 8)).items()}

    network = build(WHOLE_SHAPE)
    scaled = torch.from_numpy(make_images()).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # of the authors' data set
    images = (scaled - mean[:, None, None]) / std[:, None, None]
    features, _ = network._embed(images, provide_patch_shapes=True, evaluation=True)
    found |= {f"whole_{key}": value for key, value in _scored(network, images, features, (8, 12)).items()}
    np.savez_compressed(out, **{key: np.asarray(value, np.float32) for key, value in found.items()})


def _scored(network, images: Tensor, features: Tensor, grid: tuple[int, int]) -> dict[str, np.ndarray]:
    """Scores of images and of their patches, and the maps, every fourth pixel."""
    image_scores, maps, _ = network._predict(images)
    with torch.no_grad():
        scores = -network.discriminator(network.pre_projection(features))
    return {
        "image_scores": np.ravel(image_scores),
        "scores": scores.reshape(len(images), *grid).numpy(),
        "maps": np.array(maps)[:, ::4, ::4],
    }


def _stand_in(losses: list[float]) -> None:
    """What the authors' code imports to show and to measure."""

    class Writer:
        def __init__(self, **options: object) -> None:
            pass

        def add_scalar(self, name: str, value: Tensor, step: int) -> None:
            if name == "loss":
                losses.append(float(value.detach()))

    shown = types.SimpleNamespace(update=lambda count: None, set_description_str=lambda text: None)
    parts = {
        "torch.utils.tensorboard": {"SummaryWriter": Writer},
        "tqdm": {"tqdm": lambda **options: nullcontext(shown)},
        "metrics": {},
        "utils": {"plot_segmentation_images": None},
    }
    for name, content in parts.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module


if __name__ == "__main__":
    main(*sys.argv[1:])
