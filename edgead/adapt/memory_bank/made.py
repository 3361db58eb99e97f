"""Made (artificial) defects on good images: a test of how well a memory bank separates them from images not learnt.

Made defects allow a choice between memory banks without images of defects. Each quarter of a good image gets a scar: a
piece of the same image, turned, brighter or darker, and mixed into the quarter, from clearly to hardly visible. Only
the ranks of the scores are compared, fold by fold. No limit is ever made from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgead.adapt.memory_bank.coreset import BankRule
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.adapt.memory_bank.learn import LearntBank, Space, learn_bank
from edgead.heads.nearest import NearestHead, in_metric, without_fold
from edgead.heads.patches import ImageScorer
from edgead.kernels import NearestPatches

MOST_SCARRED = 40
# Largest number of rows of a bank that is learnt from the scarred images alone.
_ROWS = 1000
# Strengths of scars; the quarters of an image get one each.
STRENGTHS = (1.0, 0.5, 0.25, 0.12)
# Sides and brightness of a scar, the sides in pixels of an input with as many as 448 x 448.
_LENGTH_PX, _WIDTH_PX, _BRIGHTNESS, _AREA_PX = (12, 44), (6, 20), (0.6, 1.4), 448**2
# Number of tried places; the one with most contrast is taken: on the part, not on the background.
_TRIES = 4


def choose_scarred(groups: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
    """Choose good images to scar, at most MOST_SCARRED, one of each group first; return their indices."""
    order = np.random.default_rng(seed).permutation(len(groups))
    of_group = np.asarray(groups)[order]
    earlier = np.array([np.count_nonzero(of_group[:i] == group) for i, group in enumerate(of_group)], int)
    return np.sort(order[np.argsort(earlier, kind="stable")][:MOST_SCARRED])


def scar(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of a preprocessed image, (h, w, channels) of any dtype, with a scar in each quarter."""
    result, (height, width) = image.copy(), image.shape[:2]
    for quarter, strength in zip(_quarters((height, width)), rng.permutation(STRENGTHS), strict=True):
        rows, columns = (side.stop - side.start for side in quarter)
        scale = np.sqrt(height * width / _AREA_PX)
        tall, wide = (max(2, round(rng.uniform(*sides) * scale)) for sides in (_LENGTH_PX, _WIDTH_PX))
        tall, wide = (tall, wide) if rng.integers(2) else (wide, tall)
        tall, wide = min(tall, rows // 2, width // 2), min(wide, columns // 2, height // 2)
        corners = [(rng.integers(rows - tall + 1), rng.integers(columns - wide + 1)) for _ in range(_TRIES)]
        places = [image[quarter][y : y + tall, x : x + wide] for y, x in corners]
        y, x = corners[int(np.argmax([place.std() for place in places]))]
        top, left = rng.integers(height - wide + 1), rng.integers(width - tall + 1)
        piece = np.rot90(image[top : top + wide, left : left + tall].astype(np.float32)) * rng.uniform(*_BRIGHTNESS)
        target = result[quarter][y : y + tall, x : x + wide]
        mixed = np.clip(target + strength * (piece - target), image.min(), image.max())
        target[:] = mixed if image.dtype.kind == "f" else np.rint(mixed)
    return result


def _quarters(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for rows in (slice(0, shape[0] // 2), slice(shape[0] // 2, shape[0])):
        for columns in (slice(0, shape[1] // 2), slice(shape[1] // 2, shape[1])):
            yield rows, columns


@dataclass(frozen=True, slots=True)
class Scarred:
    """Raw features of good images, and of the same images with scars.

    `images` (ndarray of shape (k,), int): indices among the images that the bank is learnt from; see `choose_scarred`.
    `good`, `made` (ndarray of shape (k, h, w, d), float32): features of all patches, without and with scars.
    """

    images: np.ndarray
    good: np.ndarray
    made: np.ndarray


@dataclass(frozen=True, slots=True)
class Separation:
    """AUROC of scars on images that were left out.

    `of_image` (ndarray of shape (k,), float64): one value for each image; their mean is the AUROC: the structural
        components of DeLong et al. (Biometrics 1988) for the scars of one image together (Obuchowski, Biometrics 1997).
    """

    of_image: np.ndarray

    @property
    def auroc(self) -> float:
        """Share of all pairs (scar, good image) in which the scar scores higher."""
        return float(self.of_image.mean())

    def above(self, other: Separation) -> tuple[float, float]:
        """Return this AUROC minus the AUROC of `other`, on the same images, and the difference's standard error."""
        difference = self.of_image - other.of_image
        return float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))


def own_separation(
    scarred: Scarred, groups: Sequence[int], rule: BankRule, space: Space, head: NearestHead
) -> Separation:
    """Measure the separation by a bank of every third row and column of patches: precisions are compared in seconds.

    `scarred`: images of several groups.
    `groups`: group of each image.
    """
    patches = scarred.good[:, ::3, ::3].reshape(-1, scarred.good.shape[-1]).copy()
    folds = deal_folds(groups, rule.seed)
    learnt = learn_bank(patches, groups, folds, replace(rule, most=min(rule.most, _ROWS)), space)
    return left_out_separation(learnt, head, replace(scarred, images=np.arange(len(groups))), folds)


def left_out_separation(
    learnt: LearntBank, head: NearestHead, scarred: Scarred, folds: Sequence[int] | np.ndarray
) -> Separation:
    """Score good and scarred images as if their folds had not been learnt.

    Each scar counts as an image of its own: the scarred quarter, and the rest of the good image.

    `learnt`: bank with folds.
    `head`: computes image scores from patch scores.
    `scarred`: good and scarred features of at least two images.
    `folds`: fold of each learnt image, as given to `learn_bank`.
    """
    (count, height, width), fold_of = scarred.good.shape[:3], np.asarray(folds)[scarred.images]
    grid = height, width
    scorer = ImageScorer(head, grid)
    good, made, nearest = np.empty(count), np.empty((count, len(STRENGTHS))), None
    for fold in np.unique(fold_of):
        bank, metric = without_fold(learnt.arrays, int(fold))
        nearest = NearestPatches(np.ascontiguousarray(bank), like=nearest)
        for number in np.flatnonzero(fold_of == fold):
            both = np.stack([scarred.good[number], scarred.made[number]]).reshape(-1, scarred.good.shape[-1])
            learnt.scale.standardise(both)
            patches = np.ascontiguousarray(in_metric(both @ learnt.metric, metric))
            distance, _ = nearest.search(patches, head.num_neighbors)
            whole, changed = distance.mean(axis=1).reshape(2, *grid)
            good[number] = scorer.image_score(whole)
            for i, quarter in enumerate(_quarters(grid)):
                joined = whole.copy()
                joined[quarter] = changed[quarter]
                made[number, i] = scorer.image_score(joined)
    # wins[i, j]: how many scars of image j score higher than image i, as a share.
    wins = ((made > good[:, None, None]) + 0.5 * (made == good[:, None, None])).mean(axis=2)
    return Separation(wins.mean(axis=0) + wins.mean(axis=1) - wins.mean())
