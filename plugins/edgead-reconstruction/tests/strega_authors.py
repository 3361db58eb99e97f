"""Numbers of StRegA: what the authors' code computes from weights and slices that are drawn by their names.

`python plugins/edgead-reconstruction/tests/strega_authors.py CODE THRESHOLDING OUT`, with the repository's `tests` on
PYTHONPATH, writes the fixture. CODE is a copy of soumickmj/StRegA, which has no licence: nothing of it is here.
THRESHOLDING is scikit-image's `filters/thresholding.py`, of which `threshold_otsu` is run; the opening by area is that
of its documentation, by scipy's labels.
"""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from authors import numbers, weight
from torch import Tensor

SIDE, LATENT, WIDTHS = 32, 6, (2, 3, 4)
BATCH = 3
SHARE, BETA, THETA = 0.3, 0.7, 1.3
ERRORS = (0.31, 0.05, 0.02, 0.4)
SQUARES = (12, 20, 32)
"""Slices and sides of the noise, which is drawn after seed 0."""
AREA = 9


def slices(name: str = "slices", count: int = BATCH, side: int = SIDE) -> np.ndarray:
    """Slices (n, side, side) in 0..1; about a sixth is background."""
    drawn = 1 / (1 + np.exp(-numbers(name, (count, side, side))))
    return np.where(drawn < 0.27, 0.0, drawn)


def volume() -> tuple[np.ndarray, np.ndarray]:
    """Smooth slices with their background, and what stands for their reconstructions, (4, 40, 40) each."""

    def smooth(name: str) -> np.ndarray:
        drawn = slices(name, 4, 44)
        return np.add.reduce([drawn[:, y : y + 40, x : x + 40] for y in range(5) for x in range(5)]) / 25

    image = smooth("volume")
    return np.where(image < 0.4, 0.0, image), smooth("rebuilt volume") * 1.3


def parameter(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight by its name in the authors' code; those with one number are slopes."""
    return 0.25 + 0.1 * np.tanh(numbers(name, shape)) if shape == (1,) else 2 * weight(name, shape)


def otsu(file: Path) -> Callable[[np.ndarray], Any]:
    """scikit-image's function, without the compiled modules that its file imports."""

    def histogram(image: np.ndarray, bins: int, **_: Any) -> tuple[np.ndarray, np.ndarray]:
        counts, edges = np.histogram(image, bins)
        return counts, (edges[:-1] + edges[1:]) / 2

    wanted = ("threshold_otsu", "_validate_image_histogram")
    tree = ast.parse(file.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in wanted]
    space: dict[str, Any] = {"np": np, "histogram": histogram}
    exec(compile(tree, str(file), "exec"), space)
    return space["threshold_otsu"]


def opened(mask: np.ndarray, area: int) -> np.ndarray:
    """The definition: of a mask, each set of pixels that hang together by their sides, if it is large enough."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return (sizes >= area)[labels] & mask


def main(code: str, thresholding: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    sys.path.insert(0, code)
    torch.set_default_dtype(torch.float64)
    from ccevae import VAE
    from helpers import geco_beta_update, get_ema, get_square_mask, kl_loss_fn, rec_loss_fn

    network = VAE((1, SIDE, SIDE), z_dim=LATENT, fmap_sizes=WIDTHS, activation_op=torch.nn.PReLU)
    state = {name: parameter(name, tuple(x.shape)) for name, x in network.state_dict().items()}
    network.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})
    x = torch.from_numpy(slices())[:, None]
    found: dict[str, Any] = {}
    mean, std = network.encode(x)
    found |= {"mean": mean, "std": std, "rebuilt": network(x, sample=False, no_dist=True)}

    drawn = iter([torch.from_numpy(numbers(name, tuple(mean.shape))) for name in ("noise", "noise of context")])

    def given(shape: Any, dtype: Any, device: Any) -> Tensor:
        return next(drawn)

    torch.distributions.normal._standard_normal = given  # type: ignore[assignment]
    squared = torch.where(torch.from_numpy(slices("squares"))[:, None] > 0.8, torch.full_like(x, 0.6), x)
    again, codes = network(x)
    kl = kl_loss_fn(codes, sumdim=(1, 2, 3))
    error = rec_loss_fn(again, x, sumdim=(1, 2, 3))
    of_context = rec_loss_fn(network(squared)[0], x, sumdim=(1, 2, 3))
    loss = (1.0 - SHARE) * (kl * BETA + error * THETA) + SHARE * of_context  # as train.py sums them
    loss.backward()
    norms = {name: p.grad.norm() for name, p in network.named_parameters()}
    found |= {"kl": kl, "error": error, "loss": loss}
    found["gradient_norms"] = np.array([float(norms[name]) for name in sorted(norms)])

    theta, moving, thetas = 1.0, None, []
    for one in ERRORS:
        moving = get_ema(torch.tensor(one), moving, 0.9)
        theta = geco_beta_update(torch.tensor(theta), moving, 0.1, 1e-4, speedup=2)
        thetas.append(float(theta))
    found["thetas"] = np.array(thetas)

    random.seed(0)
    np.random.seed(0)
    shape = (SQUARES[0], 1, *SQUARES[1:])
    square = get_square_mask(shape, square_size=(0, np.max(SQUARES[1:]) // 2), noise_val=(0.1, 0.9), n_squares=(0, 3))
    found["squares"] = square[:, 0]

    # As Pipeline.ipynb does from `diff_mask` on, with a smaller area.
    image, made = volume()
    difference = made - image
    difference[difference < 0] = 0
    difference[difference > 0.2] = 1
    value = otsu(Path(thresholding))(difference)
    final = np.stack([opened(one, AREA) for one in difference > value])
    final[image == 0] = 0
    assert 0 < final.sum() < (difference > value).sum()
    found |= {"otsu": np.array(value), "lesions": final}
    np.savez_compressed(out, **{name: x.detach().numpy() if torch.is_tensor(x) else x for name, x in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
