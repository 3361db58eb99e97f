"""Training of AnomalyCLIP's prompts, on good and defective images of other products, with masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.adapt.methods.method import Course
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import preprocess
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import LabelledImage, find_test_images
from edgead.images.files import load_image
from edgead.workstation.trainer.checkpoint import Learner
from edgead.workstation.trainer.loop import descend, run_steps

MAP_WEIGHT = 4.0
_GAMMA, _LABEL_SMOOTHING, _DICE_SMOOTHING = 2.0, 1e-5, 1.0


class LabelledSet:
    """Labelled images and masks of one or several folders in MVTec layout, `test` and `ground_truth`.

    Raises DatasetError: a defective image has no mask, or a folder has no good or no defective images.
    """

    def __init__(self, folders: Sequence[Path], spec: Preprocessing):
        self._spec = spec
        self._images: list[LabelledImage] = [image for folder in folders for image in find_test_images(folder)]
        bare = [image.path for image in self._images if image.is_defective and image.mask is None]
        if bare:
            raise DatasetError(
                f"{len(bare)} defective images have no mask, {bare[0]} first: prompts are learnt from masks, "
                "ground_truth/KIND/NAME_mask.png"
            )

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, picks: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Load images uint8 RGB (n, h, w, 3), masks float32 (n, h, w) of 0 and 1, labels int64 (n,), 1 for a defect."""
        samples = [self._sample(self._images[pick]) for pick in picks]
        images, masks = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True))
        return images, masks, torch.tensor([int(self._images[pick].is_defective) for pick in picks])

    def _sample(self, one: LabelledImage) -> tuple[np.ndarray, np.ndarray]:
        image = load_image(one.path)
        mask = one.load_mask(image.shape[:2])
        assert mask is not None  # checked when the set was made
        size = self._spec.image_size[::-1]
        # Resized like torchvision, which the authors use.
        covered = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return preprocess(image, self._spec), (covered > 0.5).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Epochs:
    """Schedule: the order of the images in each epoch.

    `seed`: seed of the order of images.
    """

    images: int
    batch_size: int
    epochs: int
    seed: int

    @property
    def steps(self) -> int:
        return self.epochs * math.ceil(self.images / self.batch_size)


def learn_labelled(loss: Callable[[list[int]], Tensor], learner: Learner, epochs: Epochs, course: Course) -> None:
    """Train batch by batch; `loss` takes the indices of a batch's images."""

    def step(number: int, rng: np.random.Generator) -> Tensor:
        chosen = order_of(epochs.images, epochs.batch_size, number, epochs.seed)
        return descend(loss(chosen.tolist()), *learner.optimizers)

    run_steps(step, learner, epochs.steps, seed=epochs.seed, checkpoint=course.checkpoint, progress=course.progress)


def order_of(count: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the indices of a step's images: each epoch shuffles all images, and its last batch may be smaller."""
    steps = -(-count // batch_size)
    epoch, place = divmod(step, steps)
    return np.random.default_rng([seed, epoch]).permutation(count)[place * batch_size : (place + 1) * batch_size]


def map_loss(shares: Sequence[Tensor], masks: Tensor) -> Tensor:
    """Compute the focal and Dice losses of maps, summed over layers; a scalar.

    `shares` (sequence of Tensor of shape (n, 2, h, w)): probabilities of the good and the anomalous text, by layer.
    `masks` (Tensor of shape (n, h, w), float): 1 where the pixel is anomalous.
    """
    losses = [
        focal_loss(share, masks) + dice_loss(share[:, 1], masks) + dice_loss(share[:, 0], 1 - masks) for share in shares
    ]
    return torch.stack(losses).sum()


def image_loss(cosines: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Compute the cross-entropy of images' cosines (n, 2) with their labels (n,); a scalar."""
    return F.cross_entropy(cosines / temperature, labels)


def focal_loss(shares: Tensor, masks: Tensor) -> Tensor:
    """Compute -(1 - p)^2 log p averaged over pixels (Lin et al. 2017), with the authors' smoothing of labels and p."""
    truth = torch.stack([1 - masks, masks], dim=1).clamp(_LABEL_SMOOTHING, 1 - _LABEL_SMOOTHING)
    p = (truth * shares).sum(dim=1) + _LABEL_SMOOTHING
    return -((1 - p).pow(_GAMMA) * p.log()).mean()


def dice_loss(share: Tensor, masks: Tensor) -> Tensor:
    """Compute 1 - Dice of each image, averaged (Milletari et al. 2016, without squares)."""
    both = (share * masks).flatten(1).sum(dim=1)
    each = share.flatten(1).sum(dim=1) + masks.flatten(1).sum(dim=1)
    return (1 - (2 * both + _DICE_SMOOTHING) / (each + _DICE_SMOOTHING)).mean()
