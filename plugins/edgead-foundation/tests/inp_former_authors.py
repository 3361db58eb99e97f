"""Numbers of the authors' code of INP-Former, from weights and images that are drawn by their names.

`python tests/inp_former_authors.py CODE OUT` writes the fixture, with CODE a copy of luow23/INP-Former (MIT License).
"""

from __future__ import annotations

import sys
import types
from functools import partial

import numpy as np
import torch
from authors import numbers
from torch import Tensor, nn

WIDTH, DEPTH, HEADS = 24, 12, 3
TRAINED_SIDE, SIDE = 70, 56
"""Of the images that the positions are for, and of those that are looked at; patches have 14 pixels."""
IMAGES, PROTOTYPES, DECODER_BLOCKS = 3, 6, 8
STEPS, WARM_UP = 5, 3
BATCHES = [(2, 0), (0, 1), (1, 2), (0, 2), (1, 0)]
MAP_SIDE, TOP_SHARE, EVERY = 256, 0.01, 16


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """A parameter by its name in the authors' code, float64; the scales of attentions differ, and some are negative."""
    x = numbers(name, shape)
    if name.endswith("learn_scale"):
        value = 0.5 + x
    elif name.endswith(("token", "tokens", "pos_embed")):
        value = 0.5 * x
    elif len(shape) == 1:
        value = 1 + 0.3 * x if name.endswith(("weight", "gamma")) else 0.2 * x
    else:
        value = x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(value, np.float32)).double()


