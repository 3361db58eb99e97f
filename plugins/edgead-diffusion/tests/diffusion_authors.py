"""Numbers of the authors' code of SeaS and of AnoGen, from weights and inputs that are drawn by their names.

`PYTHONPATH=tests python plugins/edgead-diffusion/tests/diffusion_authors.py seas CODE OUT` and `... anogen CODE OUT`
write the fixtures, with CODE a copy of HUST-SLOW/SeaS (MIT License, commit 4645d3bda982855388bfc46fd1ceebc66b48c3f7) or
of gaobb/AnoGen (no license, commit 048a0de6ad5e134cd268b998703ab18f16b76333). SeaS brings its own diffusers, some of
whose imports have since gone; they stand in below.
"""

from __future__ import annotations

import importlib.metadata
import random
import sys
import types

import numpy as np
import torch
from authors import numbers
from torch import Tensor

SIDE, WORDS, WIDTH = 64, 9, 12
"""Of the latents; words of a prompt and their channels. The maps of SeaS have names for latents of 64 alone."""
UNET = {
    "sample_size": SIDE,
    "block_out_channels": (8, 8, 16, 16),
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": WIDTH,
    "layers_per_block": 2,
}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SAMPLING_STEPS, MORE_STEPS = 25, 1500
TEMPLATE = np.pad(np.full((150, 130), 255, np.uint8), ((50, 56), (90, 36)))
BOXES = (((0.2, 0.25), (0.25, 0.6), True), ((0.05, 0.1), (0.05, 0.1), False))


def filled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names in the authors' code: products by their width, gains around 1, the rest around 0."""
    return {
        name: torch.from_numpy(_fill(name, tuple(value.shape))) if value.is_floating_point() else value
        for name, value in state.items()
    }


def _fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    x = numbers(name, shape)
    if name.endswith("stored_var"):
        return 1 + 0.5 * np.tanh(x)
    if name.endswith(("gain", "weight")) and len(shape) == 1:
        return 1 + 0.3 * x
    if len(shape) == 1:
        return 0.3 * x
    return 1.3 * x / np.sqrt(np.prod(shape[1:]))


def drawn(name: str, *shape: int) -> Tensor:
    """Standard normal numbers by their name, float64."""
    return torch.from_numpy(numbers(name, shape))


def make_batch() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Noisy latents, their steps, words, the noise, and masks of the first half: 512 px, one of them small."""
    masks = torch.zeros(2, 1, 8 * SIDE, 8 * SIDE, dtype=torch.float64)
    masks[0, :, 100:260, 40:200] = 1
    masks[1, :, 333:349, 210:450] = 1
    words = drawn("words", 4, WORDS, WIDTH)
    return (
        drawn("latents", 4, 4, SIDE, SIDE),
        torch.tensor([5, 300, 600, 999]),
        words,
        drawn("noise", 4, 4, SIDE, SIDE),
        masks,
    )


def make_features() -> tuple[list[Tensor], list[Tensor]]:
    """What the mask prediction gets, a sixteenth of its sides: of two images with a defect and two good ones."""
    unet = [drawn("low", 4, 1280, 2, 2), drawn("middle", 4, 640, 4, 4)]
    decoder = [(512, 8), (512, 16), (256, 32)]
    return unet, [drawn(f"decoder {side}", 2, channels, side, side) for channels, side in decoder]


def toy_noise(x: Tensor, steps: Tensor, words: Tensor) -> Tensor:
    """Stands for a network: something smooth of all that it is given."""
    shift = words.mean(dim=(1, 2))[:, None, None, None]
    return torch.tanh(x.roll(1, dims=-1) + 0.3 * x * shift + torch.cos(steps / 300)[:, None, None, None])


def seas(code: str, out: str) -> None:
    """Run the authors' code of SeaS."""
    _stand_in(code)
    torch.set_default_dtype(torch.float64)
    found = {**_unet(), **_losses(), **_masks(), **_sampling()}
    np.savez_compressed(out, **{name: np.asarray(value) for name, value in found.items()})


