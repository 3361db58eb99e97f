"""Weight files of MetaUAS, with the authors' names; nothing is unpickled but tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.workstation.backbones.state_dict import load_safetensors, load_tensors

SOURCE = "metauas-256.ckpt or metauas-512.ckpt of csgaobb/MetaUAS on the Hugging Face Hub"

# Number of each stage's first block in the authors' encoder, and names of its layers. The two blocks of the first
# stage have no expansion, so that timm's names of the others begin one later.
_FIRST_BLOCK = {"stride4": 0, "stride8": 6, "stride16": 10, "stride32": 22}
_SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
_LAYERS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    **_SQUEEZE,
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
_PLAIN_LAYERS = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", **_SQUEEZE, "conv_pw": "_project_conv", "bn2": "_bn2"}
_PLAIN_BLOCKS = 2
_ALIGNMENTS = {"stride32": 0, "stride16": 1, "stride8": 2}
_DECODER = {
    "first": "conv1",
    "second": "conv2",
    "gate_inputs": "attention1.attention",
    "gate_outputs": "attention2.attention",
}
_GATES = {"channels": "cSE", "places": "sSE"}
# Tensors of the classifier that the encoder was part of.
_UNUSED = ("encoder._conv_head.", "encoder._bn1.")


def authors_name(name: str) -> str:
    """Return the authors' name for an entry of the network's state dict."""
    _, part, *rest = name.split(".")
    if part == "last":
        return f"mask_head.{rest[0]}"
    if part == "alignments":
        return f"alignment.{_ALIGNMENTS[rest[0]]}.alignment_layer.dimensionality_reduction.{rest[-1]}"
    if part == "decoder":
        _, number, layer, *end = rest
        gate = [_GATES[end.pop(0)]] if layer.startswith("gate") else []
        return ".".join(["decoder.blocks", number, _DECODER[layer], *gate, *end])
    stage, number, *end = rest
    if stage == "stem":
        return f"encoder.{('_conv_stem', '_bn0')[int(number)]}.{end[0]}"
    block = _FIRST_BLOCK[stage] + int(number)
    layers = _PLAIN_LAYERS if block < _PLAIN_BLOCKS else _LAYERS
    return f"encoder._blocks.{block}.{layers['.'.join(end[:-1])]}.{end[-1]}"


def is_weight(name: str) -> bool:
    """Whether an entry of the network's state dict comes from the file; prompt and normalisation do not."""
    return not name.startswith("prompt_") and name not in ("encoder.mean", "encoder.std")


def load_checkpoint(network: nn.Module, file: Path) -> None:
    """Load the authors' checkpoint, of torch.save or as safetensors, into a `MetaUasNetwork`.

    Raises SettingsError: the file holds Python objects, is damaged, or has other content; the message says what was
        found and what to do.
    """
    state, expected = _read(file), network.state_dict()
    names = {name: authors_name(name) for name in expected if is_weight(name)}
    missing = sorted(set(names.values()) - state.keys())
    others = sorted(name for name in state.keys() - set(names.values()) if not name.startswith(_UNUSED))
    if missing or others:
        raise SettingsError(
            f"{file} is no checkpoint of MetaUAS: of its {len(state)} entries {len(others)} are unknown"
            f"{_such_as(others)}, and {len(missing)} are missing{_such_as(missing)}. Give {SOURCE}"
        )
    for ours, theirs in names.items():
        if state[theirs].shape != expected[ours].shape:
            raise SettingsError(
                f"{file}: {theirs} has the shape {tuple(state[theirs].shape)}, that of MetaUAS is "
                f"{tuple(expected[ours].shape)}: give {SOURCE}"
            )
        if not state[theirs].isfinite().all():
            raise SettingsError(f"{file}: {theirs} holds values that are not finite: copy the file again")
    network.load_state_dict({**expected, **{ours: state[theirs] for ours, theirs in names.items()}})


def _read(file: Path) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_safetensors(file)
    state: Any = load_tensors(file, SOURCE)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise SettingsError(f"{file} holds a {type(state).__name__} instead of tensors by name: give {SOURCE}")
    return state


def _such_as(names: list[str]) -> str:
    return f" ({names[0]}{', ...' * (len(names) > 1)})" if names else ""
