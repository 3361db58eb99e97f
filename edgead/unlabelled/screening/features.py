"""Patch features of unlabelled images by a frozen backbone, on a scale estimated from the same images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.adapt.frozen_backbone import OUTPUT, open_raw
from edgead.adapt.memory_bank.feature_space import fit_metric, fit_scale
from edgead.adapt.methods import find_preset
from edgead.adapt.methods.patchcore import PatchCore
from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import Progress, StageProgress
from edgead.dataset.images import Images
from edgead.errors import SettingsError
from edgead.unlabelled.screening.mutual import mutual_scores
from edgead.unlabelled.screening.screeners import ScreenPlan


class MutualScorer:
    """Screening method by `edgead.unlabelled.screening.mutual`, with features of a frozen backbone."""

    knows_parts = True

    def __init__(self, plan: ScreenPlan):
        self._method = PatchCore.from_settings(find_preset(PatchCore.name, plan.backbone or "fast"))
        self._rule = plan.rule
        self._zoom = 2 if plan.zoom is None else plan.zoom
        self.preprocessing = self._method.preprocessing.model_copy(update={"roi": plan.roi})

    def __call__(
        self, paths: Sequence[Path], parts: Sequence[int], progress: StageProgress
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Score images and patches; see `PileScorer`."""
        report = partial(progress, "extract features")
        raw = raw_features(self._method, paths, roi=self.preprocessing.roi, zoom=self._zoom, progress=report)
        features = comparable_features(raw, parts, self._method)
        return mutual_scores(features, parts, self._rule, partial(progress, "compare parts"))


def comparable_features(raw: np.ndarray, parts: Sequence[int], method: PatchCore) -> np.ndarray:
    """Scale raw features so that directions in which parts normally differ count for less.

    The metric is computed as in `edgead.adapt.memory_bank.feature_space`, from the same images, as their few defects
    hardly change it.

    `raw` (ndarray of shape (n, h, w, d), float32, C order): raw features, changed in place.
    `parts`: part of each image; images with the same number show the same part.
    `method`: method whose backbone computed the features.
    Returns ndarray of shape (n, h, w, d), float32.
    Raises SettingsError: the backbone gave NaN or infinity.
    """
    rows = raw.reshape(-1, raw.shape[-1])
    if not np.isfinite(rows).all():
        raise SettingsError("the backbone gave NaN or infinity: it is broken, or its engine is")
    fit_scale(rows, method.backbone.channels, damps=method.config.damp_length is not False).standardise(rows)
    return (rows @ fit_metric(rows, parts).matrix).reshape(raw.shape)


def raw_features(
    method: PatchCore,
    paths: Sequence[Path],
    *,
    roi: tuple[int, ...] | None,
    zoom: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Run a backbone over images at `zoom` times its input size on each side.

    `method`: method with the backbone.
    `paths`: readable images.
    `roi`: x, y, width and height of the region of interest.
    `zoom`: images are cut into zoom x zoom windows; a larger number shows finer details.
    Returns ndarray of shape (n, h, w, d), float32, C order: patches are averaged to half as many on a side as one
        window has, for any zoom, because the cost of screening grows with the square of their number.
    """
    height, width = method.preprocessing.image_size
    changes = {"image_size": (zoom * height, zoom * width), "roi": roi}
    images = Images(paths, Preprocessing(**{**method.preprocessing.model_dump(), **changes}))
    found: np.ndarray | None = None
    with open_raw(method.backbone, method.preprocessing) as runtime:
        for number, image in enumerate(images):
            windows = image.reshape(zoom, height, zoom, width, 3).transpose(0, 2, 1, 3, 4).reshape(-1, height, width, 3)
            parts = [runtime.run(np.ascontiguousarray(window[None]))[OUTPUT][0].copy() for window in windows]
            patches = _joined(np.stack(parts), zoom)
            if found is None:
                found = np.empty((len(paths), *patches.shape), np.float32)
            found[number] = patches
            if progress:
                progress(number + 1, len(paths))
    assert found is not None
    return found


def _joined(windows: np.ndarray, zoom: int) -> np.ndarray:
    """Tile the features of windows, (zoom * zoom, h, w, d), and average neighbours to h // 2 x w // 2 patches."""
    _, h, w, d = windows.shape
    joined = windows.reshape(zoom, zoom, h, w, d).transpose(0, 2, 1, 3, 4).reshape(zoom * h, zoom * w, d)
    step_y, step_x = zoom * (2 - h % 2), zoom * (2 - w % 2)  # an odd number cannot be halved
    blocks = joined.reshape(zoom * h // step_y, step_y, zoom * w // step_x, step_x, d)
    return blocks.mean(axis=(1, 3))
