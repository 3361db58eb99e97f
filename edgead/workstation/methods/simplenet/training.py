"""Network and training of SimpleNet (Liu et al. 2023, sections 3.1 to 3.6), as in the authors' code.

That code (DonaldRR/SimpleNet) takes its patch features, whole neighbourhoods instead of their mean, from PatchCore's.
It keeps the epoch with the best AUROC on the test set, which a detector for new parts must not do: here, defects drawn
on held-out good images select it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from edgead import metrics
from edgead.heads.map import MapHead
from edgead.heads.patches import ImageScorer
from edgead.synthetic.drawn_defects import draw_defect
from edgead.workstation.backbones.patch_features import PatchFeatures
from edgead.workstation.backbones.pretrained import Backbone
from edgead.workstation.backbones.pyramid import BATCH
from edgead.workstation.methods.validation import DRAWN_PER_IMAGE
from edgead.workstation.trainer.loop import descend

# More images do not improve the choice, fewer are too few for one.
MAX_IMAGES, MIN_IMAGES = 24, 8


class UnfoldedFeatures(PatchFeatures):
    """Network of plain patch features, neither standardised nor damped.

    For every layer the 3 x 3 neighbourhood of a position, zero-padded at the border, is flattened channel by channel
    and pooled to `embedding` numbers: means of a few neighbours in that order, so that the neighbourhood keeps some of
    its structure. All layers together are pooled to `embedding` numbers again. Pooling and bilinear interpolation
    commute, as one mixes channels and the other positions; pooling first is less work.

    `embedding`: length of a patch's vector; 1536 in the authors' script.
    """

    def __init__(self, backbone: Backbone, embedding: int):
        super().__init__(backbone, [embedding], damp_length=False)
        self.embedding = embedding

    def align(self, layers: list[Tensor]) -> Tensor:
        """Features of the layers -> patch features, float32 (n, embedding, h', w')."""
        pooled = [_pool_channels(F.unfold(layer, 3, padding=1), self.embedding) for layer in layers]
        grids = [(len(layer), self.embedding, *layer.shape[-2:]) for layer in layers]
        maps = [x.reshape(grid) for x, grid in zip(pooled, grids, strict=True)]
        finest = layers[0].shape[-2:]
        aligned = [maps[0]] + [F.interpolate(x, size=finest, mode="bilinear", align_corners=False) for x in maps[1:]]
        together = _pool_channels(torch.cat(aligned, dim=1).flatten(2), self.embedding)
        return together.reshape(grids[0])

    def fit_scale(self, features: Tensor) -> None:
        """Leave the features as they are."""

    def standardise(self, features: Tensor) -> Tensor:
        """Leave the features as they are."""
        return features


def _pool_channels(features: Tensor, numbers: int) -> Tensor:
    """Average neighbouring channels of features (n, d, positions) to (n, numbers, positions)."""
    return F.adaptive_avg_pool1d(features.transpose(1, 2), numbers).transpose(1, 2)


class SimpleNetwork(nn.Module):
    """Feature extractor, feature adaptor and discriminator (sections 3.1, 3.2 and 3.4), exported unchanged."""

    def __init__(self, features: PatchFeatures, hidden: int):
        super().__init__()
        channels = features.mean.numel()
        self.features = features
        self.adaptor = nn.Linear(channels, channels)
        self.discriminator = nn.Sequential(
            nn.Linear(channels, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1, bias=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> patch scores, the negated discriminator (section 3.6), float32 (n, h', w')."""
        features = self.features(image)
        return self.score(features.flatten(0, 2)).reshape(features.shape[:3])

    def score(self, features: Tensor) -> Tensor:
        """Patch features, float32 (n, d) -> scores, float32 (n, 1)."""
        return -self.discriminator(self.adaptor(features))


@dataclass(frozen=True, slots=True)
class Batches:
    """Order of training rows: an epoch goes through all of them, in its own random order.

    `rows`: number of rows to learn from.
    `size`: rows of a step; the last batch of an epoch may have fewer, but not a single one, which has no deviation.
    `together`: number of consecutive rows that stay together: those of one image, for batches of whole images.
    """

    rows: int
    size: int
    together: int
    seed: int

    @property
    def per_epoch(self) -> int:
        return max(1, math.ceil((self.rows - 1) / self.size))

    def of(self, step: int) -> Tensor:
        """Return the rows of a step, numbered from 0, int64."""
        epoch, position = divmod(step, self.per_epoch)
        end = self.rows if position + 1 == self.per_epoch else (position + 1) * self.size
        return torch.from_numpy(_order(self, epoch)[position * self.size : end])


