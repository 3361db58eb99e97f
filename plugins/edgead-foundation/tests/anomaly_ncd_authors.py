"""Numbers of the authors' code of AnomalyNCD, from weights and inputs that are drawn by their names.

`python tests/anomaly_ncd_authors.py CODE OUT` writes the fixture, with CODE a copy of HUST-SLOW/AnomalyNCD (MIT
License, commit cbecce76ccc8a922a0b9ff42228607ff69afa3c4). Of what that imports to show and to measure, nothing counts
here; it stands in below. It computes in float64, on a CPU that answers where it asks for a GPU.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision  # noqa: F401 (before something stands in for what it imports)
from authors import numbers
from torch import Tensor

SIDE, PATCH, WIDTH, DEPTH, HEADS, MASKED = 24, 4, 24, 4, 3, 2
BASE, KINDS, CLASSIFIERS = 3, 4, 4
HIDDEN, CONTRAST = 16, 8
EPOCHS, BATCH = 10, 5
CROPS = 15
"""Three batches an epoch; the last has no labelled crop."""
LABELS = [0, -1, 2, -1, -1, -1, 1, -1, 1, 0, -1, -1, -1, -1, -1]
SCORES = (0.5 + 0.4 * np.sin(np.arange(CROPS))).tolist()


def filled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names in the authors' code: products by their width, gains around 1, the rest around 0."""
    return {name: torch.from_numpy(_fill(name, tuple(value.shape))) for name, value in state.items()}


def _fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    x = numbers(name, shape)
    if name.endswith("weight_g"):
        return np.ones(shape)
    if name.endswith("weight") and len(shape) == 1:
        return 1 + 0.3 * x
    if name in ("cls_token", "pos_embed") or name.endswith("bias"):
        return 0.5 * x
    return 1.5 * x / np.sqrt(np.prod(shape[1:]))


