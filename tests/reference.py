"""The slow, obvious truth that every backend is tested against: float64, loops, no tricks."""

from __future__ import annotations

import math

import numpy as np


def nearest(features, memory_bank, k):
    """Squared distances of every patch to every row, then the k smallest; a stable sort puts the lowest row first."""
    distance = np.empty((len(features), k))
    index = np.empty((len(features), k), np.int64)
    bank = memory_bank.astype(np.float64)
    for row, feature in enumerate(features.astype(np.float64)):
        squared = ((bank - feature) ** 2).sum(axis=1)
        index[row] = np.argsort(squared, kind="stable")[:k]
        distance[row] = np.sqrt(squared[index[row]])
    return distance, index


def resize(image, size):
    """Bilinear, half-pixel centres, edges clamped."""
    for axis, outputs in enumerate(size):
        inputs = image.shape[axis]
        source = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
        left = np.floor(source).astype(int)
        right = np.minimum(left + 1, inputs - 1)
        part = (source - left).reshape(-1, 1) if axis == 0 else source - left
        image = np.take(image, left, axis) * (1 - part) + np.take(image, right, axis) * part
    return image


def blur(image, sigma, border):
    """Pad, then convolve each axis with the sampled Gaussian. numpy calls our "reflect" symmetric."""
    if sigma == 0:
        return image
    radius = math.ceil(4 * sigma)
    with np.errstate(over="ignore"):
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padding = [(radius, radius) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(image, padding, mode={"reflect": "symmetric", "replicate": "edge"}[border])
        image = np.apply_along_axis(np.convolve, axis, padded, taps, mode="valid")
    return image


def smooth(patch_scores, size, sigma, border):
    anomaly_map = blur(resize(patch_scores.astype(np.float64), size), sigma, border)
    return anomaly_map, anomaly_map.max()


def greedy_coreset(features, count, first=0):
    """Measure every row against every pick; the farthest row that is not yet picked is next."""
    features = features.astype(np.float64)
    squared = np.full(len(features), np.inf)
    picks = [first]
    while len(picks) < count:
        squared = np.minimum(squared, ((features - features[picks[-1]]) ** 2).sum(axis=1))
        squared[picks] = -1
        picks.append(int(np.argmax(squared)))
    return np.array(picks)


def shrink(image, size):
    """The mean of what each pixel covers, in whole numbers, rounded half to even."""

    def lengths(inputs, outputs):
        cells, covers = np.arange(inputs), np.arange(outputs)[:, None]
        ends = np.minimum((cells + 1) * outputs, (covers + 1) * inputs)
        return np.maximum(ends - np.maximum(cells * outputs, covers * inputs), 0)

    rows, columns = lengths(image.shape[0], size[0]), lengths(image.shape[1], size[1])
    total = np.einsum("yr,rxc,zx->yzc", rows, image.astype(np.int64), columns, optimize=True)
    whole, rest = np.divmod(total, image.shape[0] * image.shape[1])
    twice = 2 * rest - image.shape[0] * image.shape[1]
    return (whole + ((twice > 0) | ((twice == 0) & (whole % 2 == 1)))).astype(np.uint8)
