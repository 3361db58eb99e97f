"""What the authors' code of DRAEM computes from weights and images that are drawn by their names.

`python tests/draem_authors.py CODE OUT` writes the fixture, with CODE a copy of VitjanZ/DRAEM (MIT License). Its losses
ask for a GPU, which a CPU stands in for.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from authors import numbers, weight
from torch import Tensor, nn

SIZE, WIDTHS = (32, 64), {"reconstructive": 4, "discriminative": 2}
WINDOW, STRIDE = 21, 3


def unit(name: str) -> Tensor:
    """Images in 0..1."""
    return torch.from_numpy(1 / (1 + np.exp(-numbers(name, (2, 3, *SIZE)))))


def fill(part: str, network: nn.Module) -> nn.Module:
    state = network.double().state_dict()
    drawn = {
        name: torch.from_numpy(np.asarray(weight(f"{part}.{name}", tuple(x.shape)))) if x.is_floating_point() else x
        for name, x in state.items()
    }
    network.load_state_dict(drawn)
    return network


def seen(x: Tensor) -> np.ndarray:
    return x[..., ::STRIDE, ::STRIDE].detach().numpy()


def main(code: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    sys.path.insert(0, code)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.cuda = lambda self: self  # type: ignore[method-assign]
    from loss import SSIM, FocalLoss, ssim
    from model_unet import DiscriminativeSubNetwork, ReconstructiveSubNetwork
    from perlin import rand_perlin_2d_np

    repair = fill("reconstructive", ReconstructiveSubNetwork(3, 3, base_width=WIDTHS["reconstructive"]))
    segment = fill("discriminative", DiscriminativeSubNetwork(6, 2, base_channels=WIDTHS["discriminative"]))
    image, corrupted = unit("image"), unit("corrupted")
    mask = torch.from_numpy(numbers("mask", (2, 1, *SIZE)) > 1)
    found = {}
    for mode in ("eval", "train"):
        for network in (repair, segment):
            network.train(mode == "train")
        repaired = repair(corrupted)
        logits = segment(torch.cat((repaired, corrupted), dim=1))
        found |= {f"{mode}_reconstruction": seen(repaired), f"{mode}_logits": seen(logits)}
        if mode == "eval":
            shares = torch.softmax(logits, dim=1)
            averaged = nn.functional.avg_pool2d(shares[:, 1:], WINDOW, stride=1, padding=WINDOW // 2)
            found |= {"scores": seen(shares[:, 1]), "image_scores": averaged.amax(dim=(1, 2, 3)).detach().numpy()}
    parts = {"reconstructive": repair, "discriminative": segment}
    named = {f"{part}.{name}": x for part, network in parts.items() for name, x in network.state_dict().items()}
    found["statistics"] = np.concatenate([named[name].numpy() for name in sorted(named) if "running" in name])
    dark = corrupted - 1.5 * (corrupted > 0.9)
    found |= {
        "ssim_map": seen(ssim(corrupted, image, window=SSIM().window.expand(3, 1, 11, 11).double())[1]),
        "ssim_loss": SSIM()(corrupted, image),
        "l2_loss": nn.MSELoss()(corrupted, image),
        "dark_ssim_loss": SSIM()(dark, image),
    }
    shares = torch.softmax(logits, dim=1)
    both = nn.MSELoss()(repaired, image) + SSIM()(repaired, image)
    for name, smooth in (("", 1e-5), ("exact_", 0)):
        focal = FocalLoss(smooth=smooth)(shares, mask)
        found |= {f"{name}focal_loss": focal, f"{name}loss": both + focal}
    found["exact_loss"].backward()
    norms = {
        f"{part}.{name}": p.grad.norm() for part, network in parts.items() for name, p in network.named_parameters()
    }
    found["gradient_norms"] = np.array([float(norms[name]) for name in sorted(norms)])
    for name, shape, cells in (("noise0", (16, 24), (2, 4)), ("noise1", (32, 16), (1, 8))):
        np.random.seed(0)
        found[name] = rand_perlin_2d_np(shape, cells)
    np.savez_compressed(out, **{name: x.detach().numpy() if torch.is_tensor(x) else x for name, x in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
