"""Numbers of public code of detectors from words, from weights and images that are drawn by their names.

`python tests/words_authors.py CODE OUT` writes the fixture, with CODE a folder of copies: `site` (ftfy), `anomalyclip`
(zqhang/AnomalyCLIP, MIT License), `crane` (AlirezaSalehy/Crane, MIT License) and `dinov2` (facebookresearch/dinov2,
Apache-2.0).
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from authors import numbers
from towers_authors import draw

SIDE, PATCH, EMBEDDED = 64, 16, {"anomaly_clip": 512, "crane": 512, "crane_plus": 16}
"""Prompts that see an image take its embedding as a token of the text."""
IMAGES = 2
TEXT_WIDTH, TEXT_DEPTH = 16, 3
ANOMALY_CLIP = {"width": 128, "depth": 4, "heads": 2}
LARGER, REFINED, LAYERS, CRANE_LAYERS = 96, 3, (1, 3, 4), (2, 3, 4)
"""Side of the images of anomaly_clip and crane, whose positions are for `SIDE`; blocks with a second path; of maps."""
CONTEXT, DEEP_CONTEXT, DEEP_BLOCKS = 12, 4, 2
PLUS_SIDE, PLUS_PATCH, PLUS_LARGER, PLUS_LAYERS = 56, 14, 84, (4,)
"""The same of Crane+, of images for both towers; DINOv2's positions are for `PLUS_LARGER`."""
DINO = {"width": 24, "depth": 3, "heads": 3}
STEPS, STRIDE = 3, 4
"""Of the training; pixels from one kept of a map to the next."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def draw_images(side: int) -> np.ndarray:
    """uint8 RGB (2, side, side, 3)."""
    shape = (IMAGES, -(-side // 8), -(-side // 8), 3)
    coarse = np.clip(128 + 50 * numbers(f"words {side}", shape), 0, 255).round().astype(np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]


def draw_state(names: np.ndarray, shapes: np.ndarray) -> dict[str, torch.Tensor]:
    """A whole CLIP by OpenAI's names."""
    sizes = (tuple(map(int, shape.split())) for shape in shapes.tolist())
    return {name: draw(name, size) for name, size in zip(names.tolist(), sizes, strict=True)}


def draw_dino(names: np.ndarray, shapes: np.ndarray) -> dict[str, torch.Tensor]:
    """DINOv2 by its authors' names, whose patches differ: where all are alike, Crane+ gives no number."""
    drawn = draw_state(names, shapes)
    return {**drawn, "patch_embed.proj.weight": 6 * drawn["patch_embed.proj.weight"]}


def draw_prompts() -> dict[str, torch.Tensor]:
    """What a checkpoint of AnomalyCLIP's prompts has that is learnt and used."""
    shapes = {f"ctx_{kind}": (1, 1, CONTEXT, TEXT_WIDTH) for kind in ("pos", "neg")}
    shapes |= {f"compound_prompts_text.{number}": (DEEP_CONTEXT, TEXT_WIDTH) for number in range(DEEP_BLOCKS)}
    return {name: torch.from_numpy(0.3 * numbers(f"prompts {name}", shape)).float() for name, shape in shapes.items()}


def draw_masks(side: int = LARGER) -> np.ndarray:
    """float32 (2, side, side): none on the first image."""
    masks = np.zeros((IMAGES, side, side), np.float32)
    masks[1, 20:50, 30:80] = 1
    return masks


def _normalised(images: np.ndarray) -> torch.Tensor:
    scaled = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (scaled - mean) / std


def _fill(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """Draw all weights; returns their names and shapes."""
    state = network.state_dict()
    names = sorted(name for name in state if name not in ("logit_scale", "attn_mask"))
    shapes = np.array([" ".join(map(str, state[name].shape)) for name in names])
    network.load_state_dict({**state, **draw_state(np.array(names), shapes)})
    return {"names": np.array(names), "shapes": shapes}


def have_package(name: str, folder: Path) -> None:
    """Let the modules of a package be imported without what its `__init__` asks for."""
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]


