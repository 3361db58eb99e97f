"""Multivariate Gaussians of features: shrinkage covariance, whitening as one matrix product, chi working points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from edgead.errors import SettingsError

Reduction = Literal["none", "pca", "npca"]

# Directions with less than this share of the largest variance are rounding errors, not variation of good parts.
MIN_VARIANCE = 1e-10


class Gaussian(nn.Module):
    """Multivariate Gaussian; its exported `forward` is the Mahalanobis distance.

    With the covariance C = V diag(s) V^T, the distance sqrt((x - m)^T C^-1 (x - m)) is the length of (x - m) W with
    W = V diag(1 / sqrt(s)). A reduction keeps some of the columns.

    `channels`, `components`: numbers of columns of the features, and of W; `fit` changes the second.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, channels: int, components: int | None = None):
        super().__init__()
        components = channels if components is None else components
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("whitening", torch.eye(channels, components))

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., d), float32 -> Mahalanobis distances (...)."""
        return torch.linalg.vector_norm((features - self.mean) @ self.whitening, dim=-1)

    def fit(self, samples: Tensor, *, reduction: Reduction = "none", variance: float = 0.99) -> Gaussian:
        """Estimate mean and covariance.

        Within the kept components the covariance is shrunk after Ledoit and Wolf, as in the authors' code
        (https://github.com/ORippler/gaussian-ad-mvtec, `compute_train_gaussian`). Shrinkage keeps the eigenvectors, so
        that one decomposition serves the choice of components and the covariance.

        `samples` (Tensor of shape (n, d), float32): features; n >= 2.
        `reduction` ({"none", "pca", "npca"}): principal components to keep, see `choose_components`.
        `variance`: share of the total variance at which "pca" or "npca" divides the components.
        """
        exact = samples.double()
        mean = exact.mean(dim=0)
        centred = exact - mean
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        variances, directions = variances.flip(0).clamp_min(0), directions.flip(1)
        kept = choose_components(variances, reduction, variance)
        projected = centred @ directions[:, kept]
        spread = variances[kept]
        shrinkage = ledoit_wolf_shrinkage(projected.square().sum(dim=1), spread)
        shrunk = (1 - shrinkage) * spread + shrinkage * spread.mean()
        self.mean = mean.float()
        # If all good parts are identical there is no variance, and every distance is 0.
        self.whitening = (directions[:, kept] * torch.where(shrunk > 0, shrunk.rsqrt(), 0.0)).float().contiguous()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # The number of kept components is known only from the weights.
        stored = state_dict.get(prefix + "whitening")
        if stored is not None and stored.ndim == 2 and len(stored) == len(self.mean):
            self.whitening = torch.empty_like(stored)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def ledoit_wolf_shrinkage(squared_lengths: Tensor, variances: Tensor) -> float:
    """Compute the shrinkage of a sample covariance towards the multiple of the identity with the same trace.

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004), lemma 3.2 to 3.4:
    the error of the sample covariance S over its distance from the target, both squared Frobenius norms. These depend
    only on the samples' lengths and the eigenvalues of S.

    `squared_lengths` (Tensor of shape (n,), float64): squared lengths of the centred samples.
    `variances` (Tensor of shape (d,), float64): eigenvalues of the sample covariance (divided by n).
    Returns shrinkage from 0 to 1.
    """
    distance = (variances - variances.mean()).square().sum()
    if distance == 0:
        return 0.0  # S equals the target
    error = (squared_lengths.square().mean() - variances.square().sum()) / len(squared_lengths)
    return float((error / distance).clamp(0, 1))


def choose_components(variances: Tensor, reduction: Reduction, variance: float) -> Tensor:
    """Choose principal components (Rippel et al. 2020; `compute_pca` of the authors' code).

    `variances`: Tensor of shape (d,), descending.
    `reduction` ({"none", "pca", "npca"}): PCA keeps the fewest components that explain more than `variance` of the
        whole. NPCA keeps those of least variance: the others, the one at which the sum crosses, and the one before it,
        as in the authors' code. Neither keeps components in which good parts do not vary at all (the authors' code
        keeps one such, of undefined direction, if there are fewer parts than channels); "none" keeps all.
    `variance`: between 0 and 1.
    Returns Tensor of int64: indices, ascending.
    """
    check_reduction(reduction, variance)
    indices = torch.arange(len(variances))
    if reduction == "none" or variances[0] <= 0:
        return indices
    explained = variances.cumsum(0) / variances.sum()
    crossing = int((explained <= variance).sum().clamp_max(len(variances) - 1))
    chosen = indices <= crossing if reduction == "pca" else indices >= crossing - 1
    return indices[chosen & (variances > MIN_VARIANCE * variances[0])]


def check_reduction(reduction: str, variance: float) -> None:
    """Raise SettingsError unless both are usable."""
    if reduction not in get_args(Reduction):
        raise SettingsError(f"unknown reduction {reduction!r}: choose one of {', '.join(get_args(Reduction))}")
    if not 0 < variance < 1:
        raise SettingsError(f"the variance that a reduction cuts at lies between 0 and 1, found {variance}")


def chi_quantile(probability: float, dimensions: int) -> float:
    """Compute the length below which a standard normal vector stays with this probability.

    For Gaussian features the square of a Mahalanobis distance has a chi-square distribution, so that this is the
    threshold with a false-positive rate of 1 - `probability` (`compute_mahalanobis_threshold` of the authors' code).
    """
    if not 0 < probability < 1 or dimensions < 1:
        raise ValueError(f"a probability between 0 and 1 and a dimension are needed, found {probability}, {dimensions}")
    half = torch.tensor(dimensions / 2, dtype=torch.float64)
    low, high = 0.0, dimensions + 100.0 * math.sqrt(2.0 * dimensions) + 1500.0
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        below = torch.special.gammainc(half, torch.tensor(middle / 2, dtype=torch.float64)) < probability
        low, high = (middle, high) if below else (low, middle)
    return math.sqrt(high)


def gaussians(levels: nn.ModuleList) -> list[Gaussian]:
    """Return the Gaussians of a module list with their type, for the type checker."""
    return [level for level in levels if isinstance(level, Gaussian)]


def sum_distances(levels: nn.ModuleList, features: Sequence[Tensor]) -> Tensor:
    """Sum the distances to the Gaussian of every level, features (..., d) each.

    A chi variable has a deviation of about 1 / sqrt(2) in any dimension, so levels weigh alike with any channels.
    """
    return torch.stack([gaussian(level) for gaussian, level in zip(levels, features, strict=True)]).sum(dim=0)
