"""Good images once more, changed as good parts may lie: what a memory bank of few images lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Change = Callable[[np.ndarray], np.ndarray]


def _quarter(count: int) -> Change:
    def turn(image: np.ndarray) -> np.ndarray:
        turned = np.ascontiguousarray(np.rot90(image, count))
        return cv2.resize(turned, image.shape[1::-1], interpolation=cv2.INTER_AREA)

    return turn


# Small turns, shifts and other light were tried and left: 0.00 to 0.01 of image AUROC with 1 and 4 images of cookie.
CHANGES: dict[str, tuple[Change, ...]] = {
    "flips": (lambda image: image[:, ::-1], lambda image: image[::-1], lambda image: image[::-1, ::-1]),
    "quarters": tuple(_quarter(count) for count in (1, 2, 3)),
}


class Augmented(Sequence[np.ndarray]):
    """Each image as it is, followed by its changed ones.

    Parameters
    ----------
    images : sequence of ndarray of shape (h, w, 3), uint8
    kinds : sequence of str
        Names in `CHANGES`: mirrored in both directions and both, or turned by quarters.
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