def draw_images() -> np.ndarray:
    """Images, uint8 RGB (n, h, w, 3)."""
    x = numbers("images", (IMAGES, SIDE // 7, SIDE // 7, 3)).repeat(7, axis=1).repeat(7, axis=2)
    return np.clip(128 + 50 * x + 10 * numbers("noise", (IMAGES, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def fill(network: nn.Module) -> list[str]:
    """Draw all parameters; returns their names and shapes."""
    state = network.state_dict()
    network.load_state_dict({name: draw(name, tuple(x.shape)) for name, x in state.items()})
    return [f"{name} {' '.join(map(str, x.shape))}" for name, x in sorted(state.items())]


def update(optimizer_class, options: dict[str, object]) -> np.ndarray:
    """What an optimizer makes of numbers whose gradients fall, and rise in between."""
    parameter = nn.Parameter(torch.from_numpy(numbers("updated", (8,))))
    optimizer = optimizer_class([parameter], lr=0.01, weight_decay=0.01, **options)
    for step in range(60):
        gradient = numbers(f"gradient {step}", (8,)) + numbers("gradient", (8,))
        parameter.grad = torch.from_numpy(gradient * (5.0 if step == 40 else 0.9**step))
        optimizer.step()
    return parameter.detach().numpy()


def main(code: str, out: str) -> None:
    """Run the authors' code and write its numbers."""
    sys.path.insert(0, code)
    utils = _import_utils()
    from dinov2.models.vision_transformer import DinoVisionTransformer
    from models.uad import INP_Former
    from models.vision_transformer import Aggregation_Block, Mlp, Prototype_Block
    from optimizers import StableAdamW

    encoder = DinoVisionTransformer(
        img_size=TRAINED_SIDE,
        patch_size=14,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        init_values=1e-8,
        block_chunks=0,
        num_register_tokens=4,
        interpolate_antialias=False,
        interpolate_offset=0.1,
    )
    norm = partial(nn.LayerNorm, eps=1e-8)
    shape = {"dim": WIDTH, "num_heads": HEADS, "mlp_ratio": 4.0, "qkv_bias": True, "norm_layer": norm}
    bottleneck = nn.ModuleList([Mlp(WIDTH, 4 * WIDTH, WIDTH, drop=0.0)])
    prototypes = nn.ParameterList([nn.Parameter(torch.randn(PROTOTYPES, WIDTH))])
    extractor = nn.ModuleList([Aggregation_Block(**shape)])
    decoder = nn.ModuleList([Prototype_Block(**shape) for _ in range(DECODER_BLOCKS)])
    halves = [[0, 1, 2, 3], [4, 5, 6, 7]]
    model = INP_Former(
        encoder,
        bottleneck,
        extractor,
        decoder,
        target_layers=[2, 3, 4, 5, 6, 7, 8, 9],
        remove_class_token=True,
        fuse_layer_encoder=halves,
        fuse_layer_decoder=halves,
        prototype_token=prototypes,
    ).double()
    names = fill(model)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(draw_images()).permute(0, 3, 1, 2).double() / 255
    images = (pixels - mean.double()[:, None, None]) / std.double()[:, None, None]
    found = {"names": np.array(names), **_judged(utils, model, images)}

    trained = nn.ModuleList([bottleneck, decoder, extractor, prototypes])
    options = {"betas": (0.9, 0.999), "weight_decay": 1e-4, "amsgrad": True, "eps": 1e-10}
    optimizer = StableAdamW([{"params": trained.parameters()}], lr=1e-3, **options)
    scheduler = utils.WarmCosineScheduler(
        optimizer, base_value=1e-3, final_value=1e-4, total_iters=STEPS, warmup_iters=WARM_UP
    )
    model.train()
    steps: dict[str, list[object]] = {name: [] for name in ("rates", "losses", "norms")}
    for batch in BATCHES:
        en, de, coherence = model(images[list(batch)])
        loss = utils.global_cosine_hm_adaptive(en, de, y=3) + 0.2 * coherence
        optimizer.zero_grad()
        loss.backward()
        norms = [float(p.grad.norm()) for _, p in sorted(model.named_parameters()) if p.grad is not None]
        nn.utils.clip_grad_norm_(trained.parameters(), max_norm=0.1)
        steps["rates"].append(optimizer.param_groups[0]["lr"])
        steps["losses"].append(float(loss.detach()))
        steps["norms"].append(norms)
        optimizer.step()
        scheduler.step()
    found |= {name: np.array(values) for name, values in steps.items()}
    found["updated"] = update(StableAdamW, {"amsgrad": True, "eps": 1e-10})
    found |= {f"trained_{name}": value for name, value in _judged(utils, model, images).items() if name != "taught"}
    small = {name: np.asarray(x, np.float32) if name.endswith(("taught", "made")) else x for name, x in found.items()}
    np.savez_compressed(out, **small)


@torch.no_grad()
def _judged(utils, model, images: Tensor) -> dict[str, np.ndarray]:
    model.eval()
    en, de, coherence = model(images)
    enlarged, _ = utils.cal_anomaly_maps(en, de, images.shape[-1])
    resized = torch.nn.functional.interpolate(enlarged, size=MAP_SIDE, mode="bilinear", align_corners=False)
    smoothed = utils.get_gaussian_kernel(kernel_size=5, sigma=4).double()(resized)
    ordered = torch.sort(smoothed.flatten(1), dim=1, descending=True)[0]
    return {
        "taught": torch.stack(en).flatten(3).transpose(2, 3).numpy(),
        "made": torch.stack(de).flatten(3).transpose(2, 3).numpy(),
        "coherence_loss": float(coherence),
        "maps": smoothed[:, 0, ::EVERY, ::EVERY].numpy(),
        "borders": smoothed[:, 0, 0].numpy()[:, ::EVERY],
        "image_scores": ordered[:, : int(ordered.shape[1] * TOP_SHARE)].mean(dim=1).numpy(),
    }


def _import_utils() -> types.ModuleType:
    """Import their `utils` with nothing behind what shows, measures and augments."""
    parts = {
        "adeval": ["EvalAccumulatorCuda"],
        "aug_funcs": ["rot_img", "translation_img", "hflip_img", "grey_img", "rot90_img"],
        "matplotlib": ["pyplot"],
        "matplotlib.pyplot": [],
        "pandas": [],
        "skimage": ["measure"],
        "tqdm": ["tqdm"],
    }
    for name, content in parts.items():
        module = types.ModuleType(name)
        vars(module).update(dict.fromkeys(content))
        sys.modules[name] = module
    import utils

    for name in parts:
        del sys.modules[name]
    return utils


if __name__ == "__main__":
    main(*sys.argv[1:])
