"""Good images once more, changed as good parts may differ: what a memory bank of few images lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Change = Callable[[np.ndarray], np.ndarray]


def _turned(degrees: float) -> Change:
    def turn(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
        return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)

    return turn


def _quarter(count: int, *, mirrored: bool = False) -> Change:
    def turn(image: np.ndarray) -> np.ndarray:
        turned = np.rot90(image[:, ::-1] if mirrored else image, count)
        return cv2.resize(np.ascontiguousarray(turned), image.shape[1::-1], interpolation=cv2.INTER_AREA)

    return turn


def _shifted(right: int, down: int) -> Change:
    def shift(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        wide = cv2.copyMakeBorder(image, down, 0, right, 0, cv2.BORDER_REFLECT_101)
        return wide[:height, :width]

    return shift


def _lit(factor: float) -> Change:
    return lambda image: cv2.convertScaleAbs(image, alpha=factor)


CHANGES: dict[str, tuple[Change, ...]] = {
    "flips": (lambda image: image[:, ::-1], lambda image: image[::-1], lambda image: image[::-1, ::-1]),
    "quarters": tuple(_quarter(count) for count in (1, 2, 3)),
    "turns": tuple(_turned(degrees) for degrees in (-6, -3, 3, 6)),
    "shifts": (_shifted(4, 0), _shifted(0, 4), _shifted(4, 4)),
    "light": tuple(_lit(factor) for factor in (0.8, 0.9, 1.1, 1.2)),
}


class Augmented(Sequence[np.ndarray]):
    """Each image as it is, followed by its changed ones.

    Parameters
    ----------
    images : sequence of ndarray of shape (h, w, 3), uint8
    kinds : sequence of str
        Names in `CHANGES`.
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
