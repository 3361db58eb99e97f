"""Smoother, smooth and gaussian_blur on every backend and instruction set level against float64.

Tolerance: each of the two passes is a chain of `taps` multiply-adds in float32 with weights that are not negative, sum
to 1 and are themselves rounded, so a pixel is off by at most 2 (taps + 2) 2^-24 times the largest magnitude of the
input. Blocked bands only add exact zeros. Matrix products that sum in another order obey the same bound.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import reference
from backends import EACH, WORKING
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead import kernels
from edgead.kernels.bands import smoothing_band


def tolerance(scores, size, sigma, border):
    taps = max(smoothing_band(a, b, sigma, border).weights.shape[1] for a, b in zip(scores.shape, size, strict=True))
    return 2 * (taps + 2) * 2.0**-24 * float(np.abs(scores).max())


def check(scores, size, sigma, border, backend):
    anomaly_map, maximum = kernels.smooth(scores, size, sigma, border=border, backend=backend)
    assert anomaly_map.dtype == np.float32
    assert anomaly_map.flags.c_contiguous
    expected, _ = reference.smooth(scores, size, sigma, border)
    np.testing.assert_allclose(anomaly_map, expected, rtol=0, atol=tolerance(scores, size, sigma, border))
    assert maximum == anomaly_map.max()


@pytest.fixture(params=EACH)
def backend(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(21)


@pytest.mark.parametrize("border", ["reflect", "replicate"])
@pytest.mark.parametrize("sigma", [0, 0.3, 1, 4])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1), (1, 1)),
        ((1, 1), (9, 5)),
        ((28, 28), (256, 256)),
        ((20, 31), (61, 47)),
        ((16, 9), (7, 16)),
        ((5, 64), (5, 64)),
    ],
)
def test_shapes(backend, rng, shape, size, sigma, border):
    check(rng.standard_normal(shape, dtype=np.float32), size, sigma, border, backend)


@pytest.mark.parametrize("scale", [1e-38, 1e30])
def test_magnitudes(backend, rng, scale):
    scores = rng.random((12, 13), dtype=np.float32) * np.float32(scale)
    check(scores, (40, 50), 2.5, "reflect", backend)


def test_negative_maps_have_a_negative_maximum(backend):
    # The lanes beyond the width must not take part in the maximum.
    anomaly_map, maximum = kernels.smooth(np.full((3, 3), -2, np.float32), (7, 5), 1.0, backend=backend)
    assert maximum == anomaly_map.max() < -1.9


def test_reflection_folds_as_often_as_needed(backend, rng):
    check(rng.random((3, 2), dtype=np.float32), (3, 2), 6.0, "reflect", backend)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    sigma=st.floats(0, 8),
    border=st.sampled_from(["reflect", "replicate"]),
    seed=st.integers(0, 1 << 30),
)
def test_any_map(shape, size, sigma, border, seed):
    scores = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    for backend in WORKING:
        check(scores, size, sigma, border, backend)


@pytest.mark.parametrize("sigma", [0, 1.5, 4])
def test_blur(backend, rng, sigma):
    image = rng.random((97, 131), dtype=np.float32)
    blurred = kernels.gaussian_blur(image, sigma, backend=backend)
    expected = reference.blur(image.astype(np.float64), sigma, "reflect")
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=tolerance(image, image.shape, sigma, "reflect"))
    assert blurred is not image


@pytest.mark.parametrize(("border", "rule"), [("reflect", cv2.BORDER_REFLECT), ("replicate", cv2.BORDER_REPLICATE)])
def test_opencv_agrees(backend, rng, border, rule):
    scores = rng.random((28, 28), dtype=np.float32)
    anomaly_map, _ = kernels.smooth(scores, (256, 256), 4.0, border=border, backend=backend)
    resized = cv2.resize(scores, (256, 256), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(resized, (33, 33), 4.0, borderType=rule)
    np.testing.assert_allclose(anomaly_map, blurred, atol=2e-6)  # 33 taps of float32 on either side


def test_threads_and_reuse(backend, rng):
    smoother = kernels.Smoother((64, 64), (500, 300), 5.0, backend=backend)
    maps = [rng.random((64, 64), dtype=np.float32) for _ in range(16)]
    before = kernels.threads()
    try:
        kernels.set_threads(1)
        alone = [smoother(scores) for scores in maps]
        kernels.set_threads(2)
        out = np.empty((500, 300), np.float32)
        for scores, (expected, maximum) in zip(maps, alone, strict=True):
            anomaly_map, largest = smoother(scores, out)
            assert anomaly_map is out
            assert largest == maximum
            np.testing.assert_array_equal(out, expected)
        with ThreadPoolExecutor(4) as executor:
            for (anomaly_map, _), (expected, _) in zip(executor.map(smoother, maps), alone, strict=True):
                np.testing.assert_array_equal(anomaly_map, expected)
    finally:
        kernels.set_threads(before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(backend, value):
    scores = np.zeros((6, 6), np.float32)
    scores[5, 5] = value
    with pytest.raises(ValueError, match="NaN or Inf"):
        kernels.smooth(scores, (12, 12), 1.0, backend=backend)


def test_arguments(backend):
    scores = np.zeros((4, 5), np.float32)
    smoother = kernels.Smoother((4, 5), (8, 9), 1.0, backend=backend)
    with pytest.raises(ValueError, match=r"shape \(4, 5\), found \(5, 4\)"):
        smoother(np.zeros((5, 4), np.float32))
    with pytest.raises(TypeError, match="float32, found float64"):
        smoother(np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"writeable array of shape \(8, 9\)"):
        smoother(scores, np.zeros((9, 8), np.float32))
    fixed = np.zeros((8, 9), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        smoother(scores, fixed)
    for sigma in (-1, np.nan, np.inf, 1e6):
        with pytest.raises(ValueError, match="sigma must be from 0 to 1000"):
            kernels.smooth(scores, (8, 9), sigma, backend=backend)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        kernels.smooth(scores, (0, 9), 1.0, backend=backend)
    with pytest.raises(ValueError, match="one of reflect, replicate, found 'wrap'"):
        kernels.smooth(scores, (8, 9), 1.0, border="wrap", backend=backend)
