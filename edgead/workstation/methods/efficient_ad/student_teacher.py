"""Student, teacher and autoencoder of EfficientAD: layers, maps and losses.

Batzner, Heckler, Koenig, "EfficientAD", WACV 2024 (arXiv 2303.14535): layer tables of the appendix.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import SettingsError
from edgead.workstation.trainer.pretraining_images import PretrainingImages

ModelSize = Literal["small", "medium"]
MODEL_SIZES: tuple[ModelSize, ...] = ("small", "medium")

CHANNELS = 384
"""Number of channels of a teacher's output."""

STRIDE_PX = 4
"""Stride of every PDN (patch description network), pixels; an output describes 33 x 33 pixels."""

BORDER = 4
"""Positions that an output without padding lacks on every side, compared with one with padding."""

BOTTLENECK = 64
DROPOUT = 0.2

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
QUANTILES = (0.9, 0.995)
"""Quantiles q_a and q_b of the maps, which become 0 and 0.1 (section 3.4)."""
PENALTY_GREY_RATE = 0.3


def pixel_moments() -> tuple[Tensor, Tensor]:
    """Return ImageNet's mean and deviation of RGB in 0..255, each (1, 3, 1, 1)."""
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def build_pdn(size: ModelSize, channels: int, *, padding: bool = False) -> nn.Sequential:
    """Build a patch description network; input RGB normalised like ImageNet, float32 (n, 3, h, w).

    `size`: {"small", "medium"}.
    `channels`: channels of the output: those of a teacher, or twice as many for a student.
    `padding`: with the zero padding of the paper's tables the output is (h / 4, w / 4) for even sides. Without padding
        every output sees only pixels of the image, and the output is (h / 4 - 8, w / 4 - 8) for sides divisible by
        four, that is, four positions less on every side.
    Raises SettingsError: unknown size.
    """
    if size == "small":
        return _small(channels, padding)
    if size == "medium":
        return _medium(channels, padding)
    raise SettingsError(f"unknown model_size {size!r}: choose one of {', '.join(MODEL_SIZES)}")


def grid_of(image_size: tuple[int, int], *, padding: bool) -> tuple[int, int]:
    """Compute the rows and columns of a PDN's output."""
    cut = 0 if padding else 2 * BORDER
    return image_size[0] // STRIDE_PX - cut, image_size[1] // STRIDE_PX - cut


def _small(channels: int, padding: bool) -> nn.Sequential:
    """Build PDN-S, table 6."""
    pad = int(padding)
    return nn.Sequential(
        nn.Conv2d(3, 128, 4, padding=3 * pad),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=pad),
        nn.Conv2d(128, 256, 4, padding=3 * pad),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=pad),
        nn.Conv2d(256, 256, 3, padding=pad),
        nn.ReLU(),
        nn.Conv2d(256, channels, 4),
    )


def _medium(channels: int, padding: bool) -> nn.Sequential:
    """Build PDN-M, table 7."""
    pad = int(padding)
    return nn.Sequential(
        nn.Conv2d(3, 256, 4, padding=3 * pad),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=pad),
        nn.Conv2d(256, 512, 4, padding=3 * pad),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=pad),
        nn.Conv2d(512, 512, 1),
        nn.ReLU(),
        nn.Conv2d(512, 512, 3, padding=pad),
        nn.ReLU(),
        nn.Conv2d(512, channels, 4),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 1),
    )


