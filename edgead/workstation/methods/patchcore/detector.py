"""PatchCore: Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022 (arXiv 2106.08265)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank
from edgead.adapt.memory_bank.folds import deal_folds, find_stand_ins
from edgead.adapt.memory_bank.halves import Half, learn_halves
from edgead.adapt.memory_bank.usual_scores import MIN_GROUPS, fit_usual_scores, left_out_maps, look_at
from edgead.artifact.manifest import Preprocessing
from edgead.calibration.more_images import forecast
from edgead.dataset.folders import Progress
from edgead.errors import SettingsError
from edgead.heads.nearest import BANK, FOLD_METRICS, ROW_FOLDS, STAND_INS, NearestHead, NearestScorer, without_fold
from edgead.heads.patches import USUAL, ImageScorer
from edgead.workstation.backbones.extraction import extract_patches
from edgead.workstation.backbones.pretrained import build_backbone, check_backbone, layer_shapes
from edgead.workstation.backbones.pyramid import each_batch, pool
from edgead.workstation.methods.method import Course, Method, MethodConfig
from edgead.workstation.methods.patchcore.network import FusedFeatures, PatchFeatures

Change = Callable[[np.ndarray], np.ndarray]
# As many good images show how far the patches' score deviates among those that are not in the memory bank.
LEFT_OUT = 40
# So many images are few: "auto" learns mirror images of them, and it is said what more images would bring.
FEW = 60
FEWEST_GROUPS = 4
# Of few images so many are looked at mirrored. Where mirrored parts are good ones they scored up to a tenth higher than
# parts that were not learnt, where they are not at least a fifth; see benchmarks/RESULTS.md.
TRIED, AS_GOOD = 20, 1.1


def _quarter(count: int) -> Change:
    def turn(image: np.ndarray) -> np.ndarray:
        turned = np.ascontiguousarray(np.rot90(image, count))
        return cv2.resize(turned, image.shape[1::-1], interpolation=cv2.INTER_AREA)

    return turn


# Small turns, shifts and other light were tried and left: 0.00 to 0.01 of image AUROC with 1 and 4 images of cookie.
CHANGES: dict[str, tuple[Change, ...]] = {
    "flips": (lambda image: image[:, ::-1], lambda image: image[::-1], lambda image: image[::-1, ::-1]),
    "quarters": tuple(_quarter(count) for count in (1, 2, 3)),
    "mirror": (lambda image: image[:, ::-1],),
    "upside_down": (lambda image: image[::-1],),
    "half_turn": (lambda image: image[::-1, ::-1],),
}
AUTO, MIRRORED = "auto", ("mirror", "upside_down", "half_turn")


class Augmented(Sequence[np.ndarray]):
    """Each image as it is, followed by its changed ones.

    Parameters
    ----------
    images : sequence of ndarray of shape (h, w, 3), uint8
    kinds : sequence of str
        Names in `CHANGES`, such as flips: mirrored in both directions and both, or quarters: turned by quarters.
    """

    def __init__(self, images: Sequence[np.ndarray], kinds: Sequence[str]):
        self._images = images
        self._changes = [change for kind in kinds for change in CHANGES[kind]]

    @property
    def per_image(self) -> int:
        """How often each image comes, itself included."""
        return 1 + len(self._changes)

    def __len__(self) -> int:
        return self.per_image * len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        number, change = divmod(index, self.per_image)
        image = self._images[number]
        return np.ascontiguousarray(self._changes[change - 1](image)) if change else image


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
    augment : tuple of str
        Kinds of changes of which each good image is learnt once more, see `CHANGES`. ("auto",): where images are few,
        those mirror images that score as good parts do by a model without them.
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
    reweight_neighbors : int
        The b of the paper's equation 7, which weighs that score, from 2 to 16; 0 is without.
    global_weight : float
        Weight of a score of the whole image, the Mahalanobis distance of pooled layers, see
        `methods.patchcore.global_local`; 0 is without, at 1 it deviates among good images as the patches' score does.
    global_layers : tuple of str
        The layers that are pooled for it.
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
    augment: tuple[str, ...] = ()
    max_patches: int = 1_500_000
    num_neighbors: int = 1
    window: int = 3
    top_patches: int = 10
    margin: int = 1
    by_place: bool = True
    reweight_neighbors: int = 0
    global_weight: float = 0.0
    global_layers: tuple[str, ...] = ("stride32a", "stride32")
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        check_backbone(self.backbone, (*self.layers, *(self.global_layers if self.global_weight else ())))
        if unknown := [kind for kind in self.augment if kind not in CHANGES and self.augment != (AUTO,)]:
            raise SettingsError(f"augment {unknown}: choose from {', '.join(CHANGES)}, or {AUTO} alone")
        if self.reweight_neighbors not in (0, *range(2, 17)):  # the nearest row is one of them: alone, it weighs 0
            raise SettingsError(f"reweight_neighbors is 0, or from 2 to 16, found {self.reweight_neighbors}")
        if self.global_weight < 0 or (self.global_weight and not self.global_layers):
            raise SettingsError(
                f"a global score needs a weight above 0 and layers, found {self.global_weight} and "
                f"{list(self.global_layers)}"
            )


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
        pooled_layers = config.global_layers if config.global_weight else ()
        backbone = build_backbone(
            config.backbone,
            (*config.layers, *pooled_layers),
            image_size=config.image_size,
            weights=weights,
            pretrained=pretrained,
            channels=channels,
        )
        shapes = layer_shapes(backbone, config.image_size)
        self.grid = next(
            shape[1:] for name, shape in zip(backbone.layers, shapes, strict=True) if name in config.layers
        )
        of_layers = [shape[0] for shape in shapes]
        network: PatchFeatures
        if config.global_weight:
            network = FusedFeatures(
                backbone,
                of_layers,
                layers=config.layers,
                global_layers=config.global_layers,
                damp_length=config.damp_length,
                whiten=config.whiten,
            )
        else:
            network = PatchFeatures(backbone, of_layers, damp_length=config.damp_length, whiten=config.whiten)
        self.network = network.eval()
        self.memory_bank: np.ndarray | None = None
        self.folds = 0
        self.row_folds: np.ndarray | None = None
        self.stand_ins: np.ndarray | None = None
        self.usual_scores: np.ndarray | None = None
        self.also_learnt: tuple[str, ...] = ()
        # Of few images: their scores by what all but their fold have taught, and by what half of the groups have.
        self.left_out: np.ndarray | None = None
        self.of_halves: np.ndarray | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(image_size=self.config.image_size, fill=self.config.fill)

    @property
    def leaves_out(self) -> bool:
        """Not with a global score: it knows the whole of every image."""
        return not self.config.global_weight

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
        """The channels of each layer, which a device needs to learn from the same network, and the changes learnt."""
        changes = {"also_learnt": list(self.also_learnt)} if self.also_learnt else {}
        return {"channels": self.network.channels, **changes}

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
            reweight_neighbors=config.reweight_neighbors,
            graph_weight=config.global_weight,
            sigma_px=config.sigma_px,
        )

    @property
    def bank_rule(self) -> BankRule:
        config = self.config
        return BankRule(config.coreset_sampling_ratio, config.memory_bank_size, self.head.least_rows, config.seed)

    def facts(self, false_reject_rate: float) -> dict[str, Any]:
        """What the manifest records: what more images would bring, where that can be said."""
        if self.left_out is None or self.of_halves is None:
            return {}
        # Nor where twice as many would be learnt in another way.
        count = len(self.left_out)
        if (self.also_learnt and self._finds_natural and 2 * count > FEW) or (
            self._by_place and count < MIN_GROUPS <= 2 * count
        ):
            return {}
        share = 1 - 1 / self.folds
        found = forecast(self.left_out, self.of_halves, false_reject_rate, learnt_share=share, seed=self.config.seed)
        return {} if found is None else {"more_images": asdict(found)}

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Fill the memory bank; there is nothing to resume. Metric and usual scores are learnt across groups."""
        groups = course.groups or range(len(images))
        folds = np.asarray(course.folds) if len(course.folds) else deal_folds(groups, self.config.seed)
        few = len(images) <= FEW and len(np.unique(groups)) >= FEWEST_GROUPS
        if not self._finds_natural:
            self.also_learnt = self.config.augment
        elif few:
            self.also_learnt = self._find_natural(images, groups, course)
        changed = Augmented(images, self.also_learnt)
        of_changed = np.repeat(groups, changed.per_image).tolist()
        patches = extract_patches(
            self.network,
            changed,
            self.grid,
            max_patches=self.config.max_patches,
            groups=of_changed,
            folds=np.repeat(folds, changed.per_image).tolist() if folds.max() else (),
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
        all_kept = of_image == changed.per_image * math.prod(self.grid)
        whole = patches.reshape(len(images), changed.per_image, *self.grid, -1)[:, 0] if all_kept else None
        progress = partial(course.progress, "compare parts")
        looked_at = look_at(groups, self.config.seed) if self._by_place and self.folds else np.empty(0, int)
        # Of images of one part it would have to be said of parts; and what is learnt beside patches is not halved.
        tells = few and len(np.unique(groups)) == len(images) and len(course.folds) > 0
        tells = tells and not (self.config.global_weight or self.config.reweight_neighbors)
        maps = self._left_out_maps(images, whole, folds, np.arange(len(images)) if tells else looked_at, progress)
        if len(looked_at):
            self.usual_scores = fit_usual_scores(maps[looked_at] if tells else maps)
        if tells:
            self.left_out = self._image_scores(maps)
            strangers, halves = self._halves(patches, of_changed)
            own = strangers[:: changed.per_image]
            self.of_halves = self._image_scores(
                [
                    halves[half].patch_scores(rows, self.config.num_neighbors).reshape(self.grid)
                    for half, rows in zip(own.tolist(), self._each_standardised(images, whole), strict=True)
                ]
            )
        del patches, whole
        if isinstance(self.network, FusedFeatures):
            progress = partial(course.progress, "fit global score")
            self._fit_global(self.network, images, chosen // of_image, course.device, progress)

    @property
    def _finds_natural(self) -> bool:
        return self.config.augment == (AUTO,)

    @property
    def _by_place(self) -> bool:
        return self.config.by_place and self.config.fill == "stretch"

    def _find_natural(self, images: Sequence[np.ndarray], groups: Sequence[int], course: Course) -> tuple[str, ...]:
        """Find the mirror images that are good parts to what half of the images teach, which has seen none of them."""
        patches = extract_patches(
            self.network,
            images,
            self.grid,
            max_patches=self.config.max_patches,
            groups=list(groups),
            rng=np.random.default_rng(self.config.seed),
            device=course.device,
            progress=partial(course.progress, "extract features"),
        )
        strangers, halves = self._halves(patches, groups)
        del patches
        tried = np.random.default_rng(self.config.seed).permutation(len(images))[:TRIED].tolist()
        mirrored = Augmented([images[pick] for pick in tried], MIRRORED)
        maps = []
        for number, rows in enumerate(self._each_standardised(mirrored)):
            half = halves[int(strangers[tried[number // mirrored.per_image]])]
            maps.append(half.patch_scores(rows, self.config.num_neighbors).reshape(self.grid))
            course.progress("try mirror images", number + 1, len(mirrored))
        scores = self._image_scores(maps).reshape(len(tried), mirrored.per_image)
        higher = (scores[:, 1:] / np.maximum(scores[:, :1], 1e-12)).mean(axis=0)
        return tuple(kind for kind, ratio in zip(MIRRORED, higher, strict=True) if ratio <= AS_GOOD)

    def _halves(self, patches: np.ndarray, groups: Sequence[int]) -> tuple[np.ndarray, list[Half]]:
        return learn_halves(self._before_metric(patches), groups, self.bank_rule, whiten=self.config.whiten)

    def _before_metric(self, features: np.ndarray) -> np.ndarray:
        """Features (..., d) as they were before they were multiplied with the metric."""
        if not self.config.whiten:
            return features
        return features @ np.linalg.inv(self.network.metric[..., 0, 0].numpy())

    def _features(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB (h, w, 3) -> what is compared, float32 (h', w', d)."""
        with torch.inference_mode():
            outputs = self.network(torch.from_numpy(image)[None])
        return (outputs[0] if isinstance(outputs, tuple) else outputs)[0].numpy()

    def _each_standardised(
        self, images: Sequence[np.ndarray], features: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Patches of each image before the metric, float32 (n, d); `features` (n, h, w, d) of the images if known."""
        for number in range(len(images)):
            found = self._features(images[number]) if features is None else features[number]
            yield self._before_metric(found.reshape(-1, found.shape[-1]))

    def _image_scores(self, maps: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Image scores by the patches alone from patch scores (n, h, w) before the usual ones are taken off."""
        rule = self.head.model_copy(update={"graph_weight": 0.0, "reweight_neighbors": 0})
        scorer = ImageScorer(rule, self.grid, self.usual_scores)
        return np.array([scorer.image_score(scorer.of_scores(each)) for each in maps])

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

    def _fit_global(
        self,
        network: FusedFeatures,
        images: Sequence[np.ndarray],
        origin: np.ndarray,
        device: torch.device,
        progress: Progress,
    ) -> None:
        """Fit the score of the whole image, on the scale of the patches' score of images whose rows are left out.

        Parameters
        ----------
        origin : ndarray of shape (m,)
            Which image each row of the memory bank came from.
        """
        batches = [
            [pool(levels[i]).cpu() for i in network.global_indices]
            for levels in each_batch(network, images, device, progress)
        ]
        bank = self.memory_bank
        assert bank is not None
        rule = self.head.model_copy(update={"graph_weight": 0.0})
        scores = []
        for pick in np.random.default_rng(self.config.seed).permutation(len(images))[:LEFT_OUT]:
            rest = np.ascontiguousarray(bank[origin != pick])
            scorer = NearestScorer(rule, self.grid, self.config.image_size, rest, self.usual_scores)
            with torch.inference_mode():
                features = network(torch.from_numpy(images[int(pick)])[None])[0].numpy()
            scores.append(scorer.score({rule.patches.name: features}).image_score)
        network.fit_pooled([torch.cat(level) for level in zip(*batches, strict=True)], float(np.std(scores)))
