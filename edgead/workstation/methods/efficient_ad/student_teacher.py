"""Student, teacher and autoencoder of EfficientAD (arXiv 2303.14535): their maps, and the losses they learn by."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.workstation.methods.efficient_ad.pdn import (
    BORDER,
    CHANNELS,
    ModelSize,
    build_autoencoder,
    build_pdn,
    pixel_moments,
)
from edgead.workstation.trainer.pretraining_images import PretrainingImages

QUANTILES = (0.9, 0.995)
"""q_a and q_b, which are mapped to 0 and 0.1 (section 3.4)."""

PENALTY_GREY_RATE = 0.3


class StudentTeacher(nn.Module):
    """Teacher, student and autoencoder with the normalisation of their maps, exported as it stands."""

    quantiles: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, teacher: nn.Sequential, size: ModelSize, image_size: tuple[int, int], *, padding: bool = False):
        super().__init__()
        self.channels = CHANNELS[size]
        self.border = 0 if padding else BORDER
        self.teacher = teacher
        self.student = build_pdn(size, 2 * self.channels, padding=padding)
        self.autoencoder = build_autoencoder(size, self.channels, image_size, padding=padding)
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        for name, moment in zip(("pixel_mean", "pixel_std"), pixel_moments(), strict=True):
            self.register_buffer(name, moment, persistent=False)  # on the device already: no copy in a step

    def normalise(self, image: Tensor) -> Tensor:
        """RGB in 0..255, float32 (n, 3, h, w) -> what the networks take."""
        return (image - self.pixel_mean) / self.pixel_std

    def maps(self, image: Tensor) -> Tensor:
        """Normalised pixels (n, 3, h, w) -> local and global map (n, 2, h', w'), as algorithm 2 has them.

        The local map is the mean square difference of teacher and student over the channels, the global map that of
        autoencoder and student.
        """
        student = self.student(image)
        local = (self.teacher(image) - student[:, : self.channels]).square().mean(dim=1)
        overall = (self.autoencoder(image) - student[:, self.channels :]).square().mean(dim=1)
        return torch.stack([local, overall], dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> combined map, float32 (n, h / 4, w / 4).

        Without padding the outermost positions repeat their neighbours. nelson1425/EfficientAd puts zeros there, the
        0.9 quantile of good images, below which its image score never falls.
        """
        maps = self.maps(self.normalise(image.float().permute(0, 3, 1, 2)))
        start, stop = self.quantiles[:, 0].view(1, 2, 1, 1), self.quantiles[:, 1].view(1, 2, 1, 1)
        combined = (0.1 * (maps - start) / (stop - start)).mean(dim=1, keepdim=True)
        return F.pad(combined, (self.border,) * 4, mode="replicate").squeeze(1)


class Losses(NamedTuple):
    """Terms of algorithm 1, one number each: L_ST is `hard` + `penalty`, L_AE and L_STAE follow."""

    hard: Tensor
    penalty: Tensor
    autoencoder: Tensor
    student_autoencoder: Tensor


def total_loss(network: StudentTeacher, image: Tensor, augmented: Tensor, other: Tensor, hard: float) -> Tensor:
    """L_total = L_ST + L_AE + L_STAE; see `loss_terms`."""
    terms = loss_terms(network, image, augmented, other, hard)
    return terms.hard + terms.penalty + terms.autoencoder + terms.student_autoencoder


def loss_terms(network: StudentTeacher, image: Tensor, augmented: Tensor, other: Tensor, hard: float) -> Losses:
    """What algorithm 1 adds up; all images RGB in 0..255, float32 (n, 3, h, w), the paper's n is 1.

    The three images go through the student as one batch, and its last layer, the largest, makes for each only the half
    of the channels that a loss is taken on.

    Parameters
    ----------
    network : StudentTeacher
        Its teacher is normalised already.
    image, augmented : Tensor
        A good image, and what the autoencoder sees of it.
    other : Tensor
        An image of something else, for the pretraining penalty.
    hard : float
        p_hard.
    """
    count, channels = len(image), network.channels
    inputs = network.normalise(torch.cat([other, image, augmented]))
    with torch.no_grad():
        target, augmented_target = network.teacher(inputs[count:]).split(count)
    described = network.student[:-1](inputs)
    last = network.student[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    ahead, behind = slice(channels), slice(channels, None)
    on_other, local = F.conv2d(described[: 2 * count], last.weight[ahead], last.bias[ahead]).split(count)
    imitated = F.conv2d(described[2 * count :], last.weight[behind], last.bias[behind])
    reconstruction = network.autoencoder(inputs[2 * count :])
    return Losses(
        hard_feature_loss(target, local, hard),
        on_other.float().square().mean(),
        F.mse_loss(reconstruction, augmented_target),
        F.mse_loss(imitated, reconstruction),
    )


def hard_feature_loss(teacher: Tensor, student: Tensor, quantile: float) -> Tensor:
    """L_hard (section 3.2): the mean of the square differences that reach their p_hard quantile.

    Those are the n - ceil(p_hard (n - 1)) largest of n, the quantile being interpolated linearly.
    """
    differences = (teacher.float() - student.float()).square().flatten()
    count = differences.numel() - math.ceil(quantile * (differences.numel() - 1))
    return differences.topk(count).values.mean()


def augment(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast or saturation, one of them, by a factor from 0.8 to 1.2 (algorithm 1)."""
    from torchvision.transforms import functional

    change = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)[rng.integers(3)]
    return 255 * change(image / 255, rng.uniform(0.8, 1.2))


def draw_other(images: PretrainingImages, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw what the pretraining penalty is taken on: the middle half of an image, grey at 30 % (algorithm 1)."""
    image = images.draw(rng, max(size), grey_rate=PENALTY_GREY_RATE, zoom=2)
    return image[: size[0], : size[1]]


def map_quantiles(maps: np.ndarray) -> Tensor:
    """The quantiles q_a and q_b of both maps (section 3.4), from all their values (2, n) on good images; (2, 2)."""
    quantiles = np.quantile(maps, QUANTILES, axis=1).T
    if not (quantiles[:, 1] > quantiles[:, 0]).all():
        raise SettingsError("the maps of good images are the same everywhere: the images, or the teacher, are empty")
    return torch.from_numpy(quantiles).float()
