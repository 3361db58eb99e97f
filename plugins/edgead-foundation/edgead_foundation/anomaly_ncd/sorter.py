"""Sorting method by AnomalyNCD, which learns from the image regions where a model's map is high. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead.adapt.methods.settings import read_settings
from edgead.artifact.preprocess import cut
from edgead.dataset.folders import StageProgress
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.user_paths import named_path
from edgead.images.files import load_image
from edgead.synthetic.rejects import by_masks, find_rejects, masks_beside
from edgead.unlabelled.sorting.clusters import Clusters, largest_first
from edgead.unlabelled.sorting.describe import ImageProblem, ScoredImage, judge_each
from edgead.workstation.trainer.device import choose_device, use_cores
from edgead.workstation.trainer.loop import span_text
from edgead_foundation.anomaly_ncd.crops import cut_crops
from edgead_foundation.anomaly_ncd.regions import SearchRange
from edgead_foundation.anomaly_ncd.sort import NO_BASE, Base, Sorting, SortResult, build_encoder
from edgead_foundation.anomaly_ncd.training import Plan

if TYPE_CHECKING:
    from edgead.unlabelled.sorting.sort import Announce, SortPlan

# At this number the maps take 1.6 GB, and the crops as much.
MAX_IMAGES = 2000
_NOT_DESCRIBED = np.empty(0, np.float32)
Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class NcdSettings:
    """Settings of the sorter.

    Attributes
    ----------
    weights : str
        File of the transformer, DINO or DINOv2.
    base : str, optional
        Rejects of other products with known kinds, FOLDER/KIND/*.png, and their masks, FOLDER/ground_truth/KIND, from
        which the transformer learns to separate kinds. Without them it is not the published method.
    epochs : int
        Number of passes over the rejects.
    device : {"auto", "cpu", "cuda"}
    """

    weights: str | None = None
    base: str | None = None
    epochs: int = 50
    device: str = "auto"


class AnomalyNcdSorter:
    """Sorting method that judges images and sorts the rejects by their anomaly maps; of a model it needs only the maps.

    `plan`: plan with a number of kinds; its settings are those of `NcdSettings`.
    `announce`: called with the expected cost before the training.
    Raises SettingsError: the number of kinds is missing, settings are unknown, the file of weights or the base cannot
        be used, or the device does not exist.
    """

    def __init__(self, plan: SortPlan, announce: Announce):
        if plan.count is None:
            raise SettingsError(
                "anomaly_ncd does not find how many kinds there are: give their number, such as the one that residuals "
                "finds"
            )
        settings = read_settings(NcdSettings, dict(plan.settings), detector="anomaly_ncd")
        if settings.weights is None:
            raise SettingsError(
                "anomaly_ncd needs a vision transformer: give a file of DINO or DINOv2 with --set weights=FILE, such "
                "as dino_vitbase8_pretrain.pth, which the paper has and github.com/facebookresearch/dino links to; "
                "dinov2_vits14_pretrain.pth is ten times faster. Or choose residuals, which needs none"
            )
        use_cores()
        choose_device(settings.device)  # raises before images are judged
        self._plan = Plan(plan.count, settings.epochs, seed=plan.seed)
        self._everything, self._device, self._announce = plan.everything, settings.device, announce
        self._encoder = build_encoder(named_path(settings.weights))
        self._base = NO_BASE if settings.base is None else read_base(named_path(settings.base))
        self._maps: dict[Path, np.ndarray] = {}
        self._region: Region | None = None

    def judge(
        self, detector: Detector, paths: Sequence[Path], progress: StageProgress
    ) -> tuple[list[ScoredImage], list[ImageProblem]]:
        """Judge images; return the judged images, and the problems of the others."""
        self._region = detector.manifest.preprocessing.roi

        def judge(path: Path, image: np.ndarray) -> ScoredImage:
            verdict = detector.predict(image)
            if self._everything or verdict.decision != "ok":
                self._maps[path] = verdict.anomaly_map
            return ScoredImage(path, verdict.decision, verdict.image_score, _NOT_DESCRIBED)

        return judge_each(judge, paths, partial(progress, "judge images"))

    def cluster(self, images: Sequence[ScoredImage], parts: Sequence[int], progress: StageProgress) -> Clusters:
        """Sort each image by itself (`parts` is not used), as two images of a part may show two kinds."""
        if len(images) > MAX_IMAGES:
            raise SettingsError(f"{len(images)} images are more than the {MAX_IMAGES} that anomaly_ncd sorts at once")
        shown = RegionImages([one.path for one in images], self._region)
        maps = [self._maps[one.path] for one in images]
        sorting = Sorting(shown, maps, self._plan, encoder=self._encoder, base=self._base, device=self._device)
        crops, base = sum(map(len, sorting.crops)), self._base.labels
        known = f"{len(base)} of {len(set(base))} known kinds" if base else "none of a known kind"
        self._announce(
            f"anomaly_ncd learns {self._plan.kinds} kinds from {crops} crops of {len(images)} images, and {known}, in "
            f"{self._plan.epochs} epochs: about {span_text(sorting.seconds())} on {sorting.device.type}"
        )
        return clusters_of(sorting.run(progress))


class RegionImages(Sequence[np.ndarray]):
    """Images read from their files on access, cropped to the region that maps cover."""

    def __init__(self, paths: Sequence[Path], region: Region | None):
        self._paths, self._region = paths, region

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]
        return cut(load_image(self._paths[number]), self._region)


def read_base(folder: Path) -> Base:
    """Cut rejects with known kinds into crops around their masks, at most two per image as in the authors' code.

    Raises SettingsError: the rejects are not in folders of kinds, there are too many, or one has no marked defect.
    """
    masks = masks_beside(folder)
    rejects = find_rejects(folder)
    if masks is None or rejects[0][0].parent == folder:
        raise SettingsError(
            f"{folder} holds no base: put rejects of each kind into BASE/KIND and their masks, NAME_mask.png, into "
            "BASE/ground_truth/KIND"
        )
    if len(rejects) > MAX_IMAGES:
        raise SettingsError(f"{len(rejects)} images in {folder} are more than the {MAX_IMAGES} that a base may have")
    crops, labels = [], []
    kinds = sorted({kind for _, kind in rejects})
    for reject in by_masks(rejects, masks):
        image, mask = reject.load()
        if mask is None:
            raise SettingsError(f"the defect on {reject.path} is not marked: add its mask to {masks}, or take it out")
        marked = np.where(mask, 255, 0).astype(np.uint8)
        found = cut_crops(image[..., ::-1].copy(), marked, 1, marked, SearchRange(0, 255))
        crops += found
        labels += [kinds.index(reject.kind)] * len(found)
    return Base([crop.image[..., ::-1] for crop in crops], [crop.mask for crop in crops], labels)


def clusters_of(found: SortResult) -> Clusters:
    """Convert found kinds to clusters: kinds that have images, the largest first."""
    asked = found.probabilities.shape[1]
    used, labels = np.unique(found.labels, return_inverse=True)
    ranked = largest_first(labels, np.arange(len(labels)))
    notes = []
    if used[0] == 0:
        place = int(ranked[labels == 0][0]) + 1
        notes.append(f"kind {place} draws what hardly deviates: look there for parts that are good after all")
    if len(used) < asked:
        notes.append(f"{asked - len(used)} of the {asked} kinds that were asked for have no image")
    distances = 1 - found.probabilities.max(axis=1)
    return Clusters(ranked, [None] * len(used), {}, distances, notes)