def _unet() -> dict[str, np.ndarray]:
    from models.modules._unet_2d_condition import UNet2DConditionModel
    from models.seas import SeaS

    unet = UNet2DConditionModel(**UNET)
    unet.load_state_dict(filled(unet.state_dict()))
    latents, steps, words, noise, masks = make_batch()
    with torch.no_grad():
        predicted, _, _, maps = unet(latents, steps, words)
    found = {"predicted": predicted[..., ::8, ::8]}
    alignment = 0.0
    target = torch.nn.functional.interpolate(masks, size=(64, 64), mode="bilinear", align_corners=False)
    for side in ("32", "16"):
        # The loop of SeaS.main, lines 446 to 481.
        of_defects = {side: torch.chunk(maps[side], 2, dim=1)[0].squeeze(-1)}
        found[f"maps{side}"] = of_defects[side][:8].transpose(0, 1)[..., ::2, ::2]
        target = torch.nn.functional.max_pool2d(target, kernel_size=2, stride=2)
        part, defect = SeaS.normalize_attention_maps(None, of_defects, side, 1, 4)
        inside = target == 1
        alignment += ((defect.unsqueeze(1) - target) ** 2).mean()
        alignment += torch.nn.functional.mse_loss(part.unsqueeze(1)[inside], (1 - target)[inside])
    halves = zip(predicted.chunk(2), noise.chunk(2), strict=True)
    noises = sum(torch.nn.functional.mse_loss(a, b) for a, b in halves)
    return {**found, "alignment": alignment, "noise_losses": noises}


def _losses() -> dict[str, np.ndarray]:
    from models.modules._focal_loss import FocalLoss

    masks = torch.sigmoid(9 * drawn("focal masks", 2, 1, 16, 16)).clamp(0, 0.99).add(0.02).clamp(max=1)
    return {"focal": FocalLoss()(drawn("focal", 2, 2, 16, 16).softmax(dim=1), masks)}


def _masks() -> dict[str, np.ndarray]:
    from models.modules import _RMP

    interpolate = torch.nn.functional.interpolate
    smaller_side = {64: 4, 512: 32}

    def smaller(x: Tensor, size: int | None = None, **options: object) -> Tensor:
        return interpolate(x, size=smaller_side.get(size), **options)

    _RMP.F = types.SimpleNamespace(**{**vars(torch.nn.functional), "interpolate": smaller})
    network = _RMP.RMP()
    network.load_state_dict(filled(network.state_dict()))
    unet, decoder = make_features()
    # The first up block's features take no part.
    features = [None, *unet]
    with torch.no_grad():
        network.eval()
        inferred = network([None, *(x[:2] for x in unet)], None, decoder, forward_type="inference")
        network.train()
        whole, coarse = network(features, None, decoder)
    return {"inferred": inferred[:, 1, ::2, ::2], "whole": whole[:, 1, ::2, ::2], "coarse": coarse[:, 1]}


def _sampling() -> dict[str, np.ndarray]:
    from models.modules._scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    torch.set_default_dtype(torch.float32)
    solver = DPMSolverMultistepScheduler(**SCHEDULE)
    good, noise, words = drawn("good", 2, 4, 8, 8), drawn("start", 2, 4, 8, 8), drawn("prompt", 2, 3, 4)
    start = x = solver.add_morenoise(good, noise, MORE_STEPS)
    solver.set_timesteps(SAMPLING_STEPS)
    for step in solver.timesteps:
        x = solver.step(toy_noise(x, step.expand(2), words), step, x).prev_sample
    return {"start": start, "sampled": x, "sampled_at": solver.timesteps}


def anogen(code: str, out: str) -> None:
    """Run the authors' code of AnoGen."""
    sys.path[:0] = [f"{code}/DIFFUSION", f"{code}/DIFFUSION/utils_scripts"]
    for name, content in {"einops": {"repeat": None}, "ldm.util": {"instantiate_from_config": None}}.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)
    Tensor.to = lambda self, *given, to=Tensor.to: self if given[:1] == (torch.device("cuda"),) else to(self, *given)
    found = {**_blending(), **_boxes(), **_masked_loss(code)}
    np.savez_compressed(out, **{name: np.asarray(value) for name, value in found.items()})


def _blending() -> dict[str, np.ndarray]:
    from ldm.models.diffusion.ddim import DDIMSampler
    from ldm.modules.diffusionmodules.util import make_beta_schedule
    from PIL import Image

    betas = make_beta_schedule("linear", 1000, 0.00085, 0.012)
    alphas = torch.from_numpy(np.cumprod(1 - betas))
    previous = torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])

    def q_sample(x: Tensor, steps: Tensor) -> Tensor:
        a = alphas[steps][:, None, None, None]
        return a.sqrt() * x + (1 - a).sqrt() * drawn(f"step {int(steps[0])}", *x.shape)

    model = types.SimpleNamespace(
        num_timesteps=1000, alphas_cumprod=alphas, alphas_cumprod_prev=previous, betas=torch.from_numpy(betas),
        device=torch.device("cpu"), apply_model=toy_noise, q_sample=q_sample,
    )  # fmt: skip
    # What its script makes of a box: 1 outside.
    outside = 1 - np.array(Image.fromarray(make_box()).convert("1").resize((8, 8))).astype(np.float32)
    good = drawn("good", 2, 4, 8, 8)
    made, _ = DDIMSampler(model).sample(
        S=50, conditioning=drawn("prompt", 2, 3, 4), batch_size=2, shape=[4, 8, 8], verbose=False, eta=0.0,
        unconditional_guidance_scale=10.0, unconditional_conditioning=drawn("no prompt", 2, 3, 4), x0=good,
        mask=torch.from_numpy(outside).expand(2, 1, 8, 8), x_T=drawn("start", 2, 4, 8, 8),
    )  # fmt: skip
    return {"made": made, "outside": outside, "alphas": alphas[::100]}


