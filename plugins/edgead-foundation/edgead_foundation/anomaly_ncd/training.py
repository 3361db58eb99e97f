"""Training of encoder and heads on unlabelled crops, and on some labelled crops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from edgead.dataset.folders import StageProgress, no_progress
from edgead.errors import SettingsError
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.loop import descend, run_steps
from edgead_foundation.anomaly_ncd import losses
from edgead_foundation.anomaly_ncd.crops import Crop
from edgead_foundation.anomaly_ncd.encoder import Encoder
from edgead_foundation.anomaly_ncd.views import Views

LAST_RATE = 1e-3
"""Share of the learning rate that is left at the end of the cosine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of the training; the defaults are those of the authors' code.

    `kinds`: number of kinds to find; the first is the normal kind, which collects crops that hardly deviate.
    `learning_rate`, `momentum`, `weight_decay`: parameters of SGD; the rate follows a cosine over the epochs.
    `supervised`: weight of the losses that need labels.
    `even_use`: weight of the loss that keeps all kinds in use.
    `normal_below`: score below which a crop counts as normal, and the more so the lower it is.
    `area_temperature`: see `edgead_foundation.anomaly_ncd.merging.merge_regions`.
    `heads`: number of classifiers that learn in parallel; the classifier with the least loss is used.
    """

    kinds: int
    epochs: int = 50
    batch_size: int = 32
    learning_rate: float = 3e-3
    momentum: float = 0.9
    weight_decay: float = 5e-5
    supervised: float = 0.3
    even_use: float = 4.0
    normal_below: float = 0.5
    area_temperature: float = 100.0
    heads: int = 4
    seed: int = 3407

    def __post_init__(self) -> None:
        if self.kinds < 2:
            raise SettingsError(f"kinds is {self.kinds}: at least 2, as the first draws what hardly deviates")
        if self.epochs < 1 or self.batch_size < 2:
            raise SettingsError(f"epochs {self.epochs} and batch_size {self.batch_size}: at least 1 and 2 are needed")


@dataclass(frozen=True, slots=True)
class Objective:
    """Loss of a batch in two views.

    `base`: number of base classes; with 0, the supervised part of the loss is left out, unlike in the paper.
    """

    plan: Plan
    base: int

    def __call__(
        self, outputs: tuple[Tensor, Tensor], labels: Tensor, normality: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch, and each head's loss on unlabelled crops, (heads,).

        `outputs`: outputs of `KindHeads`: (2 n, contrast) and (heads, 2 n, base + kinds), one view after the other.
        `labels` (Tensor of shape (n,), int64): base class; -1 for none.
        `normality` (Tensor of shape (n,)): normality of unlabelled crops, see `losses.pseudo_labels`.
        """
        projections, logits = outputs
        labelled = (labels >= 0).repeat(2)
        temperature = losses.teacher_temperature(epoch, self.plan.epochs)
        weights = normality[labels < 0].repeat(2)
        cluster = torch.stack([self._cluster(x[~labelled], temperature, weights) for x in logits])
        unsupervised = cluster.mean() + losses.info_nce(projections)
        loss = (1 - self.plan.supervised) * unsupervised
        if self.base:
            known = labels[labels >= 0]
            scaled = logits[:, labelled] / losses.STUDENT_TEMPERATURE
            entropy = torch.stack([F.cross_entropy(x, known.repeat(2)) for x in scaled]).mean()
            contrast = losses.supervised_contrast(projections[labelled], known)
            loss = loss + self.plan.supervised * (entropy + contrast)
        return loss, cluster.detach()

    def _cluster(self, logits: Tensor, temperature: float, normality: Tensor) -> Tensor:
        teacher = losses.pseudo_labels(logits, self.base, temperature, normality)
        return losses.cross_view_entropy(logits, teacher) + self.plan.even_use * losses.negative_entropy(logits)


