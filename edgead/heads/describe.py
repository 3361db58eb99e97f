"""Feature vectors of anomalies, for sorting defects by kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from edgead.heads.contract import Outputs
from edgead.heads.patches import PatchHead
from edgead.kernels import NearestPatches

# Numbers of highest-scoring patches. Ours, chosen on one split of the magnetic tiles: every second of 80 costs a search
# of 40, and recognises kinds better than the first 40; for finding kinds, the features of more patches blur them.
PATCHES = 40
_SEARCHED = slice(0, 2 * PATCHES, 2)
_WIDE = 160
_NEIGHBOURHOOD = (3, 3)


class PatchDescriber:
    """Feature vector of a frame's most anomalous patches: residuals to good patches, and the features themselves.

    The memory bank is searched again for some of these patches, because scoring keeps no indices of nearest rows.

    `outputs`: buffers that a runtime writes into; features on a GPU are copied to the host, only for described frames.
    `bank`: ndarray of shape (m, d), float32.
    `nearest`: search in the bank.
    """

    def __init__(self, head: PatchHead, outputs: Outputs, bank: np.ndarray, nearest: NearestPatches):
        self._bank, self._nearest = bank, nearest
        self._name, self._inner = head.patches.name, head.inner(head.grid(outputs))
        self._on_host = on_host(outputs[self._name])

    def describe(self, outputs: Outputs, patch_scores: np.ndarray) -> np.ndarray:
        """Describe a frame; see `edgead.heads.contract.Describer`.

        Patches are ordered by the mean score of their 3 x 3 neighbourhood, the highest first. The vector joins:

        - how the defect differs from good parts: the mean of patch minus nearest patch of the memory bank, over every
          second of the first 80; its length is replaced by the root of its length;
        - how it looks: the mean feature of the first 40, scaled to length 1;
        - how it differs from the rest: the mean feature of the first 160 (a quarter of all at most) minus that of the
          frame, of which every second line of patches counts; scaled to length 1.
        """
        features = self._on_host(outputs[self._name])[0][self._inner]
        scores = cv2.blur(patch_scores, _NEIGHBOURHOOD, borderType=cv2.BORDER_REPLICATE)[self._inner]
        patches = features[np.unravel_index(_highest(scores, _WIDE), scores.shape)]
        searched = np.ascontiguousarray(patches[_SEARCHED])
        _, nearest = self._nearest.search(searched)
        residual = (searched - self._bank[nearest[:, 0]]).mean(axis=0)
        length = float(np.linalg.norm(residual))
        wide = patches[: max(1, scores.size // 4)].mean(axis=0)
        contrast = wide - features[::2].mean(axis=(0, 1))
        return np.concatenate(
            [_unit(residual) * np.float32(length**0.5), _unit(patches[:PATCHES].mean(axis=0)), _unit(contrast)]
        )


def on_host(buffer: Any) -> Callable[[Any], np.ndarray]:
    """Make a function that copies features like `buffer` to the host; its result is valid until the next call."""
    if isinstance(buffer, np.ndarray):
        return np.asarray
    device = buffer.device
    with device.current():
        fetched = device.pinned(buffer.shape, np.float32)

    def fetch(features: Any) -> np.ndarray:
        with device.current():
            device.copy_out(fetched, features.address)
            device.wait()
        return fetched

    return fetch


def _highest(scores: np.ndarray, most: int) -> np.ndarray:
    """Flat indices of the highest scores, the highest first."""
    count = min(most, scores.size)
    picks = np.argpartition(scores, scores.size - count, axis=None)[-count:]
    return picks[np.argsort(-scores.ravel()[picks], kind="stable")]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny)
