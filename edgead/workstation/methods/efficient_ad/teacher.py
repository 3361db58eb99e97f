"""Public teachers of efficient_ad; none comes with edgead.

All of them take RGB in 0..1, normalised like ImageNet: nelson1425/EfficientAd does that in its data loader, anomalib at
the start of `forward`, edgead in `StudentTeacher.normalise`. None has a layer or a buffer for it, so the weights are
the same. Padding is not in the weights either: nelson1425/EfficientAd distils with it, and both use the teacher without
it unless asked, as `padding=False` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.workstation.backbones.state_dict import load_tensors
from edgead.workstation.methods.efficient_ad.student_teacher import CHANNELS, ModelSize, build_pdn

LAYOUTS: dict[str, dict[ModelSize, tuple[str, ...]]] = {
    "nelson1425/EfficientAd": {"small": ("0", "3", "6", "8"), "medium": ("0", "3", "6", "8", "10", "12")},
    "anomalib": {
        "small": ("conv1", "conv2", "conv3", "conv4"),
        "medium": ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6"),
    },
}
"""Names of the convolutions in order, by project: one uses an nn.Sequential, the other a module with attributes."""

SOURCES = (
    "teacher_{size}.pth in the folder models of the GitHub repository nelson1425/EfficientAd, or "
    "pretrained_teacher_{size}.pth in efficientad_pretrained_weights.zip of anomalib's releases"
)

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


@dataclass(frozen=True)
class TeacherFile:
    """Content of a teacher file: the model size, and the weights by the names of `build_pdn`, float32."""

    size: ModelSize
    tensors: dict[str, Tensor]


def read_teacher(source: Path) -> TeacherFile:
    """Read a teacher from safetensors or a state dict of torch; nothing is unpickled but tensors.

    Raises SettingsError: the file is neither, holds Python objects, or is no teacher; the message says what was found
        and what to do.
    """
    with source.open("rb") as opened:
        start = opened.read(len(_ZIP))
    if start == _ZIP or start[:1] == _PICKLE:
        return _recognise(_read_state_dict(source), source)
    try:
        return _recognise(load_file(source), source)
    except SafetensorError as error:
        raise SettingsError(f"{source} is no teacher: neither safetensors nor a state dict ({error})") from error


def _read_state_dict(source: Path) -> Mapping[str, Any]:
    state = load_tensors(
        source,
        "such as those that pretraining.py of nelson1425/EfficientAd writes with _state.pth at the end of their names",
    )
    if not isinstance(state, Mapping):
        raise SettingsError(f"{source} holds a {type(state).__name__} instead of a state dict of a teacher")
    return state


def _recognise(state: Mapping[str, Any], source: Path) -> TeacherFile:
    """Recognise the project and the size from the names of tensors, and rename these to ours."""
    for sizes in LAYOUTS.values():
        for size, layers in sizes.items():
            if state.keys() == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}:
                return TeacherFile(size, _renamed(state, size, layers, source))
    names = sorted(map(str, state))
    shown = ", ".join(names[:4]) + ", ..." * (len(names) > 4)
    raise SettingsError(
        f"{source} is no teacher of efficient_ad; its {len(names)} entries are {shown or 'none'}. Give "
        f"{SOURCES.format(size='small')}"
    )


def _renamed(state: Mapping[str, Any], size: ModelSize, layers: tuple[str, ...], source: Path) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = build_pdn(size, CHANNELS)
    convolutions = [name for name, layer in network.named_children() if isinstance(layer, nn.Conv2d)]
    expected, tensors = network.state_dict(), {}
    for ours, theirs in zip(convolutions, layers, strict=True):
        for kind in ("weight", "bias"):
            value, shape = state[f"{theirs}.{kind}"], tuple(expected[f"{ours}.{kind}"].shape)
            if not isinstance(value, Tensor) or tuple(value.shape) != shape:
                raise SettingsError(f"{source}: {_misfit(value, theirs, kind, size, shape)}")
            if not value.isfinite().all():
                raise SettingsError(f"{source}: {theirs}.{kind} holds values that are not finite: copy the file again")
            tensors[f"{ours}.{kind}"] = value.float()
    return tensors


def _misfit(value: Any, layer: str, kind: str, size: ModelSize, shape: tuple[int, ...]) -> str:
    if not isinstance(value, Tensor):
        return f"{layer}.{kind} is a {type(value).__name__}, not a tensor"
    if value.ndim == len(shape) and value.shape[0] == 2 * shape[0] == 2 * CHANNELS:
        return (
            f"this is a student: its last layer has {value.shape[0]} channels where a teacher has {shape[0]}. Give the "
            f"teacher, {SOURCES.format(size=size)}"
        )
    return (
        f"{layer}.{kind} has the shape {tuple(value.shape)}, that of a teacher of model_size {size} is {shape}: "
        f"give {SOURCES.format(size=size)}"
    )


def load_teacher(size: ModelSize, *, file: Path | None = None, padding: bool = False) -> nn.Sequential:
    """Build a teacher with the weights of a file, in evaluation mode and frozen.

    `size`: {"small", "medium"}.
    `file`: see `read_teacher`.
    `padding`: see `build_pdn`.
    Raises SettingsError: no file is given, or it holds no teacher of that size.
    """
    network = build_pdn(size, CHANNELS, padding=padding)
    if file is None or not file.is_file():
        missing = f"{file}: no such file" if file else "no teacher comes with edgead"
        raise SettingsError(f"{missing}. Give --weights with {SOURCES.format(size=size)}")
    found = read_teacher(file)
    if found.size != size:
        raise SettingsError(
            f"{file} is a teacher of model_size {found.size}, not {size}: take a preset of that size, see `edgead "
            f"presets`, or --set model_size={found.size}, or another file"
        )
    network.load_state_dict(found.tensors)
    return network.eval().requires_grad_(False)


@torch.no_grad()
def fold_normalisation(teacher: nn.Sequential, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Fold the normalisation (output - mean) / std, by channel, into a teacher's last convolution."""
    last = teacher[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    last.weight.div_(std.view(-1, 1, 1, 1))
    last.bias.sub_(mean).div_(std)
