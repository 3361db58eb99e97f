"""Teachers of efficient_ad: the one that comes with edgead, what `edgead distill` wrote, and public ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialize
from torch import nn

from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.workstation.methods.efficient_ad.pdn import CHANNELS, ModelSize, build_pdn
from edgead.workstation.methods.efficient_ad.teacher_files import METADATA, SOURCES, read_teacher

PACKAGED = Path(__file__).parent / "teachers"


def save_teacher(network: nn.Module, file: Path, facts: dict[str, Any]) -> None:
    """Write a teacher as float16 safetensors, whole or not at all, with `facts` as its metadata."""
    tensors = {name: value.half().cpu().contiguous() for name, value in network.state_dict().items()}
    write_whole(file, serialize(tensors, {METADATA: json.dumps(facts)}))


def load_teacher(size: ModelSize, *, file: Path | None = None, padding: bool = False) -> nn.Sequential:
    """Build a teacher with its distilled weights, in evaluation mode and frozen.

    Parameters
    ----------
    size : {"small", "medium", "nano"}
    file : Path, optional
        See `read_teacher`; instead of the teacher that comes with edgead.
    padding : bool
        See `build_pdn`.

    Raises
    ------
    SettingsError
        No teacher of that size comes with edgead, or the file holds no teacher of that size.
    """
    network = build_pdn(size, CHANNELS[size], padding=padding)
    source = file or PACKAGED / f"{size}.safetensors"
    if not source.is_file():
        missing = f"{file}: no such file" if file else f"no teacher of model_size {size} comes with edgead"
        public = f"Give --weights with {SOURCES.format(size=size)}; or make" if size != "nano" else "Make"
        raise SettingsError(
            f"{missing}. {public} one with `edgead distill IMAGES --model-size {size} -o FILE` and give --weights FILE"
        )
    found = read_teacher(source)
    if found.size != size:
        raise SettingsError(
            f"{source} is a teacher of model_size {found.size}, not {size}: take a preset of that size, see `edgead "
            f"presets`, or --set model_size={found.size}, or another file"
        )
    try:
        network.load_state_dict(found.tensors)
    except RuntimeError as error:
        raise SettingsError(f"{source} is no teacher of model_size {size}: {error}") from error
    return network.eval().requires_grad_(False)


@torch.no_grad()
def fold_normalisation(teacher: nn.Sequential, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Make a teacher give (output - mean) / std, by channel: its last convolution takes the division in."""
    last = teacher[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    last.weight.div_(std.view(-1, 1, 1, 1))
    last.bias.sub_(mean).div_(std)
