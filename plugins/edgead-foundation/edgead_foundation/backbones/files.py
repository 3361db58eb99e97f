"""Weight files of foundation backbones, as written by their authors, timm, OpenCLIP or `edgead weights`.

Nothing is unpickled but tensors. OpenAI publishes CLIP as TorchScript archives, which can contain code: only files with
the hashes in OpenAI's own URLs are opened.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from edgead.artifact.files import file_sha256
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.workstation.backbones.state_dict import load_tensors
from edgead_foundation.backbones.names import TOWERS, Tower
from edgead_foundation.backbones.networks import create, rename

METADATA = "edgead_tower"
TEXT = "text."
"""Prefix of a text tower's names in files of `edgead weights`; OpenAI's own names have no prefix."""

INP_FORMER = "prototype_token"
"""Entry found only in the authors' trained INP-Former, whose tower has the prefix `encoder.` in its names."""

OPENAI = {
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "clip_vitb32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "clip_vitb16",
    "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836": "clip_vitl14",
    "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02": "clip_vitl14_336",
}
"""SHA-256 of OpenAI's archives, which is part of their addresses in openai/CLIP."""

_KERNELS = ("patch_embed.proj.weight", "visual.conv1.weight")
_POSITIONS = ("pos_embed", "visual.positional_embedding")
_OF_TEXT = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")
# Mark of DINOv3 trained on satellite images, which normalises pixels differently.
_SATELLITE = "local_cls_norm.weight"


def read_tower(file: Path, name: str) -> dict[str, Tensor]:
    """Read the weights of a tower by timm's names, float32, for images of `TOWERS[name].side`.

    Raises SettingsError: the file holds Python objects, is damaged, or holds another network; the message says what to
        do.
    """
    return _tower_of(file, *_read(file), name)


def _tower_of(file: Path, tensors: Mapping[str, Tensor], said: str | None, name: str) -> dict[str, Tensor]:
    if said in (None, name):
        found = _fitted(tensors, TOWERS[name])
        if found is not None:
            return found
    others = [said] if said else _recognise(tensors)
    what = f"weights of {' or '.join(others)}" if others else f"entries {_shown(tensors)}"
    raise SettingsError(
        f"{file} does not hold weights of {name}; it holds {what}: "
        + (f"give backbone={others[0]}" if others else "`edgead weights` says which files it reads")
    )


def read_text_tower(file: Path, name: str) -> dict[str, Tensor]:
    """Read the text tower that belongs to a tower of CLIP, by OpenAI's names, float32.

    Raises SettingsError: see `read_tower`; or the file has no text tower.
    """
    tensors, said = _read(file)
    found = _text_of(tensors)
    if not found or said not in (None, name):
        what = f"that of {said}" if found else "the image tower alone"
        raise SettingsError(
            f"{file} has no text tower for {name}, it has {what}: give the whole CLIP as OpenAI or OpenCLIP publish "
            "it, or what `edgead weights` makes of that"
        )
    return found


def read_inp_former(file: Path) -> dict[str, Tensor]:
    """Read a trained INP-Former's tensors without the backbone's, by the authors' names, float32; empty if none.

    Raises SettingsError: the file holds Python objects, or is damaged.
    """
    tensors, _ = _read_all(file)
    found = {key: value.float() for key, value in tensors.items() if not key.startswith("encoder.")}
    return found if INP_FORMER in tensors else {}


def convert(source: Path, destination: Path, name: str | None = None) -> dict[str, Any]:
    """Write a tower's weights as safetensors, by timm's names, and return facts about them.

    The text tower of a whole CLIP is written too, with names that begin with `TEXT`; of an INP-Former, only the
    backbone.

    `source`: file of the authors, of timm or of OpenCLIP.
    `destination`: file, replaced atomically.
    `name`: name in `TOWERS`; by default the only one that the tensors fit.
    Raises SettingsError: see `read_tower`; or no name is given and the tensors fit several towers, or none.
    """
    if destination.suffix != ".safetensors":
        raise SettingsError(f"{destination}: what is written is safetensors, so give a name that ends like that")
    if name is not None and name not in TOWERS:
        raise SettingsError(f"unknown tower {name!r}: choose one of {', '.join(TOWERS)}")
    found, said = _read(source)
    name = name or _only(source, found, said)
    tensors, text, tower = _tower_of(source, found, said, name), _text_of(found), TOWERS[name]
    facts = {
        "tower": name,
        "image_size": tower.side,
        "patch": tower.patch,
        "channels": tower.width,
        "blocks": tower.depth,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "text_parameters": sum(tensor.numel() for tensor in text.values()),
        "licence": tower.family.licence,
        "source": source.name,
        "source_sha256": file_sha256(source),
    }
    written = {**tensors, **{f"{TEXT}{key}": value for key, value in text.items()}}
    content = serialize({key: value.contiguous() for key, value in written.items()}, {METADATA: json.dumps(facts)})
    write_whole(destination, content)
    return {**facts, "sha256": hashlib.sha256(content).hexdigest()}