@lru_cache(maxsize=1)
def _order(batches: Batches, epoch: int) -> np.ndarray:
    blocks = np.random.default_rng([batches.seed, epoch]).permutation(batches.rows // batches.together)
    return (blocks[:, None] * batches.together + np.arange(batches.together)).ravel()


@dataclass(frozen=True, slots=True)
class Contest:
    """Training task of adaptor and discriminator: to separate adapted features from the same features with noise.

    `noise_std`, `noise_spread`, `margin`: see `edgead.workstation.methods.simplenet.detector.SimpleNetConfig`.
    """

    adaptor: nn.Module
    discriminator: nn.Module
    noise_std: float
    noise_spread: float
    margin: float

    def optimizers(self, adaptor_lr: float, discriminator_lr: float, weight_decay: float) -> list[Optimizer]:
        """Make the authors' optimizers: AdamW (default decay, 0.01) for the adaptor, Adam for the discriminator."""
        return [
            torch.optim.AdamW(self.adaptor.parameters(), lr=adaptor_lr),
            torch.optim.Adam(self.discriminator.parameters(), lr=discriminator_lr, weight_decay=weight_decay),
        ]

    def loss(self, features: Tensor) -> Tensor:
        """Compute the loss of good features, float32 (n, d)."""
        good = self.adaptor(features)
        # In one batch, so that the batch norm sees both.
        scores = self.discriminator(torch.cat([good, add_noise(good, self.noise_std, self.noise_spread)]))
        return truncated_l1(scores[: len(good)], scores[len(good) :], self.margin)

    def update(self, features: Tensor, optimizers: Sequence[Optimizer]) -> Tensor:
        """Make one update from good features, float32 (n, d); return its loss."""
        return descend(self.loss(features), *optimizers)


def add_noise(features: Tensor, std: float, spread: float = 1.0) -> Tensor:
    """Make anomalous features from good ones, float32 (n, d): Gaussian noise on every channel (section 3.3).

    With a `spread`, which is ours, the noise of each patch is weaker by a factor between 1 and `spread`, uniform in its
    logarithm: weak noise stays hard to separate from good patches, so that there is always something to learn.
    """
    if spread == 1:
        return features + std * torch.randn_like(features)
    return features + std * spread ** -torch.rand_like(features[:, :1]) * torch.randn_like(features)


def truncated_l1(good: Tensor, anomalous: Tensor, margin: float) -> Tensor:
    """Compute the mean truncated L1 loss (section 3.5) of the discriminator's outputs, constant beyond the margins.

    max(0, th+ - D(q)) + max(0, -th- + D(q-)), with th+ = `margin` and th- = -`margin`.
    """
    return (margin - good).clamp_min(0).mean() + (margin + anomalous).clamp_min(0).mean()


def running_mean(trained: nn.Module, decay: float) -> AveragedModel:
    """Make a running mean of a module's weights and statistics over its updates.

    The first updates, from random weights, decay faster; a decay of 0 takes the last weights.
    """

    def average(mean: Tensor, latest: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return kept * mean + (1 - kept) * latest

    return AveragedModel(trained, avg_fn=average, use_buffers=True)


def hold_out(groups: Sequence[int] | np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the indices of images into those to learn from and held-out ones, by whole groups, at most `MAX_IMAGES`.

    Nothing is held out if that would be less than `MIN_IMAGES`, as few images are all needed to learn from.
    """
    distinct, number = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(distinct))[: round(share * len(distinct))]
    held = np.isin(number, chosen)
    if held.sum() < MIN_IMAGES:
        return np.arange(len(number)), np.empty(0, int)
    return np.flatnonzero(~held), np.sort(rng.permutation(np.flatnonzero(held))[:MAX_IMAGES])


class DrawnDefects:
    """Features of held-out good images, and of the same images with drawn defects.

    `features`: network on the CPU, with its scale fitted.
    `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): held-out good images, at least one.
    `head`: head that computes image scores from patch scores.
    """

    def __init__(self, features: PatchFeatures, images: Sequence[np.ndarray], head: MapHead, seed: int):
        rng = np.random.default_rng(seed)
        drawn = [draw_defect(image, rng) for image in images for _ in range(DRAWN_PER_IMAGE)]
        every = [*images, *drawn]
        self._labels = np.arange(len(every)) >= len(images)
        with torch.inference_mode():
            batches = [
                features(torch.from_numpy(np.stack(every[start : start + BATCH])))
                for start in range(0, len(every), BATCH)
            ]
        self._features = [image for batch in batches for image in batch]
        self._scorer = ImageScorer(head, tuple(self._features[0].shape[:2]))  # type: ignore[arg-type]

    def auroc(self, contest: nn.Module) -> float:
        """Compute the image AUROC of adaptor and discriminator combined, (n, d) -> (n, 1), on any device."""
        device = next(contest.parameters()).device
        contest.eval()
        with torch.inference_mode():
            maps = [-contest(x.flatten(0, 1).to(device)).reshape(x.shape[:2]).cpu().numpy() for x in self._features]
        return metrics.auroc(self._labels, np.array([self._scorer.image_score(x) for x in maps]))


class BestSoFar(nn.Module):
    """Keeper of the weights that best separated drawn defects from good images, and count of checks since then.

    `patience`: number of checks without improvement after which the training ends.
    """

    auroc: Tensor
    waited: Tensor

    def __init__(self, candidate: nn.Module, patience: int):
        super().__init__()
        self.kept = copy.deepcopy(candidate)
        self._patience = patience
        self.register_buffer("auroc", torch.tensor(-1.0, dtype=torch.float64))
        self.register_buffer("waited", torch.tensor(0))

    @property
    def is_over(self) -> bool:
        return int(self.waited) >= self._patience

    def offer(self, candidate: nn.Module, auroc: float) -> None:
        """Keep the candidate's weights if they are better."""
        if auroc <= float(self.auroc):
            self.waited += 1
            return
        self.kept.load_state_dict(candidate.state_dict())
        self.auroc.fill_(auroc)
        self.waited.zero_()
