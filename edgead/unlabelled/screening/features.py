"""Patch features of images that nobody has labelled: a frozen backbone, on a scale that the images themselves give."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.adapt.frozen_backbone import FrozenBackbone, open_backbone
from edgead.adapt.memory_bank.feature_space import fit_metric, fit_scale
from edgead.artifact.folder import Artifact, write_arrays
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.onnx_file import with_properties
from edgead.dataset.folders import Progress, StageProgress
from edgead.dataset.images import Images
from edgead.errors import SettingsError
from edgead.runtime import open_runtime
from edgead.runtime.contract import Runtime
from edgead.unlabelled.screening.mutual import mutual_scores
from edgead.unlabelled.screening.screeners import ScreenPlan


class MutualScorer:
    """Scores a pile by `edgead.unlabelled.screening.mutual`, with the features of a frozen backbone."""

    knows_parts = True

    def __init__(self, plan: ScreenPlan):
        self._backbone = open_backbone(plan.backbone or "fast")
        self._rule = plan.rule
        self._zoom = 2 if plan.zoom is None else plan.zoom
        self.preprocessing = self._backbone.preprocessing.model_copy(update={"roi": plan.roi})

    def __call__(
        self, paths: Sequence[Path], parts: Sequence[int], progress: StageProgress
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Score images and patches; see `PileScorer`."""
        report = partial(progress, "extract features")
        raw = raw_features(self._backbone, paths, roi=self.preprocessing.roi, zoom=self._zoom, progress=report)
        features = comparable_features(raw, parts, self._backbone)
        return mutual_scores(features, parts, self._rule, partial(progress, "compare parts"))


def comparable_features(raw: np.ndarray, parts: Sequence[int], backbone: FrozenBackbone) -> np.ndarray:
    """Bring raw features onto a common scale, where what differs between parts anyway counts for less.

    The metric is `edgead.adapt.memory_bank.feature_space`, of the pile itself: the few defects in it hardly change it.

    Parameters
    ----------
    raw : ndarray of shape (n, h, w, d), float32, C order
        Changed.
    parts : sequence of int of length n
        Images of one number show the same part.
    backbone : FrozenBackbone

    Returns
    -------
    ndarray of shape (n, h, w, d), float32

    Raises
    ------
    SettingsError
        The backbone gave NaN or infinity.
    """
    rows = raw.reshape(-1, raw.shape[-1])
    if not np.isfinite(rows).all():
        raise SettingsError("the backbone gave NaN or infinity: it is broken, or its engine is")
    fit_scale(rows, backbone.channels).standardise(rows, damp_length=backbone.damp_length)
    return (rows @ fit_metric(rows, parts).matrix).reshape(raw.shape)


def raw_features(
    backbone: FrozenBackbone,
    paths: Sequence[Path],
    *,
    roi: tuple[int, ...] | None,
    zoom: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Run a backbone over images that are `zoom` times as large on a side as it takes.

    Parameters
    ----------
    backbone : FrozenBackbone
    paths : sequence of Path
        Readable images.
    roi : (int, int, int, int), optional
        x, y, width and height of the part of the image to look at.
    zoom : int
        An image is cut into zoom x zoom windows; the more, the finer are the things that features know of.
    progress : callable, optional

    Returns
    -------
    ndarray of shape (n, h, w, d), float32, C order
        A patch is the mean of neighbours, so that there are half as many on a side as of one window, whatever the
        zoom: what a pile costs grows with the square of their number.
    """
    height, width = backbone.preprocessing.image_size
    changes = {"image_size": (zoom * height, zoom * width), "roi": roi}
    images = Images(paths, Preprocessing(**{**backbone.preprocessing.model_dump(), **changes}))
    found: np.ndarray | None = None
    with _opened(backbone) as (runtime, output):
        for number, image in enumerate(images):
            windows = image.reshape(zoom, height, zoom, width, 3).transpose(0, 2, 1, 3, 4).reshape(-1, height, width, 3)
            parts = [runtime.run(np.ascontiguousarray(window[None]))[output][0].copy() for window in windows]
            patches = _joined(np.stack(parts), zoom) * np.float32(backbone.raw_factor)
            if found is None:
                found = np.empty((len(paths), *patches.shape), np.float32)
            found[number] = patches
            if progress:
                progress(number + 1, len(paths))
    assert found is not None
    return found


def _joined(windows: np.ndarray, zoom: int) -> np.ndarray:
    """Features of windows, (zoom * zoom, h, w, d), side by side, and the mean of as many as give h // 2 x w // 2."""
    _, h, w, d = windows.shape
    joined = windows.reshape(zoom, zoom, h, w, d).transpose(0, 2, 1, 3, 4).reshape(zoom * h, zoom * w, d)
    step_y, step_x = zoom * (2 - h % 2), zoom * (2 - w % 2)  # an odd number is not halved
    blocks = joined.reshape(zoom * h // step_y, step_y, zoom * w // step_x, step_x, d)
    return blocks.mean(axis=(1, 3))


@contextmanager
def _opened(backbone: FrozenBackbone) -> Iterator[tuple[Runtime, str]]:
    """Yield a runtime that gives raw features, and the name of its output."""
    manifest = backbone.manifest(None)
    with tempfile.TemporaryDirectory(prefix="edgead.") as folder:
        draft = Path(folder)
        graph = with_properties(backbone.graph, manifest.graph_properties)
        (draft / manifest.graphs["fp32"].file).write_bytes(graph)
        write_arrays(draft, manifest, backbone.inputs(backbone.neutral()))
        runtime = open_runtime(Artifact(draft, manifest), "onnxruntime", precision="fp32")
        try:
            yield runtime, manifest.output
        finally:
            runtime.close()
