"""PatchCore: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022 (arXiv 2106.08265)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.adapt.memory_bank.folds import deal_folds, find_stand_ins
from edgead.adapt.memory_bank.usual_scores import fit_usual_scores, left_out_maps, look_at
from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import Progress
from edgead.heads.nearest import BANK, FOLD_METRICS, ROW_FOLDS, STAND_INS, NearestHead, without_fold
from edgead.heads.patches import USUAL
from edgead.workstation.backbones.extraction import extract_patches
from edgead.workstation.backbones.pretrained import build_backbone, check_backbone, layer_shapes
from edgead.workstation.methods.method import Course, Method, MethodConfig
from edgead.workstation.methods.patchcore.network import PatchFeatures


@dataclass(frozen=True)
class PatchCoreConfig(MethodConfig):
    """Settings of PatchCore.

    Attributes
    ----------
    backbone, layers : str, tuple of str
        See `edgead.workstation.backbones.pretrained`.
    image_size : (int, int)
        Height and width that images are resized to.
    fill : {"stretch", "reflect"}
        What images of other proportions are: stretched, or filled up with their reflection.
    damp_length : bool
        Damp the length of standardised features; see `methods.patchcore.network`. The paper compares plain features.
    whiten : bool
        Compare in the metric that good parts teach, see `edgead.adapt.memory_bank.feature_space`. Ours too.
    coreset_sampling_ratio : float
        At most this share of all patches goes into the memory bank ...
    memory_bank_size : int
        ... and at most this many rows: it bounds the search time on the device.
    max_patches : int
        More patches than this are thinned at random before the coreset is chosen, which bounds the memory.
    num_neighbors : int
        Neighbours whose distances are averaged to a patch score.
    window, top_patches : int
        The image score: patch scores are averaged over windows of this many patches a side, and this many of the
        largest averages are averaged. 1 and 1 give the paper's maximum.
    margin : int
        The image score leaves out so many of the outermost rings of patches, which see the network's padding. 0 is the
        paper's.
    by_place : bool
        Bring down places that usually score higher than the middle, see `memory_bank.usual_scores`. Ours. Not
        done where images are filled up: their places are not the same.
    sigma_px : float
        Smoothing of the anomaly map; 4 is the paper's.
    seed : int
    """

    backbone: str = "efficientnet_lite2"
    layers: tuple[str, ...] = ("stride8", "stride16")
    image_size: tuple[int, int] = (448, 448)
    fill: Literal["stretch", "reflect"] = "stretch"
    damp_length: bool = True
    whiten: bool = True
    coreset_sampling_ratio: float = 1.0
    memory_bank_size: int = 2500
    max_patches: int = 1_500_000
    num_neighbors: int = 1
    window: int = 3
    top_patches: int = 10
    margin: int = 1
    by_place: bool = True
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        check_backbone(self.backbone, self.layers)


class PatchCore(Method[PatchCoreConfig]):
    """Learns what good patches look like: a frozen backbone and a memory bank chosen by greedy k-centre."""

    network: PatchFeatures

    name = "patchcore"
    inputs = ("rgb", "grey16", "relief", "rgb_relief")
    config_class = PatchCoreConfig
    presets = {
        "fast": {"backbone": "efficientnet_lite0", "image_size": (224, 224)},
        "default": {},
        "fine": {"image_size": (576, 576), "memory_bank_size": 10000},
        "foundation": {
            "backbone": "dinov2_vits14",
            "layers": ("block8",),
            "image_size": (224, 224),
            "window": 1,  # its grid is coarse: a mean over several patches would hide a small defect
            "top_patches": 3,
            "margin": 0,
        },
    }
    purpose = "first: good with small and large defects, with the least to decide; learns in a minute"
    preset_purposes = {
        "fast": "tight budgets and large defects: it is blind to defects of a few pixels",
        "default": "first",
        "fine": "tiny defects, where a frame may take twice as long",
        "foundation": "on DINOv2, for a GPU, or frames that may take 150 ms; weights are a file or a download",
    }

    def __init__(
        self,
        config: PatchCoreConfig = PatchCoreConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
        channels: int = 3,
    ):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone,
            config.layers,
            image_size=config.image_size,
            weights=weights,
            pretrained=pretrained,
            channels=channels,
        )
        shapes = layer_shapes(backbone, config.image_size)
        self.grid = shapes[0][1:]
        of_layers = [shape[0] for shape in shapes]
        self.network = PatchFeatures(backbone, of_layers, damp_length=config.damp_length, whiten=config.whiten).eval()
        self.memory_bank: np.ndarray | None = None
        self.folds = 0
        self.row_folds: np.ndarray | None = None
        self.stand_ins: np.ndarray | None = None
        self.usual_scores: np.ndarray | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(image_size=self.config.image_size, fill=self.config.fill)

    @property
    def leaves_out(self) -> bool:
        return True

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        learnt = {
            BANK: self.memory_bank,
            ROW_FOLDS: self.row_folds,
            STAND_INS: self.stand_ins,
            FOLD_METRICS: self.network.metric_without,
            USUAL: self.usual_scores,
        }
        return {name: array for name, array in learnt.items() if array is not None}

    @property
    def graph_arrays(self) -> dict[str, np.ndarray]:
        return self.network.learnt

    @property
    def notes(self) -> dict[str, Any]:
        """The channels of each layer, which a device needs to learn from the same network."""
        return {"channels": self.network.channels}

    @property
    def head(self) -> NearestHead:
        config = self.config
        return NearestHead(
            num_neighbors=config.num_neighbors,
            folds=self.folds,
            own_metrics=self.network.metric_without is not None,
            window=config.window,
            top_patches=config.top_patches,
            margin=config.margin,
            by_place=self.usual_scores is not None,
            sigma_px=config.sigma_px,
        )

    @property
    def bank_rule(self) -> BankRule:
        config = self.config
        return BankRule(config.coreset_sampling_ratio, config.memory_bank_size, config.num_neighbors, config.seed)

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Fill the memory bank; there is nothing to resume. Metric and usual scores are learnt across groups."""
        groups = course.groups or range(len(images))
        folds = np.asarray(course.folds) if len(course.folds) else deal_folds(groups, self.config.seed)
        patches = extract_patches(
            self.network,
            images,
            self.grid,
            max_patches=self.config.max_patches,
            groups=groups,
            folds=folds.tolist() if folds.max() else (),
            rng=np.random.default_rng(self.config.seed),
            device=course.device,
            progress=partial(course.progress, "extract features"),
        )
        of_image = len(patches) // len(images)
        progress = partial(course.progress, "choose memory bank")
        chosen = choose_memory_bank(patches, self.bank_rule, progress=progress)
        self.memory_bank = patches[chosen]
        if folds.max():
            self.folds = int(folds.max()) + 1
            of_patch = np.repeat(folds, of_image)
            self.row_folds = of_patch[chosen, None].astype(np.float32)
            self.stand_ins = find_stand_ins(patches, of_patch, chosen)
        if self.config.by_place and self.config.fill == "stretch" and self.folds:
            whole = patches.reshape(len(images), *self.grid, -1) if of_image == math.prod(self.grid) else None
            progress = partial(course.progress, "compare parts")
            looked_at = look_at(groups, self.config.seed)
            if len(looked_at):
                self.usual_scores = fit_usual_scores(self._left_out_maps(images, whole, folds, looked_at, progress))

    def _features(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB (h, w, 3) -> what is compared, float32 (h', w', d)."""
        with torch.inference_mode():
            return self.network(torch.from_numpy(image)[None])[0].numpy()  # type: ignore[no-any-return]

    def _left_out_maps(
        self,
        images: Sequence[np.ndarray],
        features: np.ndarray | None,
        folds: np.ndarray,
        picks: np.ndarray,
        progress: Progress,
    ) -> np.ndarray:
        """Patch scores (n, h, w) of some images without their folds; `features` (n, h, w, d) of all where kept."""

        def each() -> Iterator[np.ndarray]:
            for done, pick in enumerate(picks.tolist(), 1):
                yield self._features(images[pick]) if features is None else features[pick]
                progress(done, len(picks))

        without = partial(without_fold, self.arrays)
        return np.array(list(left_out_maps(each(), folds[picks], without, self.config.num_neighbors)))
