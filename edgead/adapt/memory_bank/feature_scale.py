"""The scale on which patch features are compared: learnt from good patches, applied by every graph of the detector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 65536


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """Means and deviations of the channels, and the squared median length of each layer's part.

    Attributes
    ----------
    mean, inverse_std : ndarray of shape (d,), float32
    squared_length : ndarray of shape (layers,), float32
    channels : sequence of int
        Channels of each layer; d in all.
    metric : ndarray of shape (d, d), float32, or None
        Of `edgead.adapt.memory_bank.feature_metric`; None compares features as they are.
    """

    mean: np.ndarray
    inverse_std: np.ndarray
    squared_length: np.ndarray
    channels: Sequence[int]
    metric: np.ndarray | None = None

    def standardise(self, features: np.ndarray, *, damp_length: bool) -> None:
        """Turn raw features, float32 (n, d), into what is compared, in place."""
        for block in _blocks(features):
            block -= self.mean
            block *= self.inverse_std
            if damp_length:
                scale = 1 / np.sqrt(_squared_lengths(block, self.channels) + self.squared_length)
                for i, layer in enumerate(_layers(block, self.channels)):
                    layer *= scale[:, i : i + 1]
            if self.metric is not None:
                block[:] = block @ self.metric


def fit_scale(features: np.ndarray, channels: Sequence[int]) -> FeatureScale:
    """Learn the scale from raw features of good images.

    Parameters
    ----------
    features : ndarray of shape (n, d), float32
    channels : sequence of int
        Channels of each layer; d in all.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    squares = sum(np.square(block - mean).sum(axis=0) for block in _blocks(features))
    std = np.sqrt(squares / len(features))
    # A channel that never moves carries no information; dividing by its deviation would blow up noise.
    moves = std > 1e-6
    inverse_std = np.where(moves, 1 / np.where(moves, std, 1), 0).astype(np.float32)
    mean = mean.astype(np.float32)
    lengths = np.concatenate([_squared_lengths((x - mean) * inverse_std, channels) for x in _blocks(features)])
    middle = (len(lengths) - 1) // 2
    squared_length = np.maximum(np.partition(lengths, middle, axis=0)[middle], 1e-6)
    return FeatureScale(mean, inverse_std, squared_length.astype(np.float32), tuple(channels))


def _blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK]


def _layers(features: np.ndarray, channels: Sequence[int]) -> list[np.ndarray]:
    return np.split(features, np.cumsum(channels)[:-1], axis=1)


def _squared_lengths(features: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    return np.stack([np.square(layer).sum(axis=1) for layer in _layers(features, channels)], axis=1)
