"""Loading of a Stable Diffusion from a user's folder, offline and only from safetensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.process.installation import plugin_command
from edgead.workstation.trainer.device import choose_device

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class StableDiffusion:
    """Components of a Stable Diffusion; the networks are frozen and in evaluation mode.

    `unet`, `vae`, `text_encoder` (nn.Module): networks of diffusers and transformers.
    `tokenizer`: transformers.CLIPTokenizer.
    `schedule` (diffusers.DDPMScheduler): schedule of the noise in training.
    """

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    schedule: Any
    device: torch.device

    @property
    def side(self) -> int:
        """Side of the images in pixels."""
        return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    def words(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> text embeddings for the U-Net, (n, tokens, d)."""
        length = self.tokenizer.model_max_length
        options = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
        ids = self.tokenizer(list(prompts), **options).input_ids
        return self.text_encoder(ids.to(self.device))[0]

    def encode(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images in -1..1, (n, 3, side, side) -> scaled latents, drawn from the encoder's output, (n, c, h, w)."""
        with torch.no_grad():
            latents = self.vae.encode(images.to(self.device)).latent_dist.sample(generator)
        return latents * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w) -> images in about -1..1, (n, 3, side, side)."""
        return self.vae.decode(latents / self.vae.config.scaling_factor).sample

    def add_noise(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add noise to each of the latents at a random step of the schedule; return noisy latents, noise and steps."""
        steps = torch.randint(self.schedule.config.num_train_timesteps, (len(latents),), device=self.device)
        noise = torch.randn_like(latents)
        return self.schedule.add_noise(latents, noise, steps), noise, steps


def open_stable_diffusion(folder: Path, *, device: str = "auto", force: bool = False) -> StableDiffusion:
    """Open a folder written by diffusers; nothing is downloaded or unpickled.

    `folder`: folder with `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`.
    `device`: name in `edgead.workstation.trainer.device.DEVICES`.
    `force`: run without a GPU, which takes hours for each image.
    Raises SettingsError: there is no GPU and no `force`, packages are missing, or the folder is no Stable Diffusion.
    """
    place = choose_device(device)
    if place.type == "cpu" and not force:
        raise SettingsError("Stable Diffusion needs a GPU and torch finds none: force it to wait for hours on a CPU")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise SettingsError(
            f"{folder} is no Stable Diffusion: {', '.join(missing)} missing; give a folder that diffusers wrote"
        )
    parts = _read_parts(folder)
    for network in (parts["unet"], parts["vae"], parts["text_encoder"]):
        network.to(place).eval().requires_grad_(False)
    return StableDiffusion(**parts, device=place)


def _read_parts(folder: Path) -> dict[str, Any]:
    try:
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise SettingsError(f"{error.name} is missing: {plugin_command('edgead-diffusion')}") from error

    local: dict[str, Any] = {"local_files_only": True}
    weights = {**local, "use_safetensors": True}
    # The option that saves memory while loading needs another package.
    tensors = {**weights, "torch_dtype": torch.float32, "low_cpu_mem_usage": False}
    try:
        return {
            "unet": UNet2DConditionModel.from_pretrained(folder, subfolder="unet", **tensors),
            "vae": AutoencoderKL.from_pretrained(folder, subfolder="vae", **tensors),
            "text_encoder": CLIPTextModel.from_pretrained(
                folder, subfolder="text_encoder", dtype=torch.float32, **weights
            ),
            "tokenizer": CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", **local),
            "schedule": DDPMScheduler.from_pretrained(folder, subfolder="scheduler", **local),
        }
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(
            f"{folder} cannot be opened ({reason}): its weights must be safetensors, not .bin files, which are pickles"
        ) from error


@contextmanager
def outputs_of(*modules: nn.Module) -> Iterator[list[Tensor]]:
    """Record the last output of each module, in their order, within a `with`."""
    found: list[Tensor] = [torch.empty(0)] * len(modules)

    def keep(number: int) -> Any:
        def hook(module: nn.Module, given: Any, output: Tensor) -> None:
            found[number] = output

        return hook

    hooks = [module.register_forward_hook(keep(number)) for number, module in enumerate(modules)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def to_tensor(image: np.ndarray, side: int) -> Tensor:
    """Convert the middle square of a BGR image, uint8 (h, w, 3), to RGB in -1..1, (3, side, side)."""
    return torch.from_numpy(middle(image, side)[..., ::-1].copy()).permute(2, 0, 1).float() / 127.5 - 1


def middle(image: np.ndarray, side: int) -> np.ndarray:
    """Scale the shorter side of an image or mask to `side`, and crop its middle square."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (scaled.shape[0] - side) // 2, (scaled.shape[1] - side) // 2
    return scaled[top : top + side, left : left + side]


def to_images(pixels: Tensor) -> list[np.ndarray]:
    """Convert RGB in about -1..1, (n, 3, h, w), to uint8 BGR images (h, w, 3)."""
    grey = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(x[..., ::-1]) for x in grey]
