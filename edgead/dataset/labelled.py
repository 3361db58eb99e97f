"""Labelled images: the common form into which every layout of data sets is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgead.dataset.errors import DatasetError
from edgead.dataset.masks import Mask, add_file

GOOD = "good"
TRAIN, VALIDATION, TEST, UNLABELLED, UNSPLIT = "train", "validation", "test", "unlabelled", ""
"""Names of splits; the data set assigns `UNSPLIT` images to none, and `UNLABELLED` images are not used."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """Image of a data set with its label.

    `defect`: name of the kind of defect; "good" for a good image.
    `mask`: mask of the defect; a good image needs none.
    `group`: name that the data set gives to the part, batch or light in the image.
    """

    path: Path
    defect: str
    mask: Path | Mask | None
    split: str = TEST
    group: str | None = None

    @property
    def is_defective(self) -> bool:
        return self.defect != GOOD

    def load_mask(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Read the mask as bool (H, W); all False for a good image, None for a defect without a mask."""
        if not self.is_defective:
            return np.zeros(shape, bool)
        if self.mask is None:
            return None
        mask = self.mask if isinstance(self.mask, Mask) else Mask(self.mask, (partial(add_file, file=self.mask),))
        try:
            return mask.load(shape)
        except ValueError as error:
            raise DatasetError(f"{mask.source}, for {self.path.name}: {error}") from error