def _anomaly_clip(code: Path) -> dict[str, np.ndarray]:
    sys.modules["thop"] = types.ModuleType("thop")
    sys.modules["thop"].profile = None  # type: ignore[attr-defined]
    _have_pkg_resources()
    sys.path.insert(0, str(code))
    from AnomalyCLIP_lib.AnomalyCLIP import AnomalyCLIP
    from prompt_ensemble import AnomalyCLIP_PromptLearner

    details = {
        "Prompt_length": CONTEXT,
        "learnabel_text_embedding_depth": DEEP_BLOCKS + 1,
        "learnabel_text_embedding_length": DEEP_CONTEXT,
    }
    sizes = (ANOMALY_CLIP["depth"], ANOMALY_CLIP["width"], PATCH, 77, 49408, TEXT_WIDTH, 1, TEXT_DEPTH)
    model = AnomalyCLIP(EMBEDDED["anomaly_clip"], SIDE, *sizes, design_details=details).eval()
    found = _fill(model)
    learner = AnomalyCLIP_PromptLearner(model, details)
    learner.load_state_dict({**learner.state_dict(), **draw_prompts()})
    model.visual.DAPM_replace(DPAM_layer=REFINED + 1)
    return {**found, **_judged(model, learner), **_learnt(model, learner)}


def _have_pkg_resources() -> None:
    import packaging.version

    sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")
    sys.modules["pkg_resources"].packaging = packaging  # type: ignore[attr-defined]


def _texts(model: Any, learner: Any) -> torch.Tensor:
    """As in the authors' scripts, (1, 2, d)."""
    texts = model.encode_text_learn(*learner(cls_id=None)).float()
    texts = torch.stack(torch.chunk(texts, dim=0, chunks=2), dim=1)
    return texts / texts.norm(dim=-1, keepdim=True)


def _judged(model: Any, learner: Any) -> dict[str, np.ndarray]:
    """As in the authors' test.py."""
    from AnomalyCLIP_lib import compute_similarity, get_similarity_map
    from scipy.ndimage import gaussian_filter

    with torch.no_grad():
        texts = _texts(model, learner)
        embedding, layers = model.encode_image(_normalised(draw_images(LARGER)), LAYERS, DPAM_layer=REFINED + 1)
        embedding = embedding / embedding.norm(dim=-1, keepdim=True)
        scores = (embedding @ texts.permute(0, 2, 1) / 0.07).softmax(-1)[0, :, 1]
        maps = []
        for layer in layers:
            similarity, _ = compute_similarity(layer / layer.norm(dim=-1, keepdim=True), texts[0])
            shares = get_similarity_map(similarity[:, 1:, :], LARGER)
            maps.append((shares[..., 1] + 1 - shares[..., 0]) / 2.0)
        summed = torch.stack(maps).sum(dim=0)
    blurred = np.stack([gaussian_filter(each, sigma=4) for each in summed.numpy()])
    return {"texts": texts[0].numpy(), "image_scores": scores.numpy(), "maps": blurred[:, ::STRIDE, ::STRIDE]}


def _learnt(model: Any, learner: Any) -> dict[str, np.ndarray]:
    """As in the authors' train.py, with the same two images in every step."""
    from AnomalyCLIP_lib import compute_similarity, get_similarity_map
    from loss import BinaryDiceLoss, FocalLoss

    optimizer = torch.optim.Adam(list(learner.parameters()), lr=1e-3, betas=(0.5, 0.999))
    focal, dice, masks = FocalLoss(), BinaryDiceLoss(), torch.from_numpy(draw_masks())
    with torch.no_grad():
        embedding, layers = model.encode_image(_normalised(draw_images(LARGER)), LAYERS, DPAM_layer=REFINED + 1)
        embedding = embedding / embedding.norm(dim=-1, keepdim=True)
    losses = []
    for _ in range(STEPS):
        texts = _texts(model, learner)
        cosines = (embedding.unsqueeze(1) @ texts.permute(0, 2, 1))[:, 0, ...] / 0.07
        image_loss = torch.nn.functional.cross_entropy(cosines.squeeze(), torch.tensor([0, 1]))
        loss = 0
        for layer in layers:
            similarity, _ = compute_similarity(layer / layer.norm(dim=-1, keepdim=True), texts[0])
            shares = get_similarity_map(similarity[:, 1:, :], LARGER).permute(0, 3, 1, 2)
            loss += focal(shares, masks) + dice(shares[:, 1, :, :], masks) + dice(shares[:, 0, :, :], 1 - masks)
        optimizer.zero_grad()
        (4 * loss + image_loss).backward()
        optimizer.step()
        losses.append(float(4 * loss + image_loss))
    with torch.no_grad():
        return {"losses": np.array(losses), "learnt_texts": _texts(model, learner)[0].numpy()}