def recognise(source: Path) -> str:
    """Return the name of the only tower in `TOWERS` that a file fits; raises SettingsError if none or several fit."""
    return _only(source, *_read(source))


def _only(source: Path, tensors: Mapping[str, Tensor], said: str | None) -> str:
    found = [said] if said else _recognise(tensors)
    if not found:
        raise SettingsError(
            f"{source} holds none of the towers {', '.join(TOWERS)}; its entries are {_shown(tensors)}. Give a file "
            "of weights alone: of OpenAI, OpenCLIP, facebookresearch or timm, the whole tower and no classifier"
        )
    if len(found) > 1:
        raise SettingsError(f"{source} may be {' or '.join(found)}, whose files look the same: convert it with --tower")
    return found[0]


def _recognise(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, tower in TOWERS.items() if _fitted(tensors, tower) is not None]


def _fitted(tensors: Mapping[str, Tensor], tower: Tower) -> dict[str, Tensor] | None:
    """Rename the tensors to timm's names; None if they belong to another network."""
    if _SATELLITE in tensors or not _of_shape(tensors, tower):
        return None
    with torch.device("meta"):
        network = create(tower, (tower.side, tower.side))
    of_images = {key: value for key, value in tensors.items() if not key.startswith(TEXT)}
    try:
        named = rename(of_images, tower, network)
    except (KeyError, RuntimeError):  # tensors of another family
        return None
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    if {key: value.shape for key, value in named.items()} != wanted:
        return None
    return {key: value.float() for key, value in named.items()}


def _text_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the tensors of the text tower by OpenAI's names, float32; empty if there is none."""
    named = {key.removeprefix(TEXT): value.float() for key, value in tensors.items()}
    found = {key: value for key, value in named.items() if key.startswith(_OF_TEXT)}
    return found if "text_projection" in found else {}


def _of_shape(tensors: Mapping[str, Tensor], tower: Tower) -> bool:
    """Whether patches and positions have the tower's shapes: timm would silently resize another network's."""
    kernels = [tensors[key].shape for key in _KERNELS if key in tensors]
    counts = [tensors[key].shape[-2] - (tower.side // tower.patch) ** 2 for key in _POSITIONS if key in tensors]
    return kernels == [(tower.width, 3, tower.patch, tower.patch)] and all(count in (0, 1) for count in counts)


def _read(file: Path) -> tuple[Mapping[str, Tensor], str | None]:
    """Read the tensors by their names in the file, and the tower's name if the file states it."""
    tensors, said = _read_all(file)
    if INP_FORMER in tensors:
        tensors = {key.removeprefix("encoder."): x for key, x in tensors.items() if key.startswith("encoder.")}
    return tensors, said


def _read_all(file: Path) -> tuple[Mapping[str, Tensor], str | None]:
    with file.open("rb") as opened:
        start = opened.read(4)
    if start == b"PK\x03\x04" and _is_torchscript(file):
        return _read_torchscript(file)
    if start == b"PK\x03\x04" or start[:1] == b"\x80":
        return _read_state_dict(file), None
    try:
        with safe_open(file, framework="pt") as opened:
            facts = (opened.metadata() or {}).get(METADATA)
            said = json.loads(facts)["tower"] if facts else None
            return {name: opened.get_tensor(name) for name in opened.keys()}, said
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        if file.suffix == ".onnx":
            raise SettingsError(f"{file} is an ONNX graph: give a state dict, of torch.save or safetensors") from error
        raise SettingsError(f"{file} is damaged, or neither safetensors nor a file of torch.save ({error})") from error


def _read_state_dict(file: Path) -> Mapping[str, Tensor]:
    state = load_tensors(file, "or safetensors")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        inside = f" of {_shown(state)}" if isinstance(state, Mapping) else ""
        raise SettingsError(f"{file} holds a {type(state).__name__}{inside} instead of tensors by name")
    return state


def _is_torchscript(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise SettingsError(f"{file} is damaged ({error}): copy it again") from error


def _read_torchscript(file: Path) -> tuple[Mapping[str, Tensor], str]:
    digest = file_sha256(file)
    if digest not in OPENAI:
        raise SettingsError(
            f"{file} is an archive of TorchScript, which can run what is in it, and none of OpenAI's (its SHA-256 is "
            f"{digest}): give OpenAI's own file, or safetensors such as timm's on the Hugging Face Hub"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for torch.jit, which OpenAI's files need
        return torch.jit.load(file, map_location="cpu").state_dict(), OPENAI[digest]


def _shown(tensors: Mapping[str, Any]) -> str:
    names = sorted(map(str, tensors))
    return (", ".join(names[:4]) or "none") + ", ..." * (len(names) > 4)
