"""What is anomalous in a frame, in numbers that distinguish kinds of defects."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edgead.heads.contract import Outputs
from edgead.heads.patches import PatchHead
from edgead.kernels import NearestPatches

PATCHES = 40
_NEIGHBOURHOOD = (3, 3)


class PatchDescriber:
    """Describes the most anomalous patches of a frame by their features and what sets these off from good ones.

    The memory bank is searched again, for these patches alone: scoring keeps no index of the nearest rows.

    Parameters
    ----------
    head : PatchHead
    outputs : mapping
        The buffers that a runtime writes into; features on a GPU are fetched, which a frame pays that is described.
    bank : ndarray of shape (m, d), float32
    nearest : NearestPatches
        Finds rows of it.
    """

    def __init__(self, head: PatchHead, outputs: Outputs, bank: np.ndarray, nearest: NearestPatches):
        self._bank, self._nearest = bank, nearest
        self._name, self._inner = head.patches.name, head.inner(head.grid(outputs))
        buffer = outputs[self._name]
        self._fetched = None
        if not isinstance(buffer, np.ndarray):
            with buffer.device.current():
                self._fetched = buffer.device.pinned(buffer.shape, np.float32)

    def describe(self, outputs: Outputs, patch_scores: np.ndarray) -> np.ndarray:
        """Describe a frame; see `edgead.heads.contract.Describer`.

        The two halves are the mean of the residuals to the nearest rows, with the root of its length, and the mean of
        the features, with length 1, over the patches whose neighbourhoods of 3 x 3 patches score highest.
        """
        features = self._on_host(outputs[self._name])[0]
        rows, columns = self._inner
        scores = cv2.blur(patch_scores, _NEIGHBOURHOOD, borderType=cv2.BORDER_REPLICATE)[self._inner]
        count = min(PATCHES, scores.size)
        picks = np.argpartition(scores, scores.size - count, axis=None)[-count:]
        patches = np.ascontiguousarray(features[rows, columns][np.unravel_index(picks, scores.shape)])
        _, nearest = self._nearest.search(patches)
        residual = (patches - self._bank[nearest[:, 0]]).mean(axis=0)
        length = float(np.linalg.norm(residual))
        return np.concatenate([_unit(residual) * np.float32(length**0.5), _unit(patches.mean(axis=0))])

    def _on_host(self, features: Any) -> np.ndarray:
        if self._fetched is None:
            return np.asarray(features)
        device = features.device
        with device.current():
            device.copy_out(self._fetched, features.address)
            device.wait()
        return self._fetched


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), np.finfo(np.float32).tiny)
