"""Training of FiLo on images of other products, with masks: prompts and decoders first, the adapter after them.

The authors' code computes the Dice loss of each row of an image, as it takes the mask's first axis for the batch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.adapt.methods.method import Course
from edgead.workstation.trainer.checkpoint import Learner
from edgead_foundation.anomaly_clip.training import (
    Epochs,
    LabelledSet,
    dice_loss,
    focal_loss,
    image_loss,
    learn_labelled,
)
from edgead_foundation.filo.network import FiloNetwork
from edgead_foundation.filo.words import PLACES, Sentences

BETAS = (0.5, 0.999)
IMAGE_TEMPERATURE = 0.07
"""Temperature of the cross-entropy that trains the adapter."""


@dataclass(frozen=True)
class Product:
    """Product for training: its labelled images, and its sentences for all `PLACES`."""

    labelled: LabelledSet
    good: Sentences
    anomalous: Sentences


@dataclass(frozen=True)
class Stage:
    """Stage of the training: modules of the network that are learnt together.

    `rates` (sequence of (nn.Module, float)): these modules, each with its learning rate.
    """

    name: str
    rates: Sequence[tuple[nn.Module, float]]
    epochs: int


def main_stage(network: FiloNetwork, prompts_rate: float, decoders_rate: float, epochs: int) -> Stage:
    """Make the first stage, which learns prompts and decoders; `adapter_stage` makes the second."""
    prompts, decoders = (network.words.good, network.words.anomalous), (network.shapes, network.linear)
    rates = [*((each, decoders_rate) for each in decoders), *((each, prompts_rate) for each in prompts)]
    return Stage("train", rates, epochs)


def adapter_stage(network: FiloNetwork, rate: float, epochs: int) -> Stage:
    """Make the second stage, which learns only the adapter."""
    return Stage("train the adapter", [(network.narrow, rate), (network.widen, rate)], epochs)


def optimizer_of(stage: Stage) -> torch.optim.Optimizer:
    """Make the optimizer of the authors' code."""
    groups = [{"params": [*part.parameters()], "lr": rate} for part, rate in stage.rates]
    return torch.optim.AdamW(groups, betas=BETAS)


def map_loss(network: FiloNetwork, product: Product, images: Tensor, masks: Tensor) -> Tensor:
    """Compute the sum of focal and Dice losses over the maps of all decoders; a scalar.

    `images`: Tensor of shape (n, h, w, 3), uint8, RGB.
    `masks` (Tensor of shape (n, h, w), float): 1 where the pixel is anomalous.
    """
    with torch.no_grad():
        embedding, original, local = network.embed(images)
    shown = F.normalize(embedding, dim=-1)
    good, anomalous = network.words(shown, product.good, product.anomalous, len(PLACES))
    text = F.normalize(anomalous.mean(dim=1), dim=-1)
    rows, losses = masks.flatten(0, 1), []
    for share in network.shares(network.decode(original, local), good, text).unbind(1):
        of_rows = share.flatten(0, 1)
        losses.append(focal_loss(torch.stack([1 - share, share], dim=1), masks))
        losses.append(dice_loss(of_rows, rows) + dice_loss(1 - of_rows, 1 - rows))
    return torch.stack(losses).sum()


def adapter_loss(network: FiloNetwork, product: Product, images: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of images (n, h, w, 3) with their labels (n,), 1 for a defect; a scalar."""
    with torch.no_grad():
        embedding, *_ = network.embed(images)
    adapted = network.adapt(embedding)
    with torch.no_grad():
        good, anomalous = network.words(adapted, product.good, product.anomalous, len(PLACES))
    texts = torch.stack([good, F.normalize(anomalous.mean(dim=1), dim=-1)], dim=1) / 2**0.5
    return image_loss((texts @ adapted[:, :, None]).squeeze(2), labels, IMAGE_TEMPERATURE)


def learn_stages(
    network: FiloNetwork, products: Sequence[Product], stages: Sequence[Stage], course: Course, *, seed: int
) -> None:
    """Train one stage after the other, with one image per step, shuffled in each epoch."""
    ends = list(accumulate(len(product.labelled) for product in products))
    for stage in stages:

        def loss(picks: list[int], of_maps: bool = stage is stages[0]) -> Tensor:
            (pick,) = picks
            number = bisect_right(ends, pick)
            product = products[number]
            batch = product.labelled.batch([pick - ends[number] + len(product.labelled)])
            images, masks, labels = (each.to(course.device) for each in batch)
            if of_maps:
                return map_loss(network, product, images, masks)
            return adapter_loss(network, product, images, labels)

        learnt = nn.ModuleList(part for part, _ in stage.rates).requires_grad_(True)
        learner = Learner(learnt, [optimizer_of(stage)], stage.name)
        learn_labelled(loss, learner, Epochs(ends[-1], 1, stage.epochs, seed), course)
        learnt.requires_grad_(False)
