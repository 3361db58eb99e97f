"""`efficient_ad`'s model size `lite`, which is ours: a packaged backbone is the teacher.

A small student predicts the backbone's deep features from its shallow ones. EfficientAD (arXiv 2303.14535) distils a
teacher first, and its student sees pixels. Here nothing is distilled, and the student's input costs the device
nothing, as the backbone computes it anyway. For training the backbone runs once over the good images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.adapt.frozen_backbone import LITE
from edgead.adapt.memory_bank.feature_space import fit_scale, inverse_root
from edgead.adapt.methods.method import Course, MethodConfig
from edgead.errors import SettingsError
from edgead.heads.map import MapHead
from edgead.workstation.backbones.pretrained import Backbone, build_backbone, layer_shapes
from edgead.workstation.backbones.pyramid import each_batch
from edgead.workstation.methods.efficient_ad.student_teacher import QUANTILES, hard_feature_loss
from edgead.workstation.methods.efficient_ad.usual_scores import fit_usual_scores, look_at
from edgead.workstation.methods.network import NetworkMethod
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.device import CPU
from edgead.workstation.trainer.loop import descend, run_steps
from edgead.workstation.trainer.prefetch import Subset

REACH = 3
"""Positions of the teacher's grid that the student sees on each side of the one that it predicts."""

STRIDE_PX = 8
"""Distance of two positions of the teacher's grid, pixels."""

SEEN, TAUGHT = "stride4", ("stride8", "stride16")
"""Layer that the student gets as input, and layers that it predicts."""
MAX_PATCHES = 1_500_000
"""Most patches to train on, which limits the memory: if there are more, images are left out at random."""
SCALE_PATCHES = 120_000
"""Approximate number of patches to which scales and the covariance of the student's errors are fitted."""
BATCH, CROP = 8, 16
"""Number of crops in a batch, and their side in positions of the teacher's grid."""
WARM_UP = 0.1
"""Share of the steps in which the learning rate rises; then it falls to 0 by a cosine."""
STEP_PX = 16


