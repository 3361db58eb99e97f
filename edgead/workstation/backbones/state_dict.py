"""Reading of weight files, without unpickling anything but tensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgead.errors import SettingsError


def load_tensors(file: Path, alternative: str) -> Any:
    """Load a file of torch.save onto the CPU; the caller must check its content.

    `alternative`: advice instead of a file with Python objects, as the end of a sentence.
    Raises SettingsError: the file holds Python objects, or is damaged.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SettingsError(
            f"{file} holds Python objects, which edgead does not unpickle: give a file of `state_dict()` alone, "
            f"{alternative}"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise SettingsError(f"{file} is damaged, or no file of torch.save ({error}): copy it again") from error


def load_safetensors(file: Path) -> dict[str, Tensor]:
    """Load a safetensors file onto the CPU; raises SettingsError if it is damaged."""
    try:
        return load_file(file)
    except SafetensorError as error:
        raise SettingsError(f"{file} is damaged, or no safetensors ({error}): copy it again") from error


def load_named(file: Path, entry: str, what: str, example: str) -> Mapping[str, Tensor]:
    """Load tensors by name from a file of safetensors or torch.save, where they may be under an entry.

    `entry`: entry that holds them in the authors' file.
    `what`, `example`: name of the expected content, and of a file with it, for messages.
    Raises SettingsError: the file is missing, damaged, or has other content.
    """
    if not file.is_file():
        raise SettingsError(f"there is no file {file}: give {what}, such as the authors' {example}")
    if file.suffix == ".safetensors":
        return load_safetensors(file)
    state = load_tensors(file, "or safetensors")
    inner = state.get(entry, state) if isinstance(state, Mapping) else None
    if not isinstance(inner, Mapping) or not all(isinstance(value, Tensor) for value in inner.values()):
        raise SettingsError(f"{file} holds a {type(state).__name__} without tensors by name: give {what}")
    return inner