class Material:
    """Crops to learn from: unlabelled crops, then crops of base classes, the known kinds of other products.

    `crops`, `base`: crops without and with labels; at least one without.
    `labels`: class of each of `base`, from 0.
    `normal_below`: see `Plan`.
    """

    def __init__(
        self, crops: Sequence[Crop], base: Sequence[Crop], labels: Sequence[int], views: Views, normal_below: float
    ):
        self._views = views
        self._images = [views.enlarge(crop) for crop in (*crops, *base)]
        self.labels = torch.tensor([-1] * len(crops) + list(labels))
        self.normality = torch.tensor([max(0.0, normal_below - crop.score) for crop in (*crops, *base)])
        # Labelled and unlabelled crops are equally likely.
        weights = np.where(self.labels < 0, len(base) / len(crops) if base else 1.0, 1.0)
        self._shares = weights / weights.sum()

    def __len__(self) -> int:
        return len(self._images)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Draw the crops of an epoch with replacement; int64."""
        return np.random.default_rng([seed, epoch]).choice(len(self), len(self), p=self._shares)

    def two_views(self, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        """Make images (2 n, 3, side, side) and masks (2 n, 1, side, side): a view of each crop, then a second view."""
        images, masks = zip(*(self._views.trained(*self._images[i]) for i in (*chosen, *chosen)), strict=True)
        return torch.stack(images), torch.stack(masks)

    def judged(self, number: int) -> tuple[Tensor, Tensor]:
        """Make the fixed view of a crop for the prediction: (1, 3, side, side) and (1, 1, side, side)."""
        image, mask = self._views.judged(*self._images[number])
        return image[None], mask[None]


def train(
    encoder: Encoder, heads: nn.Module, material: Material, plan: Plan, *, progress: StageProgress = no_progress
) -> int:
    """Train in place; return the number of the head with the least loss in the last epoch.

    Raises SettingsError: the loss is not finite.
    """
    objective = Objective(plan, int(material.labels.max()) + 1)
    network = nn.ModuleDict({"encoder": encoder, "heads": heads})
    optimizer = SGD(_groups(network), lr=plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay)
    per_epoch = math.ceil(len(material) / plan.batch_size)
    lost = torch.zeros(plan.heads, device=next(network.parameters()).device)

    def step(number: int, rng: np.random.Generator) -> Tensor:
        epoch, position = divmod(number, per_epoch)
        chosen = material.order(plan.seed, epoch)[position * plan.batch_size :][: plan.batch_size]
        labels = material.labels[chosen]
        if not (labels < 0).any() or (objective.base and not (labels >= 0).any()):
            return torch.zeros(())  # the authors' code skips such batches
        loss, cluster = lose(network, objective, material, chosen, epoch)
        if epoch == plan.epochs - 1:
            lost.add_(cluster)
        return descend(loss, optimizer)

    network.train()
    run_steps(
        step,
        Learner(network, [optimizer], "sort"),
        plan.epochs * per_epoch,
        seed=plan.seed,
        schedule=lambda number: cosine(number // per_epoch, plan.epochs),
        progress=progress,
    )
    network.eval()
    return int(lost.argmin())


def lose(
    network: nn.ModuleDict, objective: Objective, material: Material, chosen: np.ndarray, epoch: int
) -> tuple[Tensor, Tensor]:
    """Compute `Objective` on two new views of some crops; the network has an `encoder` and `heads`."""
    device = next(network.parameters()).device
    outputs = network["heads"](network["encoder"](*(x.to(device) for x in material.two_views(chosen))))
    labels, normality = (x[chosen].to(device) for x in (material.labels, material.normality))
    return objective(outputs, labels, normality, epoch)


def cosine(epoch: int, epochs: int) -> float:
    """Factor of the learning rate in an epoch."""
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def _groups(network: nn.Module) -> list[dict[str, object]]:
    """Group parameters for the optimizer, without decay of biases and normalisations."""
    learns = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learns if p.ndim > 1]},
        {"params": [p for p in learns if p.ndim <= 1], "weight_decay": 0.0},
    ]