class LiteStudent(nn.Module):
    """Network of teacher, student and the scale of their difference, exported unchanged.

    The teacher's features are averaged over 3 x 3 positions, standardised and damped as in `patchcore`
    (`edgead.workstation.backbones.patch_features`). The inverse root of the covariance of the student's errors on good
    images is folded into teacher and student, so that their squared difference is a Mahalanobis distance.

    `backbone`: backbone with the layers SEEN and TAUGHT.
    `shapes`: channels, rows and columns of each of these layers; the second has the grid of patch scores.
    `width`: channels of the student's hidden layers; the last has twice as many.
    `own_grids`: resize coarse layers to the grid of the first in the last step, so that earlier steps cost less.
        Otherwise in the first step, as in `patchcore`.
    """

    mean: Tensor
    inverse_std: Tensor
    squared_length: Tensor
    metric: Tensor
    quantiles: Tensor
    usual: Tensor

    def __init__(self, backbone: Backbone, shapes: list[tuple[int, int, int]], width: int, *, own_grids: bool = True):
        super().__init__()
        self.backbone = backbone
        self.own_grids = own_grids
        seen, *self.channels = [shape[0] for shape in shapes]
        taught = sum(self.channels)
        self.register_buffer("mean", torch.zeros(taught, 1, 1))
        self.register_buffer("inverse_std", torch.ones(taught, 1, 1))
        self.register_buffer("squared_length", torch.ones(len(self.channels)))
        self.register_buffer("metric", torch.eye(taught)[:, :, None, None])
        self.register_buffer("quantiles", torch.tensor([0.0, 1.0]))
        self.register_buffer("usual", torch.zeros(shapes[1][1:]))
        self.student = nn.Sequential(
            nn.Conv2d(seen, width, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, dilation=REACH - 1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 1),
            nn.ReLU(),
            nn.Conv2d(2 * width, taught, 1),
        )

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights; those of 0.1.0 have no `usual`, which was beside the graph."""
        return super().load_state_dict({"usual": self.usual, **state_dict}, *args, **kwargs)

    def levels(self, image: Tensor) -> list[Tensor]:
        """uint8 RGB (n, h, w, 3) -> the layers SEEN and TAUGHT, float32 (n, d, h', w') each."""
        return self.backbone(image.float().permute(0, 3, 1, 2))

    def average(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """Layers TAUGHT -> the teacher's averaged features before scaling, (n, d, h', w') each."""
        averaged = [F.avg_pool2d(layer, 3, stride=1, padding=1, count_include_pad=False) for layer in layers]
        return averaged if self.own_grids else [enlarge(layer, averaged[0]) for layer in averaged]

    def describe(self, averaged: Sequence[Tensor]) -> Tensor:
        """Result of `average` -> the student's targets, (n, d, h', w') on the grid of the first layer."""
        first, *coarse = (
            F.conv2d(standardised, self.metric[:, columns])
            for standardised, columns in zip(self._standardise(averaged), self._columns(), strict=True)
        )
        for part in coarse:
            first = first + enlarge(part, first)
        return first

    def _standardise(self, averaged: Sequence[Tensor]) -> list[Tensor]:
        return [
            _damp((layer - self.mean[columns]) * self.inverse_std[columns], typical)
            for layer, columns, typical in zip(averaged, self._columns(), self.squared_length, strict=True)
        ]

    def _columns(self) -> list[slice]:
        """Slice of each layer's channels among all channels."""
        stops = list(accumulate(self.channels))
        return [slice(stop - count, stop) for stop, count in zip(stops, self.channels, strict=True)]

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, float32 (n, h / 8, w / 8)."""
        return self.scores(self.levels(image))

    def scores(self, levels: list[Tensor]) -> Tensor:
        """Result of `levels` -> patch scores, float32 (n, h / 8, w / 8)."""
        seen, *taught = levels
        errors = (self.describe(self.average(taught)) - self.student(surround(seen))).square().mean(dim=1)
        return 0.1 * (errors - self.quantiles[0]) / (self.quantiles[1] - self.quantiles[0]) - self.usual

    @torch.no_grad()
    def fit_teacher(self, rows: Sequence[Tensor]) -> None:
        """Learn the scale of the teacher's features, so that each channel has a mean near 0 and a deviation of 1.

        `rows` (sequence of Tensor of shape (n, d), float32): results of `average` for each layer at positions of good
            images.
        """
        scales = [fit_scale(part.numpy(), [part.shape[1]], damps=True) for part in rows]
        self.mean.copy_(torch.from_numpy(np.concatenate([scale.mean for scale in scales]))[:, None, None])
        self.inverse_std.copy_(torch.from_numpy(np.concatenate([scale.inverse_std for scale in scales]))[:, None, None])
        self.squared_length.copy_(torch.from_numpy(np.concatenate([scale.squared_length for scale in scales])))
        standardised = self._standardise([part[:, :, None, None] for part in rows])
        std = torch.cat([part.std(dim=(0, 2, 3), unbiased=False) for part in standardised])
        self.metric.copy_(torch.diag(torch.where(std > 1e-6, 1 / std, 0.0))[:, :, None, None])

    @torch.no_grad()
    def fit_quantiles(self, quantiles: np.ndarray) -> None:
        """Scale scores so that these two quantiles of held-out good images become 0 and 0.1 (section 3.4)."""
        start, stop = quantiles
        if not stop > start:
            raise SettingsError("the maps of good images are the same everywhere: the images are empty")
        self.quantiles.copy_(torch.tensor([start, stop]))

    @torch.no_grad()
    def fold_input(self, mean: Tensor, std: Tensor) -> None:
        """Fold the input scaling (seen - mean) / std, by channel, into the student's first convolution."""
        first = self.student[0]
        assert isinstance(first, nn.Conv2d) and first.bias is not None
        first.weight.div_(std.view(1, -1, 1, 1))
        first.bias.sub_((first.weight * mean.view(1, -1, 1, 1)).sum(dim=(1, 2, 3)))

    @torch.no_grad()
    def fold_errors(self, covariance: np.ndarray) -> None:
        """Whiten the student's errors, given their covariance (d, d) on good images, by changes of the last layers."""
        root = torch.from_numpy(inverse_root(covariance)).to(self.metric)
        last = self.student[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        last.weight.copy_(F.conv2d(last.weight.transpose(0, 1), root[:, :, None, None]).transpose(0, 1))
        last.bias.copy_(root @ last.bias)
        self.metric.copy_(torch.einsum("ij,jkhw->ikhw", root, self.metric))


def surround(seen: Tensor) -> Tensor:
    """Pad the layer SEEN with its border as far as the student's receptive field reaches."""
    return F.pad(seen, (2 * REACH,) * 4, mode="replicate")


def enlarge(layer: Tensor, finer: Tensor) -> Tensor:
    """Resize a layer to the grid of a finer one, if it differs."""
    if layer.shape[-2:] == finer.shape[-2:]:
        return layer
    return F.interpolate(layer, size=finer.shape[-2:], mode="bilinear", align_corners=False)


def _damp(layer: Tensor, typical: Tensor) -> Tensor:
    return layer * torch.rsqrt(layer.square().sum(dim=1, keepdim=True) + typical)


def learn_lite(network: LiteStudent, images: Sequence[np.ndarray], course: Course, config: LiteConfig) -> None:
    """Learn from good images; where there are enough groups, also which places usually score high."""
    rng = np.random.default_rng(config.seed)
    of_image = np.asarray(course.groups or range(len(images)))
    learnt, held_out = hold_out(of_image, config.validation_share, rng)
    known = Subset(images, learnt)
    features = collect(network, known, course, rng)
    train(network, features, course, config)
    network.fold_errors(features.error_covariance(network, rng))
    del features
    maps = _maps(network, Subset(images, held_out), course, "normalise maps")
    network.fit_quantiles(np.quantile(maps, QUANTILES))
    looked_at = look_at(of_image[learnt], config.seed)
    # In padded images of different proportions, places do not correspond.
    if len(looked_at) and config.fill == "stretch":
        maps = _maps(network, Subset(known, looked_at), course, "compare places")
        network.usual.copy_(torch.from_numpy(fit_usual_scores(maps)))


def hold_out(of_image: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Split the indices of images into those to learn from and a held-out share, by whole groups.

    Raises SettingsError: all images are in one group.
    """
    groups, sizes = np.unique(of_image, return_counts=True)
    if len(groups) < 2:
        raise SettingsError(f"efficient_ad needs at least two good images of different groups, found {len(of_image)}")
    order = rng.permutation(len(groups))
    before = np.cumsum(sizes[order]) - sizes[order]
    count = min(len(groups) - 1, int((before < share * len(of_image)).sum()))
    held_out = np.isin(of_image, groups[order[:count]])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


@dataclass(frozen=True)
class GoodFeatures:
    """Training data of the student in float16: its padded inputs, with their `mean` and `std`, and its targets."""

    seen: Tensor
    taught: Tensor
    mean: Tensor
    std: Tensor

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draw a batch of crops, float32: (BATCH, d, 2 (h + 2 REACH), 2 (w + 2 REACH)) and (BATCH, d', h, w)."""
        sides = self.taught.shape[2:]
        height, width = (min(CROP, side) for side in sides)
        seen, taught = [], []
        for pick in rng.integers(len(self.seen), size=BATCH).tolist():
            top, left = int(rng.integers(sides[0] - height + 1)), int(rng.integers(sides[1] - width + 1))
            bottom, right = (2 * (end + 2 * REACH) for end in (top + height, left + width))
            seen.append(self.seen[pick, :, 2 * top : bottom, 2 * left : right])
            taught.append(self.taught[pick, :, top : top + height, left : left + width])
        return torch.stack(seen).float(), torch.stack(taught).float()

    @torch.inference_mode()
    def error_covariance(self, network: LiteStudent, rng: np.random.Generator) -> np.ndarray:
        """Compute the second moments (d, d), float64, of the errors of a student before folding, on some images."""
        count = max(1, SCALE_PATCHES // math.prod(self.taught.shape[2:]))
        total = torch.zeros(self.taught.shape[1], self.taught.shape[1], dtype=torch.float64)
        for pick in rng.permutation(len(self.seen))[:count].tolist():
            seen = self.seen[pick, None].float() * self.std + self.mean
            errors = (self.taught[pick, None].float() - network.student(seen)).flatten(2)[0].double()
            total += errors @ errors.T
        return total.numpy()


def collect(
    network: LiteStudent, images: Sequence[np.ndarray], course: Course, rng: np.random.Generator
) -> GoodFeatures:
    """Run the backbone, fit the scale of the teacher's features, and collect the student's training data."""
    height, width = (side // STRIDE_PX for side in images[0].shape[:2])
    chosen = np.sort(rng.permutation(len(images))[: max(1, MAX_PATCHES // (height * width))])
    progress = partial(course.progress, "extract features")
    seen, averaged, at = torch.empty(0), [torch.empty(0)], 0
    for first, *deeper in each_batch(network, Subset(images, chosen), course.device, progress):
        batch = [surround(first), *network.average(deeper)]
        if not at:  # allocated in full size, as joining pieces at the end would need twice the memory
            seen, *averaged = (torch.empty(len(chosen), *part.shape[1:], dtype=torch.float16) for part in batch)
        for kept, part in zip((seen, *averaged), batch, strict=True):
            kept[at : at + len(first)] = part
        at += len(first)
    network.fit_teacher([_rows(layer, rng) for layer in averaged])
    rows = _rows(seen, rng)
    mean, std = rows.mean(dim=0)[:, None, None], rows.std(dim=0).clamp_min(1e-6)[:, None, None]
    taught = torch.empty(len(chosen), sum(network.channels), *averaged[0].shape[2:], dtype=torch.float16)
    with torch.inference_mode():
        for number, shallow in enumerate(seen.split(1)):
            shallow.copy_((shallow.float() - mean) / std)
            taught[number] = network.describe([layer[number, None].float() for layer in averaged])[0]
    return GoodFeatures(seen, taught, mean, std)


def _rows(features: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw equally many positions of every image, float32 (rows, d)."""
    flat = features.flatten(2)
    count = min(flat.shape[2], max(1, SCALE_PATCHES // len(flat)))
    picks = [torch.from_numpy(rng.choice(flat.shape[2], count, replace=False)) for _ in flat]
    return torch.cat([image[:, pick].T.float() for image, pick in zip(flat, picks, strict=True)])


def train(network: LiteStudent, features: GoodFeatures, course: Course, config: LiteConfig) -> None:
    """Train the student to predict the teacher, by the mean square error and the paper's L_hard."""
    student = network.student.to(course.device).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def step(number: int, rng: np.random.Generator) -> Tensor:
        seen, taught = (part.to(course.device) for part in features.draw(rng))
        given = student(seen)
        hard = hard_feature_loss(taught, given, config.hard_quantile)
        return descend(torch.nn.functional.mse_loss(given, taught) + config.hard_weight * hard, optimizer)

    run_steps(
        step,
        Learner(student, [optimizer]),
        config.steps,
        seed=config.seed,
        schedule=partial(_rate, config.steps),
        checkpoint=course.checkpoint,
        progress=course.progress,
    )
    network.to(CPU).eval()
    network.fold_input(features.mean, features.std)


def _rate(steps: int, number: int) -> float:
    rising = max(1, round(WARM_UP * steps))
    if number < rising:
        return (number + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (number - rising) / max(1, steps - rising)))


def _maps(network: LiteStudent, images: Sequence[np.ndarray], course: Course, stage: str) -> np.ndarray:
    """Compute the patch scores of images, float32 (n, h, w)."""
    batches = each_batch(network, images, course.device, partial(course.progress, stage))
    with torch.inference_mode():
        return np.concatenate([network.scores(levels).cpu().numpy() for levels in batches])


@dataclass(frozen=True)
class LiteConfig(MethodConfig):
    """Settings of `efficient_ad` with `model_size: lite`.

    Attributes
    ----------
    model_size : {"lite"}
    backbone : {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
        The teacher.
    image_size : (int, int)
        Multiples of 16.
    fill : {"stretch", "reflect"}
        Treatment of images with other proportions: stretched, or padded with their reflection.
    width : int
        Channels of the student's hidden layers.
    own_grids : bool
        Resize the layer of stride 16 to the grid of stride 8 in the last step, not in the first.
    steps : int
        Number of training steps, of 8 crops each.
    learning_rate, weight_decay : float
        Parameters of AdamW. The rate rises over a tenth of the steps and falls to 0 by a cosine.
    hard_quantile, hard_weight : float
        p_hard of the paper's L_hard, and its weight beside the mean square error; the paper uses only L_hard.
    validation_share : float
        Share of the good images, in whole groups, that is held out to normalise the map.
    window, top_patches : int
        For the image score the map is averaged over windows of `window` positions on each side, and the `top_patches`
        largest averages are averaged. 1 and 1 give the paper's maximum.
    margin : int
        Number of outermost rings of positions that the image score leaves out.
    sigma_px : float
        Smoothing of the anomaly map; the paper has none.
    seed : int
    """

    model_size: Literal["lite"] = "lite"
    backbone: str = "efficientnet_lite0"
    image_size: tuple[int, int] = (320, 320)
    fill: Literal["stretch", "reflect"] = "stretch"
    width: int = 48
    own_grids: bool = True
    steps: int = 3_200
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    hard_quantile: float = 0.999
    hard_weight: float = 0.05
    validation_share: float = 0.1
    window: int = 3
    top_patches: int = 10
    margin: int = 1
    sigma_px: float = 4.0

    def __post_init__(self) -> None:
        if self.backbone not in LITE:
            raise SettingsError(f"backbone {self.backbone!r} cannot teach here: choose one of {', '.join(LITE)}")
        if any(side % STEP_PX or side < 4 * STEP_PX for side in self.image_size):
            raise SettingsError(f"image_size {list(self.image_size)}: lite needs multiples of {STEP_PX} from 64 on")
        if not (0 < self.validation_share < 1 and 0 < self.hard_quantile < 1):
            raise SettingsError("validation_share and hard_quantile must lie between 0 and 1")


class EfficientADLite(NetworkMethod[LiteConfig]):
    """Detector that learns, on good images, to predict the deep features of a frozen backbone from its shallow ones."""

    network: LiteStudent

    name = "efficient_ad"
    config_class = LiteConfig

    def __init__(
        self,
        config: LiteConfig = LiteConfig(),
        *,
        weights: Path | None = None,
        pretrained: bool = True,
    ):
        super().__init__(config)
        backbone = build_backbone(
            config.backbone, (SEEN, *TAUGHT), image_size=config.image_size, weights=weights, pretrained=pretrained
        )
        shapes = layer_shapes(backbone, config.image_size)
        with torch.random.fork_rng([]):
            torch.manual_seed(config.seed)
            self.network = LiteStudent(backbone, shapes, config.width, own_grids=config.own_grids).eval()

    @property
    def head(self) -> MapHead:
        config = self.config
        return MapHead(
            window=config.window,
            top_patches=config.top_patches,
            margin=config.margin,
            sigma_px=config.sigma_px,
        )

    def learn(self, images: Sequence[np.ndarray], course: Course) -> None:
        """Run the backbone once over the good images, then train the student on its features."""
        learn_lite(self.network, images, course, self.config)
