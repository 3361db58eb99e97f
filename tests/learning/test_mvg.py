"""Mvg: Gaussians against hand-computed values and scikit-learn, the sum over levels, and the exported graph."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from torch import nn  # noqa: E402

from edgead.adapt.frozen_backbone import LITE_LAYERS  # noqa: E402
from edgead.adapt.methods import METHODS, find_preset  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.backbones.pretrained import Backbone  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402
from edgead.workstation.methods.mvg.detector import GaussianLevels, Mvg, MvgConfig  # noqa: E402
from edgead.workstation.methods.mvg.gaussian import (  # noqa: E402
    Gaussian,
    chi_quantile,
    choose_components,
    ledoit_wolf_shrinkage,
)

TINY = {"backbone": "efficientnet_lite0", "image_size": (64, 64)}


def gaussian(mean, covariance) -> Gaussian:
    """With the whitening of a covariance that is given."""
    model = Gaussian(len(mean))
    variances, directions = np.linalg.eigh(covariance)
    model.mean = torch.tensor(mean, dtype=torch.float32)
    model.whitening = torch.from_numpy((directions / np.sqrt(variances)).astype(np.float32))
    return model


def correlated(n: int, d: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy((rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3).astype(np.float32))


def test_mahalanobis_distance_by_hand():
    # Covariance [[2, 1], [1, 2]] has the inverse [[2, -1], [-1, 2]] / 3: for (1, 1) that is 2 / 3, for (1, -1) it is 2.
    model = gaussian([10, 20], np.array([[2.0, 1.0], [1.0, 2.0]]))
    distances = model(torch.tensor([[[11.0, 21.0], [11.0, 19.0]], [[10.0, 20.0], [13.0, 23.0]]]))
    np.testing.assert_allclose(distances, [[math.sqrt(2 / 3), math.sqrt(2)], [0, 3 * math.sqrt(2 / 3)]], rtol=1e-6)


def test_fit_by_hand():
    # Mean (1, 7), covariance diag(8, 2).
    samples = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 2.0], [0.0, -2.0]]) + torch.tensor([1.0, 7.0])
    # |x|^4 is 256, 256, 16, 16, of mean 136; |S|^2 = 64 + 4; the error (136 - 68) / 4 = 17; the target is 5 I, at the
    # squared distance 9 + 9. So 17 / 18 of the way to it: variances 8 - 17 / 6 and 2 + 17 / 6.
    model = Gaussian(2).fit(samples)
    distances = model(torch.tensor([[2.0, 7.0], [1.0, 8.0]]))
    np.testing.assert_allclose(distances, [1 / math.sqrt(8 - 17 / 6), 1 / math.sqrt(2 + 17 / 6)], rtol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(200, 12), (9, 30)])
def test_covariance_is_that_of_ledoit_and_wolf(n, d):
    covariance = pytest.importorskip("sklearn.covariance")
    samples = correlated(n, d)
    truth = covariance.LedoitWolf().fit(samples.double().numpy())
    model = Gaussian(d).fit(samples)
    centred = (samples - samples.mean(0)).double()
    variances = torch.linalg.eigvalsh(centred.T @ centred / n)
    shrinkage = ledoit_wolf_shrinkage(centred.square().sum(1), variances)
    assert shrinkage == pytest.approx(truth.shrinkage_, rel=1e-5)
    queries = correlated(n + 5, d)[-5:]
    np.testing.assert_allclose(model(queries), np.sqrt(truth.mahalanobis(queries.double().numpy())), rtol=1e-4)


@pytest.mark.parametrize(
    ("reduction", "variance", "expected"),
    [
        ("none", 0.9, [0, 1, 2, 3]),
        ("pca", 0.9, [0, 1, 2]),  # 0.6 and 0.3 are 0.9, which is not above it
        ("npca", 0.9, [1, 2]),
        ("pca", 0.5, [0]),
        ("npca", 0.5, [0, 1, 2]),
        ("pca", 0.999, [0, 1, 2]),
        ("npca", 0.999, [1, 2]),
    ],
)
def test_which_components_are_kept(reduction, variance, expected):
    variances = torch.tensor([6.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    assert choose_components(variances, reduction, variance).tolist() == expected


def test_a_reduction_measures_only_what_it_keeps():
    samples = correlated(300, 6).double()
    samples = ((samples - samples.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(samples.T.cov())).T).float()
    samples *= torch.tensor([10.0, 5.0, 2.0, 0.3, 0.2, 0.1])  # now a diagonal covariance
    axes = torch.eye(6)
    least = Gaussian(6).fit(samples, reduction="npca", variance=0.99)
    most = Gaussian(6).fit(samples, reduction="pca", variance=0.99)
    assert (least.whitening.shape, most.whitening.shape) == ((6, 5), (6, 3))
    base_least, base_most = least(samples.mean(0)), most(samples.mean(0))
    assert (least(samples.mean(0) + axes[0]) - base_least).abs().max() < 1e-3
    assert (most(samples.mean(0) + axes[3:]) - base_most).abs().max() < 1e-3
    assert least(samples.mean(0) + axes[5]) > 3 and most(samples.mean(0) + axes[0]) > 0.09


def test_good_images_that_are_all_alike():
    model = Gaussian(3).fit(torch.ones(5, 3))
    assert model(torch.tensor([[1.0, 2.0, 3.0]])).item() == 0


@pytest.mark.parametrize(
    ("probability", "dimensions", "expected"),
    # Quantiles of the normal distribution (two-sided) and of chi-square from its closed form for two dimensions.
    [
        (0.9973002, 1, 3.0),
        (0.95, 1, 1.959964),
        (0.99, 2, math.sqrt(-2 * math.log(0.01))),
        (0.95, 10, math.sqrt(18.307038)),
    ],
)
def test_working_point_of_a_level(probability, dimensions, expected):
    assert chi_quantile(probability, dimensions) == pytest.approx(expected, rel=1e-6)


def test_the_working_point_keeps_its_rate_on_gaussian_features():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((100_000, 20)))
    share = (x.norm(dim=1) > chi_quantile(0.99, 20)).double().mean()
    assert share == pytest.approx(0.01, abs=0.001)


def test_levels_are_summed_and_patches_mapped():
    stages = [("stride8", nn.Identity()), ("stride16", nn.AvgPool2d(2))]
    backbone = Backbone(stages, ["stride8", "stride16"], mean=[0, 0, 0], std=[1, 1, 1])
    network = GaussianLevels(backbone, [3, 3], ["stride16"]).eval()
    network.pooled[0].mean += 1
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8))
    with torch.inference_mode():
        patch_scores, image_scores = network(image)
    pixels = image.double().numpy()
    pooled = pixels.mean(axis=(1, 2))
    expected = np.linalg.norm(pooled - 1, axis=1) + np.linalg.norm(pooled, axis=1)
    np.testing.assert_allclose(image_scores, expected, rtol=1e-6)
    quarters = pixels.reshape(2, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(patch_scores, np.linalg.norm(quarters, axis=-1), rtol=1e-6)


def test_the_finest_level_gives_the_grid():
    images = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(4)]
    model = Mvg.from_settings({**TINY, "max_patches": 40}).fit(images)
    batch = torch.from_numpy(np.stack(images))
    with torch.inference_mode():
        patch_scores, image_scores = model.network(batch)
        levels = model.network.levels(batch)
    assert patch_scores.shape == (4, 8, 8)
    assert len(levels) == len(LITE_LAYERS) == 8
    expected = sum(g(level.mean(dim=(2, 3))) for g, level in zip(model.network.pooled, levels, strict=True))
    np.testing.assert_allclose(image_scores, expected, rtol=1e-5)
    again = Mvg.from_settings({**TINY, "max_patches": 40}).fit(images)
    torch.testing.assert_close(again.network.state_dict(), model.network.state_dict(), rtol=0, atol=0)


def test_working_point_of_the_sum():
    model = Mvg.from_settings({**TINY, "layers": ("stride8", "stride16")})
    # Each of the two levels has half of the rate.
    expected = chi_quantile(0.995, 40) + chi_quantile(0.995, 112)
    assert model.working_point(0.01) == pytest.approx(expected, rel=1e-9)


def test_settings():
    assert METHODS["mvg"] is Mvg
    for preset in Mvg.presets:
        MvgConfig(**find_preset("mvg", preset))
    with pytest.raises(SettingsError, match="'none', 'pca' or 'npca', found 'ica'"):
        Mvg.from_settings({"reduction": "ica"})
    with pytest.raises(SettingsError, match="unknown reduction 'ica'"):
        MvgConfig(reduction="ica")
    with pytest.raises(SettingsError, match="between 0 and 1, found 1.5"):
        Mvg.from_settings({"variance": 1.5})
    with pytest.raises(SettingsError, match="map_layers"):
        Mvg.from_settings({"layers": ("stride16",)})
    with pytest.raises(SettingsError, match="at least 2 good images, found 1"):
        Mvg.from_settings(TINY).fit([np.zeros((64, 64, 3), np.uint8)])


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["none", "npca"])
def test_exported_graph_scores_like_torch(line_data, tmp_path, reduction):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    from edgead.export.verify import compare_with_torch, replay_golden

    from edgead import Detector
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages
    from edgead.dataset.folders import find_test_images

    good = GoodImages(line_data, false_reject_rate=0.05)
    settings = {"backbone": "efficientnet_lite0", "image_size": (128, 96), "reduction": reduction}
    artifact, _ = train_from_folder(good, tmp_path / "model", settings, detector="mvg")
    assert artifact.manifest.outputs == ("patch_scores", "image_score")
    assert artifact.manifest.training["gaussian_threshold"] > 0
    paths = [image.path for image in find_test_images(line_data)]
    parity = compare_with_torch(artifact, paths)
    assert parity.passed and parity.score_error <= 1e-4, parity
    assert replay_golden(artifact).passed
    network = load_network(Artifact.load(tmp_path / "model"))
    batch = np.random.default_rng(0).integers(0, 256, (3, 128, 96, 3), np.uint8)
    with torch.inference_mode():
        expected, _ = network(torch.from_numpy(batch))
    assert expected.shape == (3, 16, 12)
    with Detector.load(tmp_path / "model") as detector:
        assert detector.measure(batch[0]).anomaly_map.shape == (128, 96)
