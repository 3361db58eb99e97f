"""What the authors' own code gives: its numbers, in `fixtures/authors`, and the weights that it was run with.

The weights and inputs are drawn, so that they need no file. `RandomState` draws the same with every version of numpy.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

FOLDERS = [Path(__file__).parent, *Path(__file__).parents[1].glob("plugins/*/tests")]


def authors_numbers(method: str) -> dict[str, np.ndarray]:
    """Numbers by name, of the core's methods and of plug-ins'; METHOD.md beside them says where they come from."""
    (found,) = (file for folder in FOLDERS for file in folder.glob(f"fixtures/authors/{method}.npz"))
    with np.load(found, allow_pickle=False) as file:
        return dict(file)


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, float64, that depend on the name alone."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter or buffer of a network, by its name in the authors' code."""
    # A repaired image reaches from -0.5 to 0.5.
    x = numbers(name, shape) * (0.1 if name.startswith("reconstructive.") and "fin_out" in name else 1)
    if len(shape) == 4:  # a convolution
        return x / np.sqrt(np.prod(shape[1:]))
    if shape == (1,):  # a gamma
        return 0.5 + 0.2 * x
    if name.endswith("running_var"):
        return 1 + 0.5 * np.tanh(x)
    if name.endswith(("running_mean", "bias")):
        return 0.3 * x
    return 1 + 0.3 * x  # the gain of a normalisation


def load_weights(module: nn.Module, authors_name: Callable[[str], str]) -> None:
    """Give a module the weights that the authors' code was run with, float64."""
    module.double()
    state = module.state_dict()
    for name, value in state.items():
        if value.dtype.is_floating_point:
            state[name] = torch.from_numpy(np.asarray(weight(authors_name(name), tuple(value.shape))))
    module.load_state_dict(state)
