"""Usual scores: places where good parts usually score higher than in the centre are lowered to its level.

Ours. A conveyor of rough rubber, or the border of the image, scores higher than a machined face, and the threshold
would have to lie above both; with the usual score subtracted, a scratch on the face stands out. Places that score lower
stay unchanged: raising a black background to the level of the part would only add its noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# Most images that are used; and fewest groups, as fewer do not show what is usual.
MAX_IMAGES, MIN_GROUPS = 120, 20
# The mean is smoothed by this share of the shorter side of the grid: parts do not lie exactly alike.
SMOOTHING = 0.05
# The centre, where parts are: all but this share of the grid on each side.
AROUND = 0.25


def look_at(groups: Sequence[int] | np.ndarray, seed: int) -> np.ndarray:
    """Choose the images whose scores are used, at most MAX_IMAGES; return indices, none if there are too few groups."""
    if len(np.unique(np.asarray(groups))) < MIN_GROUPS:
        return np.empty(0, int)
    return np.sort(np.random.default_rng(seed).permutation(len(groups))[:MAX_IMAGES])


def fit_usual_scores(maps: np.ndarray) -> np.ndarray:
    """Find by how much each place of the grid usually scores higher than the centre of the image.

    The centre is the inner half of the rows and of the columns; its level is the median of the mean scores, smoothed.

    `maps` (ndarray of shape (n, h, w), float32): patch scores of good images, each scored as if it had not been learnt;
        at least one.
    Returns ndarray of shape (h, w), float32: values to subtract from patch scores; 0 where a place does not score
        higher than the centre.
    """
    mean = maps.mean(axis=0, dtype=np.float64)
    sigma = max(SMOOTHING * min(mean.shape), 0.5)
    smooth = cv2.GaussianBlur(mean, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    top, left = (int(AROUND * side) for side in mean.shape)
    centre = smooth[top : mean.shape[0] - top, left : mean.shape[1] - left]
    return np.maximum(smooth - np.median(centre), 0).astype(np.float32)
