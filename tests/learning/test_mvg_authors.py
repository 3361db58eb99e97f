"""Mvg equals the authors' code on the same features, and no longer when one thing in it is turned.

The authors' code computes in float32 and inverts the covariance, of which the condition is up to 1e6 before shrinkage:
what is left is below 1e-4 of a distance.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from authors import authors_numbers  # noqa: E402
from mvg_authors import FEW, GOOD, LEVELS, VARIANCE, level  # noqa: E402
from torch import nn  # noqa: E402

from edgead.workstation.backbones import pyramid  # noqa: E402
from edgead.workstation.methods.mvg import gaussian  # noqa: E402
from edgead.workstation.methods.mvg.gaussian import MIN_VARIANCE, Gaussian  # noqa: E402

THEIRS = authors_numbers("mvg")
REDUCTIONS = ("none", "pca", "npca")


def fitted(reduction: str, good: int = GOOD) -> tuple[nn.ModuleList, list[torch.Tensor]]:
    """Gaussians of both levels, and the pooled queries."""
    features = [pyramid.pool(level(*shape)) for shape in LEVELS]
    models = [Gaussian(x.shape[1]).fit(x[:good], reduction=reduction, variance=VARIANCE) for x in features]
    return nn.ModuleList(models), [x[GOOD:] for x in features]


def ours() -> dict[str, np.ndarray]:
    results = {}
    for reduction in REDUCTIONS:
        models, queries = fitted(reduction)
        results[f"{reduction}_distances"] = torch.stack([m(x) for m, x in zip(models, queries, strict=True)]).numpy()
        results[f"{reduction}_score"] = gaussian.sum_distances(models, queries).numpy() / len(
            models
        )  # theirs: the mean
        for i, model in enumerate(models):
            results[f"{reduction}_components{i}"] = np.array(model.whitening.shape[1])
            if reduction == "none":
                results[f"mean{i}"] = model.mean.numpy()
                results[f"precision{i}"] = (model.whitening.double() @ model.whitening.double().T).numpy()
    models, queries = fitted("none", good=FEW)  # fewer than channels
    results["few_distances"] = torch.stack([m(x) for m, x in zip(models, queries, strict=True)]).numpy()
    results["thresholds"] = np.array([[gaussian.chi_quantile(p, k) for k in (1, 12, 272)] for p in (0.95, 0.9973)])
    return results


def differing(found: dict[str, np.ndarray]) -> set[str]:
    return {
        name
        for name, value in THEIRS.items()
        if value.shape != found[name].shape or not np.allclose(found[name], value, rtol=1e-4, atol=1e-4)
    }


def test_equal_to_the_authors_code():
    found = ours()
    assert found.keys() == THEIRS.keys()
    assert not differing(found)


def sample_covariance(monkeypatch):
    monkeypatch.setattr(gaussian, "ledoit_wolf_shrinkage", lambda lengths, variances: 0.0)


def half_the_shrinkage(monkeypatch):
    shrinkage = gaussian.ledoit_wolf_shrinkage
    monkeypatch.setattr(gaussian, "ledoit_wolf_shrinkage", lambda lengths, variances: shrinkage(lengths, variances) / 2)


def unbiased_covariance(monkeypatch):
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda covariance: eigh(covariance * GOOD / (GOOD - 1)))


def squared_distance(monkeypatch):
    norm = torch.linalg.vector_norm
    monkeypatch.setattr(torch.linalg, "vector_norm", lambda x, dim: norm(x, dim=dim) ** 2)


def pool_by_maximum(monkeypatch):
    monkeypatch.setattr(pyramid, "pool", lambda x: x.amax(dim=(2, 3)))


@pytest.mark.parametrize(
    "turn", [sample_covariance, half_the_shrinkage, unbiased_covariance, squared_distance, pool_by_maximum]
)
def test_a_turned_gaussian_differs(monkeypatch, turn):
    turn(monkeypatch)
    names = {f"{reduction}_{what}" for reduction in REDUCTIONS for what in ("distances", "score")}
    assert differing(ours()) >= names | {"few_distances"}


@pytest.mark.parametrize("shift", [-1, 1, 2])
def test_components_from_another_place_differ(monkeypatch, shift):
    def shifted(variances, reduction, variance):
        indices = torch.arange(len(variances))
        if reduction == "none":
            return indices
        crossing = int((variances.cumsum(0) / variances.sum() <= variance).sum()) + shift
        chosen = indices <= crossing if reduction == "pca" else indices >= crossing - 1
        return indices[chosen & (variances > MIN_VARIANCE * variances[0])]

    monkeypatch.setattr(gaussian, "choose_components", shifted)
    names = {f"{reduction}_{what}" for reduction in ("pca", "npca") for what in ("distances", "score")}
    assert differing(ours()) == names | {f"{reduction}_components{i}" for reduction in ("pca", "npca") for i in (0, 1)}


def test_pca_and_npca_are_not_each_other(monkeypatch):
    choose = gaussian.choose_components
    other = {"pca": "npca", "npca": "pca", "none": "none"}
    monkeypatch.setattr(
        gaussian, "choose_components", lambda s, reduction, variance: choose(s, other[reduction], variance)
    )
    assert differing(ours()) >= {"pca_distances", "npca_distances", "pca_score", "npca_score"}


@pytest.mark.parametrize(
    "combine",
    [
        lambda distances: distances.square().sum(dim=0).sqrt(),
        lambda distances: len(distances) * distances.amax(dim=0),
        lambda distances: len(distances) * distances[0],
    ],
    ids=["root of squares", "maximum", "one level"],
)
def test_levels_combined_otherwise_differ(monkeypatch, combine):
    def combined(levels, features):
        return combine(torch.stack([model(x) for model, x in zip(levels, features, strict=True)]))

    monkeypatch.setattr(gaussian, "sum_distances", combined)
    assert differing(ours()) == {"none_score", "pca_score", "npca_score"}


@pytest.mark.parametrize(
    "turn", [lambda quantile, p, k: quantile(p, k) ** 2, lambda quantile, p, k: quantile(p, k + 1)]
)
def test_another_distribution_has_other_thresholds(monkeypatch, turn):
    monkeypatch.setattr(gaussian, "chi_quantile", partial(turn, gaussian.chi_quantile))
    assert differing(ours()) == {"thresholds"}
