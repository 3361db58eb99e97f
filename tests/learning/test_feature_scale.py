"""The scale of features in numpy against its definition, and against the torch network that applies it."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.adapt.memory_bank.feature_space import fit_scale

CHANNELS = (5, 3)


@pytest.fixture
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    raw = rng.normal(3, 1, (501, 8)) * 10.0 ** rng.integers(-2, 3, 8)
    raw[:, 6] = 7.0  # a channel that never moves
    return raw.astype(np.float32)


def test_means_deviations_and_median_lengths(features):
    scale = fit_scale(features, CHANNELS, damps=False)
    moving = np.arange(8) != 6
    np.testing.assert_allclose(scale.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(
        scale.inverse_std[moving], 1 / features.astype(np.float64).std(axis=0)[moving], rtol=1e-5
    )
    assert scale.inverse_std[6] == 0
    plain = features.copy()
    scale.standardise(plain)
    np.testing.assert_allclose(plain[:, moving].std(axis=0), 1, rtol=1e-4)
    lengths = [np.median(np.square(layer).sum(axis=1)) for layer in np.split(plain, [5], axis=1)]
    np.testing.assert_allclose(scale.squared_length, lengths, rtol=1e-4)


@pytest.mark.parametrize("damp_length", [True, False])
def test_numpy_and_torch_standardise_alike(features, damp_length):
    torch = pytest.importorskip("torch", reason="TORCH NOT COMPARED: training needs the workstation's packages")
    from edgead.workstation.backbones.patch_features import PatchFeatures

    network = PatchFeatures(torch.nn.Identity(), CHANNELS, damp_length=damp_length)
    network.fit_scale(torch.from_numpy(features))
    expected = network.standardise(torch.from_numpy(features)).numpy()
    scale = fit_scale(features, CHANNELS, damps=damp_length)
    scale.standardise(features)
    np.testing.assert_allclose(features, expected, atol=1e-5)