def make_box() -> np.ndarray:
    """A box that begins and ends within a pixel of the latents: uint8 (64, 64)."""
    box = np.zeros((64, 64), np.uint8)
    box[13:44, 20:50] = 255
    return box


def _boxes() -> dict[str, np.ndarray]:
    from creatMask_v1 import random_mask

    found = []
    for number, info in enumerate(BOXES):
        random.seed(number)
        found += [random_mask(TEMPLATE, info)[0] for _ in range(3)]
    return {"boxes": np.packbits(np.array(found) > 0)}


def _masked_loss(code: str) -> dict[str, np.ndarray]:
    """The lines of `LatentDiffusion.p_losses` that are theirs, with what they call as it is in its class."""
    import ast

    source = open(f"{code}/DIFFUSION/ldm/models/diffusion/ddpm.py", encoding="utf-8").read()
    classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    methods = [_method(classes["DDPM"], "get_loss"), _method(classes["LatentDiffusion"], "p_losses")]
    space: dict[str, object] = {"torch": torch, "F": torch.nn.functional, "default": lambda value, make: value}
    exec(compile(ast.Module(methods, []), "ddpm.py", "exec"), space)
    model = types.SimpleNamespace(
        q_sample=lambda x_start, t, noise: noise, apply_model=lambda x, t, cond: cond, training=True,
        parameterization="eps", device="cpu", loss_type="l2", logvar=torch.zeros(1000), learn_logvar=False,
        l_simple_weight=1.0, original_elbo_weight=0.0, embedding_reg_weight=0.0, lvlb_weights=torch.ones(1000),
    )  # fmt: skip
    model.get_loss = types.MethodType(space["get_loss"], model)
    noise, predicted, masks = make_losses()
    loss, _ = space["p_losses"](model, noise, predicted, torch.zeros(2, dtype=torch.long), masks[:, 0], noise)
    return {"masked_loss": loss}


def make_losses() -> tuple[Tensor, Tensor, Tensor]:
    """Noise, what is predicted of it, and masks of 64 px, one of them a single pixel."""
    masks = torch.zeros(2, 1, 64, 64, dtype=torch.float64)
    masks[0, :, 10:30, 20:45] = 1
    masks[1, :, 35, 36] = 1
    return drawn("noise", 2, 4, 8, 8), drawn("predicted", 2, 4, 8, 8), masks


def _method(of: object, name: str) -> object:
    return next(node for node in of.body if getattr(node, "name", "") == name)


def _stand_in(code: str) -> None:
    """The diffusers of the authors in the place of ours, without what it finds beside itself."""
    import huggingface_hub
    import huggingface_hub.constants

    huggingface_hub.constants.hf_cache_home = huggingface_hub.constants.HF_HOME
    for name in ("HfFolder", "cached_download", "ModelFilter"):
        setattr(huggingface_hub, name, object)
    version = importlib.metadata.version

    def hidden(name: str) -> str:
        if name in ("transformers", "accelerate", "flax", "jax", "bitsandbytes"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    importlib.metadata.version = hidden
    package = types.ModuleType("diffusers")
    package.__path__, package.__version__ = [f"{code}/diffusers"], "0.19.0.dev0"
    sys.modules["diffusers"] = package
    sys.path.insert(0, code)
    import diffusers.models
    import diffusers.optimization

    package.DDPMScheduler = object
    package.optimization = diffusers.optimization
    absent = {
        "accelerate": {"Accelerator": None},
        "accelerate.logging": {"get_logger": lambda name: None},
        "accelerate.utils": {"ProjectConfiguration": None},
        "transformers": {"AutoTokenizer": None, "PretrainedConfig": None},
    }
    for name, content in absent.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(content)


if __name__ == "__main__":
    {"seas": seas, "anogen": anogen}[sys.argv[1]](*sys.argv[2:])