def _crane(code: Path) -> dict[str, dict[str, np.ndarray]]:
    _have_pkg_resources()
    sys.modules["segment_anything"] = types.ModuleType("segment_anything")
    sys.modules["segment_anything"].sam_model_registry = {}  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.partition(".")[0] == "utils"]:
        del sys.modules[name]
    sys.path.insert(0, str(code / "crane"))
    have_package("utils", code / "crane" / "utils")
    model, learner, found = _crane_of("crane", SIDE, PATCH, LARGER)
    plus, plus_learner, plus_found = _crane_of("crane_plus", PLUS_SIDE, PLUS_PATCH, PLUS_LARGER)
    alone = _crane_learnt(plus, plus_learner, CRANE_LAYERS)
    dino = _dino(code)
    plus.vfm, plus.vfm_model = dino["network"], "dinov2"
    return {
        "crane": {**found, **_crane_judged(model, learner, LARGER, CRANE_LAYERS, soft_mean=True)},
        "crane_plus": {
            **plus_found,
            **{f"alone_{name}": value for name, value in alone.items()},
            **{f"dino_{name}": dino[name] for name in ("names", "shapes")},
            **_crane_judged(plus, plus_learner, PLUS_LARGER, PLUS_LAYERS, soft_mean=False),
            **_crane_learnt(plus, plus_learner, PLUS_LAYERS),
        },
    }


def _crane_of(name: str, side: int, patch: int, larger: int) -> tuple[Any, Any, dict[str, np.ndarray]]:
    from models.Crane import Crane
    from models.prompt_ensemble import PromptLearner

    details = {
        "Prompt_length": CONTEXT,
        "learnabel_text_embedding_depth": DEEP_BLOCKS + 1,
        "learnabel_text_embedding_length": DEEP_CONTEXT,
        "others": types.SimpleNamespace(
            image_size=larger,
            both_eattn_dattn=True,
            dino_model="dinov2",
            train_with_img_cls_type="pad_suffix",
            train_with_img_cls_prob=0,
        ),
    }
    sizes = (ANOMALY_CLIP["depth"], ANOMALY_CLIP["width"], patch, 77, 49408, TEXT_WIDTH, 1, TEXT_DEPTH)
    model = Crane(EMBEDDED[name], side, *sizes, design_details=details).eval()
    found = _fill(model)
    model.visual.replace_with_EAttn(to_layer=REFINED + 1, type="qq+kk+vv")
    return model, PromptLearner(model, details), found


def _dino(code: Path) -> dict[str, Any]:
    sys.path.insert(0, str(code / "dinov2"))
    from dinov2.models.vision_transformer import DinoVisionTransformer

    network = DinoVisionTransformer(
        PLUS_LARGER,
        PLUS_PATCH,
        embed_dim=DINO["width"],
        depth=DINO["depth"],
        num_heads=DINO["heads"],
        init_values=1.0,
        block_chunks=0,
        num_register_tokens=4,
        interpolate_antialias=True,
        interpolate_offset=0.0,
    ).eval()
    state = network.state_dict()
    names, shapes = np.array(list(state)), np.array([" ".join(map(str, value.shape)) for value in state.values()])
    network.load_state_dict(draw_dino(names, shapes))
    return {"network": network, "names": names, "shapes": shapes}


