"""Cross-validated thresholds from few good images: each is scored by a detector that did not learn from it.

Cross-conformal prediction (Vovk, "Cross-conformal predictors", 2015) without the detectors of the folds: jackknife+
(Barber et al. 2021) would score every part by all of them on the device. What ships has learnt from all images
instead, so that its scores of good parts lie a little below those that the thresholds come from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgead.adapt.finalize import GoodScores, measure_good
from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Preprocessing
from edgead.dataset.folders import Progress
from edgead.detector import Detector
from edgead.export.build import write_draft
from edgead.files.disk import writing
from edgead.workstation.methods.method import Trained

# Of trainings, where nobody says how many.
FOLDS = 5


def cross_validate(
    learn: Callable[[Sequence[Path]], Trained],
    paths: Sequence[Path],
    folds: int,
    *,
    groups: Sequence[int] | None = None,
    preprocessing: Preprocessing,
    seed: int = 0,
    progress: Progress | None = None,
) -> GoodScores:
    """Score every image by the exported detector that learnt from the images of the other folds.

    Parameters
    ----------
    learn : callable
        Gives a detector that has learnt from some of the images.
    paths : sequence of Path
    folds : int
        At least two; as many as groups leave out one at a time.
    groups : sequence of int, optional
        Group of each image, numbered from 0 on; whole groups are dealt out.
    preprocessing : Preprocessing
        Of the detectors.
    seed : int
        Of the order in which groups are dealt out to the folds.
    progress : callable, optional
        Called with (done, total) folds.

    Returns
    -------
    GoodScores
        In the order of the paths.
    """
    group_of = np.arange(len(paths)) if groups is None else np.asarray(groups)
    fold_of = (np.random.default_rng(seed).permutation(int(group_of.max()) + 1) % folds)[group_of]
    scored: dict[Path, tuple[float, float, float]] = {}
    for fold in range(folds):
        held_out = [path for path, number in zip(paths, fold_of, strict=True) if number == fold]
        trained = learn([path for path, number in zip(paths, fold_of, strict=True) if number != fold])
        with tempfile.TemporaryDirectory(prefix="edgead-fold-") as folder, writing(Path(folder)):
            manifest = write_draft(trained, Path(folder), preprocessing)
            with Detector(Artifact(Path(folder), manifest), runtime="onnxruntime") as detector:
                good = measure_good(detector, held_out)
        scored.update(zip(held_out, zip(good.scores, good.maxima, good.medians, strict=True), strict=True))
        if progress:
            progress(fold + 1, folds)
    scores, maxima, medians = zip(*(scored[path] for path in paths), strict=True)
    return GoodScores(list(scores), list(maxima), list(medians), "cross_validated")