def make_images(name: str, count: int) -> tuple[Tensor, Tensor]:
    """Normalised images, and soft masks of which about half is seen."""
    images = torch.from_numpy(numbers(f"{name} images", (count, 3, SIDE, SIDE)))
    coarse = torch.from_numpy(numbers(f"{name} masks", (count, 1, SIDE // PATCH, SIDE // PATCH)))
    return images, torch.sigmoid(4 * torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear"))


def two_views(epoch: int, batch: int) -> tuple[Tensor, Tensor]:
    """What a step of the training sees: one view of each crop, then another."""
    return make_images(f"epoch {epoch} batch {batch}", 2 * BATCH)


def make_maps() -> list[np.ndarray]:
    """Anomaly maps, uint8 (60, 80): spots apart, near each other, at a border; a large and a faint one."""
    spots = [
        [(15, 20, 7, 1.0), (42, 60, 8, 0.9)],
        [(20, 20, 6, 0.9), (34, 36, 6, 0.8), (30, 70, 5, 0.45)],
        [(2, 76, 9, 0.8), (56, 4, 7, 0.7)],
        [(30, 40, 22, 0.7)],
        [(30, 40, 3, 0.25)],
        [(10, 10, 6, 0.6), (10, 40, 6, 0.6), (10, 70, 6, 0.6), (50, 10, 7, 0.6), (50, 40, 7, 0.6), (50, 70, 7, 0.6)],
    ]
    rows, columns = np.mgrid[:60, :80]
    maps = []
    for number, group in enumerate(spots):
        x = 0.05 * (1 + np.tanh(cv2.GaussianBlur(numbers(f"map {number}", (60, 80)), (0, 0), 2)))
        for y, at, radius, height in group:
            x = x + height * np.exp(-(((rows - y) ** 2 + (columns - at) ** 2) / radius**2))
        maps.append(np.clip(x * 220, 0, 255).astype(np.uint8))
    return maps


def make_masks() -> list[np.ndarray]:
    """Masks at one level, which have more regions than are believed in."""
    return [np.where(x > 60, 255, 0).astype(np.uint8) for x in make_maps()]


def make_photographs() -> list[np.ndarray]:
    """An image for each map, twice as large: uint8 RGB (120, 160, 3)."""
    shape = (120, 160, 3)
    return [np.clip(128 + 50 * numbers(f"photograph {i}", shape), 0, 255).astype(np.uint8) for i in range(6)]


def summary(crop: tuple[np.ndarray, np.ndarray, float]) -> list[float]:
    """Of a crop: its sides, what its image and its mask come to, its score."""
    image, mask, score = crop
    weights = np.arange(1, image.size + 1).reshape(image.shape) % 251
    return [*mask.shape, float((weights * image).sum()), float((weights[..., 0] * (mask > 0)).sum()), score]


def main(code: str, out: str) -> None:
    """Run the authors' code."""
    _stand_in()
    sys.path.insert(0, code)
    torch.set_default_dtype(torch.float64)
    found = {**_regions(), **_networks(), **_training(), **_merging()}
    np.savez_compressed(out, **{name: np.asarray(value) for name, value in found.items()})


def _regions() -> dict[str, np.ndarray]:
    from models.modules._MEBin import MEBin

    cut = MEBin()
    cut.args = types.SimpleNamespace(sample_rate=4, min_interval_len=4, erode=True)
    cut.anomaly_map_list = make_maps()
    # As numbers of Python: with numpy 2, products of theirs would wrap around at 256.
    cut.max_th, cut.min_th = map(int, cut.get_search_range())
    masks, counts = cut.binarize_anomaly_maps()
    crops, crops_of = [], []
    given = [*zip(masks, counts, strict=True), *((mask, 1) for mask in make_masks())]
    for (mask, count), image, x in zip(given, 2 * make_photographs(), 2 * cut.anomaly_map_list, strict=True):
        images, shapes, scores = cut.crop_sub_image_mask(image, mask, x, count)
        crops_of.append(len(images))
        cropped = zip(map(np.asarray, images), map(np.asarray, shapes), scores, strict=True)
        crops += [summary((image, mask, score / 255)) for image, mask, score in cropped]
    return {"masks": np.packbits(np.array(masks) > 0), "counts": counts, "crops": crops, "crops_of": crops_of}


def _networks() -> dict[str, np.ndarray]:
    from models.loss._contrastive_loss import SupConLoss, info_nce_logits
    from models.loss._distill_loss import DistillLoss

    vit, heads = _model()
    with torch.no_grad():
        features = vit(*make_images("check", 4))
        projections, logits = heads(features)
        labels = torch.tensor([0, 1])
        normalised = torch.nn.functional.normalize(projections, dim=-1)
        paired = torch.stack(normalised.chunk(2), dim=1)
        contrast = torch.nn.functional.cross_entropy(*info_nce_logits(projections, device="cpu"))
        distill = DistillLoss(40, 50, BASE, KINDS, repeat_times=4)
        weights = torch.tensor([0.1, 0.3, 0.1, 0.3])
        cluster = [float(distill(logits[0], logits[0], epoch, weights)) for epoch in (0, 5, 39, 49)]
    return {
        "features": features.numpy(),
        "projections": projections.numpy(),
        "logits": torch.stack(logits).numpy(),
        "info_nce": contrast.numpy(),
        "supervised_contrast": SupConLoss()(paired, labels=labels).numpy(),
        "cluster": cluster,
        "temperatures": distill.teacher_temp_schedule,
    }


def _model() -> torch.nn.Sequential:
    from models.modules._classifier import MultiHead
    from models.modules._MGViT import MaskedGuidedVisionTransformer

    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    sizes = {"img_size": [SIDE], "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    vit = MaskedGuidedVisionTransformer(**sizes, active_depth=MASKED, qkv_bias=True, norm_layer=norm)
    heads = MultiHead(WIDTH, BASE + KINDS, hidden_dim=HIDDEN, bottleneck_dim=CONTRAST, n_head=CLASSIFIERS)
    for module in (vit, heads):
        module.load_state_dict(filled(module.state_dict()))
    for name, parameter in vit.named_parameters():
        parameter.requires_grad = "block" in name and int(name.split(".")[1]) >= DEPTH - 1
    return torch.nn.Sequential(vit, heads)


def _training() -> dict[str, np.ndarray]:
    import models.AnomalyNCD as theirs
    from models.loss._distill_loss import DistillLoss

    args = types.SimpleNamespace(
        anomaly_thred=0.5, n_head=CLASSIFIERS, memax_weight=4, sup_weight=0.3, print_freq=10**9, base_category="base"
    )
    runner = theirs.AnomalyNCD(args)
    runner.model = _model()
    args.category, args.logger = "novel", logging.getLogger("authors")
    optimizer = theirs.SGD(theirs.get_params_groups(runner.model), lr=0.003, momentum=0.9, weight_decay=0.00005)
    rates = theirs.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=0.003 * 1e-3)
    distill = DistillLoss(8, EPOCHS, BASE, KINDS, repeat_times=4)
    theirs.info_nce_logits = partial(theirs.info_nce_logits, device="cpu")
    losses, lost = [], []
    with tempfile.TemporaryDirectory() as folder:
        args.crop_data_path = folder
        os.makedirs(f"{folder}/scores_json")
        scores = {"kind": {f"{i}.png": score for i, score in enumerate(SCORES)}}
        Path(folder, "scores_json", "novel.json").write_text(json.dumps(scores))
        for epoch in range(EPOCHS):
            runner.train_loader = list(_batches(epoch))
            lost, record = runner.MGRL(epoch, optimizer, distill)
            losses.append(record.avg)
            rates.step()
    with torch.no_grad():
        runner.model.eval()
        projections, logits = runner.model[1](runner.model[0](*make_images("check", 4)))
    found = {"losses": losses, "lost": lost, "trained_projections": projections.numpy()}
    return {**found, "trained_logits": torch.stack(logits).numpy()}


def _batches(epoch: int) -> Iterator[tuple]:
    for number in range(CROPS // BATCH):
        chosen = range(number * BATCH, (number + 1) * BATCH)
        images, masks = two_views(epoch, number)
        paths = [f"base/a/{i}.png" if LABELS[i] >= 0 else f"novel/kind/{i}.png" for i in chosen]
        labels = torch.tensor([LABELS[i] for i in chosen])
        yield list(images.chunk(2)), labels, paths, list(masks.chunk(2)), paths


def _merging() -> dict[str, np.ndarray]:
    """Two crops of one image and one of another; every classifier, areas of 4,000, 100 and 50 pixels."""
    import models.AnomalyNCD as theirs

    args = types.SimpleNamespace(
        n_head=CLASSIFIERS, num_labeled_classes=BASE, train_classes=range(BASE), dataset="mvtec", epochs=9
    )
    runner = theirs.AnomalyNCD(args)
    runner.model = _model()
    args.logger = logging.getLogger("authors")
    predicted, averaged = [], []
    theirs.log_accs_from_preds = lambda **given: predicted.append(given["y_pred"]) or ({}, 0.0, 0.0, 0.0)
    argmax = torch.argmax
    torch.argmax = lambda x: averaged.append(x.numpy()) or argmax(x)
    images, masks = make_images("check", 4)
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/kind/{name}.png" for name in ("a_crop0", "a_crop1", "b_crop0")]
        os.makedirs(f"{folder}/kind")
        for name, area in zip(names, (4000, 100, 50), strict=True):
            mask = np.zeros((80, 80), np.uint8)
            mask.flat[:area] = 255
            cv2.imwrite(name, mask)
        known = torch.full((3,), BASE)
        runner.test_loader = [(images[:3], known, torch.arange(3), names, masks[:3], names)]
        runner.region_merge_predict(0, "", [1.0, 0.5, 2.0, 3.0])
    torch.argmax = argmax
    # Image by image, and every classifier of it.
    merged = np.array(averaged).reshape(2, CLASSIFIERS, -1)
    return {"merged": merged, "merged_kinds": np.array(predicted).T}


def _stand_in() -> None:
    """What the authors' code imports to show and to measure, and the GPU that it asks for."""
    shown = {
        "tqdm": {"tqdm": lambda x: x},
        "loguru": {"logger": None},
        "yaml": {},
        "matplotlib": {},
        "matplotlib.pyplot": {},
    }
    for name, content in shown.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
    Tensor.cuda = lambda self, **options: self
    zeros = torch.zeros
    torch.zeros = lambda *shape, **options: zeros(*shape, **{**options, "device": "cpu"})
    to = Tensor.to
    Tensor.to = lambda self, *given, **options: self if given[:1] == ("cuda:0",) else to(self, *given, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