def _crane_embedded(model: Any, images: np.ndarray, layers: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        image, found = model.encode_image(_normalised(images), layers, self_cor_attn_layers=20)
    image = image / image.norm(dim=-1, keepdim=True)
    return image, torch.stack([layer / layer.norm(dim=-1, keepdim=True) for layer in found])


@torch.no_grad()
def _crane_judged(
    model: Any, learner: Any, side: int, layers: tuple[int, ...], *, soft_mean: bool
) -> dict[str, np.ndarray]:
    """As in the authors' test.py, one image after the other: DINOv2's mean cosine is of the batch."""
    from models.Crane import ScoreBasePooling
    from scipy.ndimage import gaussian_filter
    from torch.nn.functional import normalize
    from utils.similarity import calc_similarity_logits, regrid_upsample

    learner.load_state_dict({**learner.state_dict(), **draw_prompts()})
    learner.train_with_img_cls_prob = 0
    prompts, tokens, deep, _ = learner()
    texts = model.encode_text_learn(prompts, tokens, deep).float()
    texts = normalize(torch.stack(torch.chunk(texts, dim=0, chunks=2), dim=1), dim=-1)
    scores, maps = [], []
    for one in draw_images(side):
        image, patches = _crane_embedded(model, one[None], layers)
        logits = [calc_similarity_logits(each, texts) for each in patches]
        if soft_mean:
            shares = torch.stack([regrid_upsample(each.softmax(dim=-1), side) for each in logits]).mean(dim=0)
        else:
            shares = torch.stack([regrid_upsample(each, side) for each in logits]).mean(dim=0).softmax(dim=-1)
        whole = normalize(0.5 * ScoreBasePooling()(patches, logits) + 0.5 * image, dim=1)
        scores.append(float(calc_similarity_logits(whole, texts).softmax(dim=-1)[0, 1]))
        maps.append(gaussian_filter(shares[0, ..., 1].numpy(), sigma=4)[::STRIDE, ::STRIDE])
    return {"texts": texts[0].numpy(), "image_scores": np.array(scores), "maps": np.stack(maps)}


def _crane_learnt(model: Any, learner: Any, layers: tuple[int, ...]) -> dict[str, np.ndarray]:
    """As in the authors' train.py, with the same two images in every step."""
    from loss import BinaryDiceLoss, FocalLoss  # AnomalyCLIP's, which Crane has copies of
    from models.Crane import ScoreBasePooling
    from torch.nn.functional import cross_entropy, normalize
    from utils.similarity import calc_similarity_logits, regrid_upsample

    learner.load_state_dict({**learner.state_dict(), **draw_prompts()})
    learner.train_with_img_cls_prob = 1
    optimizer = torch.optim.Adam(list(learner.parameters()), lr=1e-3, betas=(0.6, 0.999))
    focal, dice, masks = FocalLoss(), BinaryDiceLoss(), torch.from_numpy(draw_masks(PLUS_LARGER))
    image, patches = _crane_embedded(model, draw_images(PLUS_LARGER), layers)
    losses = []
    for step in range(STEPS + 1):
        prompts, tokens, deep, _ = learner(img_emb=image)
        texts = torch.stack([model.encode_text_learn(prompts[k], tokens[k], deep) for k in (0, 1)], dim=1)
        texts = normalize(texts, dim=-1).float()
        if step == STEPS:
            break
        of_maps, logits = 0, [calc_similarity_logits(each, texts, temp=0.07) for each in patches]
        for each in logits:
            shares = regrid_upsample(each.softmax(dim=-1), PLUS_LARGER, mode="nearest")
            of_maps += 2 * dice((1 - shares[..., 0] + shares[..., 1]) / 2, masks)
            of_maps += 2 * focal(shares.permute(0, 3, 1, 2), masks)
        whole = normalize(0.5 * ScoreBasePooling()(patches, logits) + 0.5 * image, dim=1)
        judged = cross_entropy(calc_similarity_logits(whole, texts, temp=0.01), torch.tensor([0, 1]))
        optimizer.zero_grad()
        (of_maps + 0.2 * judged).backward()
        optimizer.step()
        losses.append(float(of_maps + 0.2 * judged))
    return {"losses": np.array(losses), "learnt_texts": texts.detach().numpy()}


def main(code: Path, out: Path) -> None:
    """Run the public code and write its numbers."""
    sys.path.insert(0, str(code / "site"))
    found = {"anomaly_clip": _anomaly_clip(code / "anomalyclip")}
    found |= _crane(code)
    flat = {f"{name}/{key}": value for name, numbers in found.items() for key, value in numbers.items()}
    np.savez_compressed(out, **flat)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
