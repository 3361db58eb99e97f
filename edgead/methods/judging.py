"""How well a trained detector tells good parts from defects drawn on them: what settings are compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgead import metrics
from edgead.heads.scoring import Scorer
from edgead.images.files import load_image
from edgead.methods.drawn_defects import draw_defect
from edgead.methods.method import Trained
from edgead.preprocess import preprocess

DRAWN_PER_IMAGE = 2


@dataclass(frozen=True, slots=True)
class DrawnTest:
    """Good images held out, and defects drawn on them; the same for the same paths and seed."""

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
        """Image AUROC of the scores of `images`."""
        labels = np.array([False] * len(self.good) + [True] * len(self.flawed))
        return metrics.auroc(labels, np.asarray(scores))


def score_images(trained: Trained, images: Sequence[np.ndarray]) -> np.ndarray:
    """Image scores of a trained detector that is not exported; images are BGR as from a camera."""
    window = trained.scoring.window
    return score_by_window(trained, images, [window])[window]


def score_by_window(trained: Trained, images: Sequence[np.ndarray], windows: Sequence[int]) -> dict[int, np.ndarray]:
    """The same for several sizes of the window that patch scores are averaged over, from one search of each image."""
    scores: dict[int, list[float]] = {window: [] for window in windows}
    scorers: dict[int, Scorer] = {}
    for image in images:
        with torch.inference_mode():
            outputs = trained.network(torch.from_numpy(preprocess(image, trained.preprocessing))[None])
        output, *graph_score = [x.numpy() for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
        if not scorers:
            rules = {window: trained.scoring.model_copy(update={"window": window}) for window in windows}
            scorers = {
                window: Scorer(
                    rule, output.shape[1:3], trained.preprocessing.image_size, trained.memory_bank, trained.usual_scores
                )
                for window, rule in rules.items()
            }
        patch_scores = scorers[windows[0]].patch_scores(output)
        for window, scorer in scorers.items():
            scores[window].append(scorer.image_score(patch_scores, *graph_score, features=output))
    return {window: np.array(found) for window, found in scores.items()}
