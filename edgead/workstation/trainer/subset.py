"""Subset of a sequence of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Chosen(Sequence[np.ndarray]):
    """Some of the images, by their indices; read when they are asked for."""

    def __init__(self, images: Sequence[np.ndarray], indices: np.ndarray):
        self._images, self._indices = images, indices.tolist()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, number: int) -> np.ndarray:  # type: ignore[override]
        return self._images[self._indices[number]]
