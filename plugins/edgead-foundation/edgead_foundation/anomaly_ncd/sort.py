"""Sorting of rejects with their anomaly maps into kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.workstation.trainer.device import choose_device
from edgead_foundation.anomaly_ncd.cost import estimate_seconds
from edgead_foundation.anomaly_ncd.crops import Crop, cut_crops
from edgead_foundation.anomaly_ncd.encoder import Encoder, MaskGuidedVit, RegionAverage
from edgead_foundation.anomaly_ncd.heads import KindHeads
from edgead_foundation.anomaly_ncd.merging import kind_probabilities, merge_regions
from edgead_foundation.anomaly_ncd.regions import main_elements, search_range, to_grey
from edgead_foundation.anomaly_ncd.training import Material, Plan, train
from edgead_foundation.anomaly_ncd.views import Views
from edgead_foundation.backbones.vit import read_vit


@dataclass(frozen=True, slots=True)
class Base:
    """Labelled defects of any product, from which the encoder also learns to separate kinds.

    `images` (sequence of ndarray of shape (h, w, 3), uint8, BGR): crops around one defect each.
    `masks` (sequence of ndarray of shape (h, w), uint8): masks, not 0 on the defect.
    `labels`: class of each crop, from 0.
    """

    images: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]
    labels: Sequence[int]


NO_BASE = Base((), (), ())


@dataclass(frozen=True, slots=True)
class SortResult:
    """Result of a sorting.

    `labels` (ndarray of shape (images,), int64): kind of each image, from 0; the first kind collects images that hardly
        deviate.
    `probabilities`: ndarray of shape (images, kinds), float64.
    `crops`: crops of each image.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    crops: list[list[Crop]]


def build_encoder(weights: Path | None = None) -> Encoder:
    """Build the paper's encoder from a file of DINO's ViT; without a file, edgead's `RegionAverage`.

    Raises SettingsError: the file is no such transformer.
    """
    return MaskGuidedVit(read_vit(weights)) if weights else RegionAverage()


class Sorting:
    """Sorting of images into unknown kinds (AnomalyNCD), prepared with cut crops and initialised heads.

    `images`: sequence of ndarray of shape (h, w, 3), uint8, BGR.
    `maps` (sequence of ndarray of shape (h', w'), float): anomaly maps of pixels or patches, all of one detector and so
        on one scale.
    `encoder`: result of `build_encoder`, which will be trained.
    `masks` (sequence of ndarray of shape (h', w')): masks of known regions, not 0 inside; by default main-element
        binarisation finds regions.
    `base`: labelled defects, usually of another product.
    `device`: name in `edgead.workstation.trainer.device.DEVICES`.
    `crops`: crops of each image.
    `device`: device of the training.
    Raises SettingsError: the numbers of images, maps and masks differ, or there are fewer images than kinds.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        maps: Sequence[np.ndarray],
        plan: Plan,
        *,
        encoder: Encoder,
        masks: Sequence[np.ndarray] | None = None,
        base: Base = NO_BASE,
        device: str = "auto",
    ):
        _check(images, maps, masks, plan)
        self.device = choose_device(device)
        self.crops = find_crops(images, maps, masks)
        self._plan = plan
        self._classes = len(set(base.labels))
        flat = [crop for group in self.crops for crop in group]
        known = [Crop(_rgb(x), _mask(m), (0, 0, *x.shape[1::-1])) for x, m in zip(base.images, base.masks, strict=True)]
        self._material = Material(flat, known, base.labels, Views(encoder.side), plan.normal_below)
        with torch.random.fork_rng():
            torch.manual_seed(plan.seed)
            heads = KindHeads(encoder.channels, self._classes + plan.kinds, plan.heads)
        self._encoder, self._heads = encoder.to(self.device).eval(), heads.to(self.device)

    def seconds(self) -> float:
        """Estimate the seconds that `run` will take on this machine; nothing changes."""
        return estimate_seconds(self._encoder, self._heads, self._material, self._plan)

    def run(self, progress: StageProgress = no_progress) -> SortResult:
        """Train encoder and heads on the rejects and return the kind of each reject; call only once."""
        best = train(self._encoder, self._heads, self._material, self._plan, progress=progress)
        shares = kind_probabilities(self._logits(best), self._classes).split([len(group) for group in self.crops])
        areas = [torch.tensor([crop.area for crop in group]) for group in self.crops]
        merged = [merge_regions(p, a, self._plan.area_temperature) for p, a in zip(shares, areas, strict=True)]
        probabilities = torch.stack(merged).numpy()
        return SortResult(probabilities.argmax(axis=1), probabilities, self.crops)

    def features(self, number: int) -> torch.Tensor:
        """Compute the encoder's features of a crop's fixed view, (1, d); crops are numbered over all images."""
        return self._encoder(*(x.to(self.device) for x in self._material.judged(number)))

    @torch.inference_mode()
    def _logits(self, head: int) -> torch.Tensor:
        """Compute a head's logits of each crop, float64 (crops, classes)."""
        count = sum(map(len, self.crops))
        return torch.cat([self._heads(self.features(i))[1][head] for i in range(count)]).double().cpu()


def find_crops(
    images: Sequence[np.ndarray], maps: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None = None
) -> list[list[Crop]]:
    """Cut crops around the regions of each image; see `Sorting`."""
    grey = to_grey(maps)
    limits = search_range(grey)
    found: list[tuple[np.ndarray, int | None]]
    if masks is None:
        found = [main_elements(x, limits) for x in grey]
    else:
        found = [(_mask(mask), None) for mask in masks]
    return [
        cut_crops(_rgb(image), mask, count, x, limits)
        for image, (mask, count), x in zip(images, found, grey, strict=True)
    ]


def _check(
    images: Sequence[np.ndarray], maps: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None, plan: Plan
) -> None:
    numbers = [len(images), len(maps), *([] if masks is None else [len(masks)])]
    if len(set(numbers)) > 1:
        raise SettingsError(f"found {' and '.join(map(str, numbers))} images, maps and masks: give one of each")
    if len(images) < plan.kinds:
        raise SettingsError(f"{len(images)} images cannot be of {plan.kinds} kinds: give more images or fewer kinds")


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1])


def _mask(mask: np.ndarray) -> np.ndarray:
    return np.where(mask > 0, 255, 0).astype(np.uint8)
