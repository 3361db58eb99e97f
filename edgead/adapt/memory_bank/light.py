"""Effect of light: changes of good patches when a lamp is a tenth brighter or darker, computed from their images.

The metric of `edgead.adapt.memory_bank.feature_space` weakens differences between good parts. Images of one day seldom
have the light of another, so some are also learnt brighter and darker. Ours; see benchmarks/RESULTS.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgead.adapt.memory_bank.feature_space import FeatureScale

BRIGHTNESS = (0.9, 1.1)
MOST_LIT = 20
# Patches used of an image: every second one, in every second row.
STEP = 2


def lit(image: np.ndarray, brightness: float) -> np.ndarray:
    """Return a brighter or darker copy of a preprocessed image, uint8 (h, w, channels)."""
    return np.clip(np.rint(image.astype(np.float32) * brightness), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Lit:
    """Raw features of some good images, and of the same images in other light.

    Attributes
    ----------
    images : ndarray of shape (k,), int
        Indices among the images that a bank is learnt from.
    good : ndarray of shape (k, h, w, d), float32
    others : ndarray of shape (lights, k, h, w, d), float32
    """

    images: np.ndarray
    good: np.ndarray
    others: np.ndarray

    def changes(self, scale: FeatureScale) -> np.ndarray:
        """Return the changes of each patch by other light, standardised by `scale`, float32 (k, patches, d)."""
        width = self.good.shape[-1]
        grids = [each.reshape(-1, width).copy() for each in (self.good, *self.others)]
        for grid in grids:
            scale.standardise(grid)
        changes = [(grid - grids[0]).reshape(len(self.images), -1, width) for grid in grids[1:]]
        return np.concatenate(changes, axis=1)
