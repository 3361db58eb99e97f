"""Selection of SimpleNet's epoch by defects drawn on good images that are held out.

The authors' code keeps the epoch with the best AUROC on the test set; a detector that is to work on parts to come must
not look there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgead import metrics
from edgead.heads.map import MapHead
from edgead.heads.patches import ImageScorer
from edgead.synthetic.drawn_defects import draw_defect
from edgead.workstation.backbones.pyramid import BATCH
from edgead.workstation.methods.patchcore.network import PatchFeatures
from edgead.workstation.methods.validation import DRAWN_PER_IMAGE

# More images make no better choice, fewer none at all.
MAX_IMAGES, MIN_IMAGES = 24, 8


def hold_out(groups: Sequence[int] | np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to learn from, and of those to hold out: whole groups, at most `MAX_IMAGES` images.

    Nothing is held out where that would be less than `MIN_IMAGES`: few images are needed to learn from.
    """
    distinct, number = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(distinct))[: round(share * len(distinct))]
    held = np.isin(number, chosen)
    if held.sum() < MIN_IMAGES:
        return np.arange(len(number)), np.empty(0, int)
    return np.flatnonzero(~held), np.sort(rng.permutation(np.flatnonzero(held))[:MAX_IMAGES])


class DrawnDefects:
    """Features of good images held out, and of the same with defects drawn on them.

    Parameters
    ----------
    features : PatchFeatures
        On the CPU, its scale known.
    images : sequence of ndarray of shape (h, w, 3), uint8, RGB
        At least one.
    head : MapHead
        What makes an image score of patch scores.
    seed : int
    """

    def __init__(self, features: PatchFeatures, images: Sequence[np.ndarray], head: MapHead, seed: int):
        rng = np.random.default_rng(seed)
        drawn = [draw_defect(image, rng) for image in images for _ in range(DRAWN_PER_IMAGE)]
        every = [*images, *drawn]
        self._labels = np.arange(len(every)) >= len(images)
        with torch.inference_mode():
            batches = [
                features(torch.from_numpy(np.stack(every[start : start + BATCH])))
                for start in range(0, len(every), BATCH)
            ]
        self._features = [image for batch in batches for image in batch]
        self._scorer = ImageScorer(head, tuple(self._features[0].shape[:2]))  # type: ignore[arg-type]

    def auroc(self, contest: nn.Module) -> float:
        """Image AUROC of adaptor and discriminator in a row, (n, d) -> (n, 1), on whatever device they are."""
        device = next(contest.parameters()).device
        contest.eval()
        with torch.inference_mode():
            maps = [-contest(x.flatten(0, 1).to(device)).reshape(x.shape[:2]).cpu().numpy() for x in self._features]
        return metrics.auroc(self._labels, np.array([self._scorer.image_score(x) for x in maps]))


class BestSoFar(nn.Module):
    """The weights that separated drawn defects from good images best, and for how many looks none were better.

    Parameters
    ----------
    candidate : nn.Module
    patience : int
        After so many looks without a better one the training is over.
    """

    auroc: Tensor
    waited: Tensor

    def __init__(self, candidate: nn.Module, patience: int):
        super().__init__()
        self.kept = copy.deepcopy(candidate)
        self._patience = patience
        self.register_buffer("auroc", torch.tensor(-1.0, dtype=torch.float64))
        self.register_buffer("waited", torch.tensor(0))

    @property
    def is_over(self) -> bool:
        return int(self.waited) >= self._patience

    def offer(self, candidate: nn.Module, auroc: float) -> None:
        """Keep the candidate's weights if they are better."""
        if auroc <= float(self.auroc):
            self.waited += 1
            return
        self.kept.load_state_dict(candidate.state_dict())
        self.auroc.fill_(auroc)
        self.waited.zero_()