def build_autoencoder(channels: int, image_size: tuple[int, int], *, padding: bool = False) -> nn.Sequential:
    """Build the autoencoder, table 8, that predicts the teacher's output through a bottleneck of 64 numbers.

    At 256 pixels the decoder goes through 3, 8, 15, 32, 63 and 127 to the teacher's grid.

    `channels`: channels of the teacher.
    `image_size`: multiples of 32. The paper's is (256, 256); for others the last convolution of the encoder and the
        decoder's steps grow with it, so that the bottleneck stays 64 numbers.
    `padding`: padding of the teacher, which determines the size of the output.
    Raises SettingsError: a side is not a multiple of 32, or smaller than 64.
    """
    if any(side % 32 or side < 64 for side in image_size):
        raise SettingsError(f"image_size {list(image_size)}: efficient_ad needs multiples of 32 from 64 on")
    grid = grid_of(image_size, padding=padding)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.ReLU()]
    layers.append(nn.Conv2d(64, BOTTLENECK, (image_size[0] // 32, image_size[1] // 32)))
    for divisor, less in ((64, 1), (32, 0), (16, 1), (8, 0), (4, 1), (2, 1)):
        step = tuple(max(1, side // divisor - less) for side in image_size)
        layers += [BilinearResize(step), nn.Conv2d(64, 64, 4, padding=2), nn.ReLU(), nn.Dropout(DROPOUT)]
    layers += [BilinearResize(grid), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, channels, 3, padding=1)]
    return nn.Sequential(*layers)


class BilinearResize(nn.Module):
    """Bilinear resizing to a fixed size."""

    def __init__(self, size: tuple[int, ...]):
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


class StudentTeacher(nn.Module):
    """Network of teacher, student and autoencoder with the normalisation of their maps; exported unchanged."""

    quantiles: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, teacher: nn.Sequential, size: ModelSize, image_size: tuple[int, int], *, padding: bool = False):
        super().__init__()
        self.border = 0 if padding else BORDER
        self.teacher = teacher
        self.student = build_pdn(size, 2 * CHANNELS, padding=padding)
        self.autoencoder = build_autoencoder(CHANNELS, image_size, padding=padding)
        self.register_buffer("quantiles", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
        for name, moment in zip(("pixel_mean", "pixel_std"), pixel_moments(), strict=True):
            self.register_buffer(name, moment, persistent=False)  # kept on the device, so that steps need no copy

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise RGB in 0..255, float32 (n, 3, h, w), for the networks."""
        return (image - self.pixel_mean) / self.pixel_std

    def maps(self, image: Tensor) -> Tensor:
        """Normalised pixels (n, 3, h, w) -> local and global map (n, 2, h', w'), as in algorithm 2.

        The local map is the mean square difference of teacher and student over the channels, the global map that of
        autoencoder and student.
        """
        student = self.student(image)
        local = (self.teacher(image) - student[:, :CHANNELS]).square().mean(dim=1)
        overall = (self.autoencoder(image) - student[:, CHANNELS:]).square().mean(dim=1)
        return torch.stack([local, overall], dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB (n, h, w, 3) -> combined map, float32 (n, h / 4, w / 4).

        Without padding the outermost positions repeat their neighbours. nelson1425/EfficientAd fills them with 0, which
        is the 0.9 quantile of good images, so that its image score never falls below it.
        """
        maps = self.maps(self.normalise(image.float().permute(0, 3, 1, 2)))
        start, stop = self.quantiles[:, 0].view(1, 2, 1, 1), self.quantiles[:, 1].view(1, 2, 1, 1)
        combined = (0.1 * (maps - start) / (stop - start)).mean(dim=1, keepdim=True)
        return F.pad(combined, (self.border,) * 4, mode="replicate").squeeze(1)


class Losses(NamedTuple):
    """Loss terms of algorithm 1, one number each: L_ST is `hard` + `penalty`, L_AE and L_STAE follow."""

    hard: Tensor
    penalty: Tensor
    autoencoder: Tensor
    student_autoencoder: Tensor


def total_loss(network: StudentTeacher, image: Tensor, augmented: Tensor, other: Tensor, hard: float) -> Tensor:
    """Compute L_total = L_ST + L_AE + L_STAE; see `loss_terms`."""
    terms = loss_terms(network, image, augmented, other, hard)
    return terms.hard + terms.penalty + terms.autoencoder + terms.student_autoencoder


def loss_terms(network: StudentTeacher, image: Tensor, augmented: Tensor, other: Tensor, hard: float) -> Losses:
    """Compute the loss terms of algorithm 1; images are RGB in 0..255, float32 (n, 3, h, w), with n = 1 in the paper.

    The three images go through the student as one batch, and its last layer, the largest, computes for each only the
    half of the channels that its loss needs.

    `network`: network whose teacher is normalised.
    `image`, `augmented`: a good image, and its augmented copy for the autoencoder.
    `other`: an image of something else, for the pretraining penalty.
    `hard`: p_hard.
    """
    count = len(image)
    inputs = network.normalise(torch.cat([other, image, augmented]))
    with torch.no_grad():
        target, augmented_target = network.teacher(inputs[count:]).split(count)
    described = network.student[:-1](inputs)
    last = network.student[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    ahead, behind = slice(CHANNELS), slice(CHANNELS, None)
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
    """Compute L_hard (section 3.2): the mean of the square differences that reach their p_hard quantile.

    Those are the n - ceil(p_hard (n - 1)) largest of n, the quantile being interpolated linearly.
    """
    differences = (teacher.float() - student.float()).square().flatten()
    count = differences.numel() - math.ceil(quantile * (differences.numel() - 1))
    return differences.topk(count).values.mean()


def augment(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change one of brightness, contrast and saturation by a factor from 0.8 to 1.2 (algorithm 1)."""
    from torchvision.transforms import functional

    change = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)[rng.integers(3)]
    return 255 * change(image / 255, rng.uniform(0.8, 1.2))


def draw_other(images: PretrainingImages, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw an image for the pretraining penalty: a middle half, grey with 30 % probability (algorithm 1)."""
    image = images.draw(rng, max(size), grey_rate=PENALTY_GREY_RATE)
    return image[: size[0], : size[1]]


def map_quantiles(maps: np.ndarray) -> Tensor:
    """Compute the quantiles q_a and q_b of both maps (section 3.4) from all values (2, n) on good images; (2, 2)."""
    quantiles = np.quantile(maps, QUANTILES, axis=1).T
    if not (quantiles[:, 1] > quantiles[:, 0]).all():
        raise SettingsError("the maps of good images are the same everywhere: the images, or the teacher, are empty")
    return torch.from_numpy(quantiles).float()
