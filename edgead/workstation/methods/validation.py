"""Validation of settings on defects drawn on good parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgead import metrics
from edgead.adapt.methods.method import Trained
from edgead.artifact.preprocess import preprocess
from edgead.heads.contract import Scorer
from edgead.images.files import load_image
from edgead.synthetic.drawn_defects import draw_defect

DRAWN_PER_IMAGE = 2


@dataclass(frozen=True, slots=True)
class DrawnTest:
    """Validation set of held-out good images with drawn defects; deterministic for the same paths and seed."""

    good: list[np.ndarray]
    flawed: list[np.ndarray]

    @classmethod
    def of(cls, paths: Sequence[Path], seed: int) -> DrawnTest:
        """Read the images and draw `DRAWN_PER_IMAGE` defects on each."""
        good = [load_image(path) for path in paths]
        rng = np.random.default_rng(seed)
        return cls(good, [draw_defect(image, rng) for image in good for _ in range(DRAWN_PER_IMAGE)])

    @property
    def images(self) -> list[np.ndarray]:
        return [*self.good, *self.flawed]

    def auroc(self, scores: Sequence[float] | np.ndarray) -> float:
        """Compute the image AUROC from the scores of `images`."""
        labels = np.array([False] * len(self.good) + [True] * len(self.flawed))
        return metrics.auroc(labels, np.asarray(scores))


def score_images(trained: Trained, images: Sequence[np.ndarray]) -> np.ndarray:
    """Compute image scores of a trained detector before export; images are BGR as from a camera."""
    scorer: Scorer | None = None
    scores = []
    for image in images:
        outputs = outputs_of(trained, image)
        scorer = scorer or trained.head.open(outputs, trained.arrays, trained.preprocessing.image_size)
        scores.append(trained.head.score_still(scorer, outputs).image_score)
    return np.array(scores)


def outputs_of(trained: Trained, image: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the network's outputs for an image, BGR as from a camera, by the head's output names."""
    return trained.outputs_of(preprocess(image, trained.preprocessing))
