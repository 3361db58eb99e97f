"""Files of what diffusion has learnt: whole or not at all, as safetensors alone."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.files.atomic import UNFINISHED, write_whole
from edgead.workstation.diffusion.anogen import Word
from edgead.workstation.diffusion.seas_masks import MaskPredictor
from edgead.workstation.diffusion.stable_diffusion import PARTS, StableDiffusion


def save_model(model: StableDiffusion, folder: Path) -> None:
    """Write a model that SeaS has trained; `open_stable_diffusion` reads it.

    Raises
    ------
    SettingsError
        If the folder exists: what took hours is not replaced.
    OSError
        It cannot be written; nothing is left.
    """
    if folder.exists():
        raise SettingsError(f"{folder} exists: give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}{UNFINISHED}")
    parts = (model.unet, model.vae, model.text_encoder, model.tokenizer, model.schedule)
    try:
        for name, part in zip(PARTS, parts, strict=True):
            part.save_pretrained(unfinished / name)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def save_predictor(predictor: MaskPredictor, file: Path) -> None:
    """Write what finds the masks of made defects."""
    write_whole(file, save(_tensors(predictor)))


def load_predictor(file: Path) -> MaskPredictor:
    """Read what `save_predictor` wrote; its sizes follow from the tensors.

    Raises
    ------
    SettingsError
        If it is no such file.
    """
    state = _read(file)
    try:
        unet = [state[f"{name}_feature_conv.weight"].shape[1] for name in ("low", "mid")]
        decoder = [state[f"refinements.{number}.conv1.0.weight"].shape[1] for number in range(3)]
        predictor = MaskPredictor((unet[0], unet[1]), (decoder[0], decoder[1], decoder[2]))
        predictor.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError) as error:
        raise SettingsError(f"{file} holds no mask prediction of SeaS ({str(error).splitlines()[0]})") from error
    return predictor.eval()


def save_word(word: Word, file: Path) -> None:
    """Write a word that AnoGen has learnt."""
    write_whole(file, save(_tensors(word)))


def load_word(model: StableDiffusion, file: Path) -> Word:
    """Read what `save_word` wrote, for the model that it was learnt with.

    Raises
    ------
    SettingsError
        If it is no such file, or of another model.
    """
    word = Word(model)
    try:
        word.load_state_dict(_read(file))
    except RuntimeError as error:
        raise SettingsError(f"{file} holds no word of this model: {' '.join(str(error).split())[:200]}") from error
    return word.to(model.device)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to(torch.device("cpu")).contiguous() for name, value in module.state_dict().items()}


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise SettingsError(f"there is no file {file}") from error
    except (SafetensorError, OSError) as error:
        raise SettingsError(f"{file} is damaged, or no safetensors ({error})") from error
