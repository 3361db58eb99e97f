"""Training pairs of a good part and the same part with a made defect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import preprocess
from edgead.artifact.training_hashes import content_sha256
from edgead.dataset.errors import DatasetError
from edgead.dataset.images import Images
from edgead.dataset.made_sets import read_made
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.workstation.methods.draem.perlin import rotate

# Of Gui et al., "Few-shot anomaly-driven generation for anomaly classification and segmentation" (AnoGen, ECCV 2024),
# from the authors' code, https://github.com/gaobb/AnoGen: shares of defective and of turned samples.
DEFECTIVE_SHARE, ROTATED_SHARE, ROTATION_DEG = 0.5, 0.3, 90.0
# Share of a pixel of the network's input that must be defect to mark it: a thin crack covers only a part.
_COVERED = 64


class MadePairs:
    """Source of pairs of a good part and the same part with a made defect.

    `folder`: folder with a `made.json`, see `edgead.dataset.made_sets`.
    `images` (sequence of ndarray of shape (h, w, 3), uint8, RGB): images to learn from. If their files are known, only
        defects on these parts are used, as other parts may be held out for thresholds.
    `spec`: preprocessing for arrays; files have their own.
    Raises SettingsError: the images are cut into tiles.
    Raises DatasetError: the folder cannot be read, or none of its defects is on one of these parts.
    """

    def __init__(self, folder: Path, images: Sequence[np.ndarray], spec: Preprocessing):
        self._spec = images.spec if isinstance(images, Images) else spec
        if self._spec.tiles is not None:
            raise SettingsError("made defects are on whole images: leave out the folder of them, or --tiles")
        made = read_made(folder).images
        if isinstance(images, Images):
            learnt = set(map(content_sha256, images.paths))
            known = {name for name in {one.good for one in made} if content_sha256(folder / name) in learnt}
            made = tuple(one for one in made if one.good in known)
        if not made:
            raise DatasetError(
                f"no defect in {folder} is on a part that is learnt: make them on the images that the training takes, "
                f"`edgead defects DATA/train/good -o {folder}`"
            )
        self._files = [(folder / one.good, folder / one.image, folder / one.mask) for one in made]

    def __len__(self) -> int:
        return len(self._files)

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a sample of a `SimulatedBatch`: good part, itself or its defective copy, float32 RGB in 0..1, mask."""
        good, flawed, of_defect = self._files[int(rng.integers(len(self._files)))]
        clean = preprocess(load_image(good), self._spec)
        corrupted, mask = clean, np.zeros(clean.shape[:2], np.uint8)
        if rng.random() < DEFECTIVE_SHARE:
            corrupted = preprocess(load_image(flawed), self._spec)
            mask = preprocess(load_image(of_defect), self._spec)[..., 0]
        if rng.random() < ROTATED_SHARE:
            degrees = rng.uniform(-ROTATION_DEG, ROTATION_DEG)
            # No black corners, as for simulated anomalies.
            clean, corrupted, mask = (rotate(x, degrees, cv2.BORDER_REFLECT_101) for x in (clean, corrupted, mask))
        return clean.astype(np.float32) / 255, corrupted.astype(np.float32) / 255, mask >= _COVERED
