"""Files of weights, read without unpickling anything but tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgead.errors import SettingsError


def load_tensors(file: Path, alternative: str) -> Any:
    """Load what torch.save wrote, onto the CPU; what it is, the caller checks.

    Parameters
    ----------
    file : Path
    alternative : str
        What to give in place of a file with Python objects, as the end of a sentence.

    Raises
    ------
    SettingsError
        It holds Python objects, or is damaged.
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
    """Load safetensors, onto the CPU; raises SettingsError where they are damaged."""
    try:
        return load_file(file)
    except SafetensorError as error:
        raise SettingsError(f"{file} is damaged, or no safetensors ({error}): copy it again") from error
