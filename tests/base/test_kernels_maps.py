"""Smoother, smooth and gaussian_blur on every backend and instruction set level against float64.

Tolerance: each of the two passes is a chain of `taps` multiply-adds in float32 with weights that are not negative, sum
to 1 and are themselves rounded, so a pixel is off by at most 2 (taps + 2) 2^-24 times the largest magnitude of the
input. Blocked bands only add exact zeros. Matrix products that sum in another order obey the same bound, and so does
the blur that adds the two sides first: one more rounding, and half the links.
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
from edgead.kernels.backend import resolve
from edgead.kernels.banded_filters import blur_filter, blur_pays, smoothing_band


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


@pytest.mark.parametrize("border", ["reflect", "replicate"])
@pytest.mark.parametrize("sigma", [0, 0.2, 2, 3.9, 4.1, 30])
@pytest.mark.parametrize(
    "shape",
    [(16, 16), (17, 16), (16, 67), (63, 65), (15, 40), (40, 15), (300, 18), (18, 300), (129, 81)],
)
def test_blur_shapes(backend, rng, shape, sigma, border):
    # On and off the lane width and the height of a strip; radius below, at and above the size.
    check(rng.standard_normal(shape, dtype=np.float32), shape, sigma, border, backend)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(14, 150), st.integers(14, 150)),
    sigma=st.floats(0, 12),
    border=st.sampled_from(["reflect", "replicate"]),
    seed=st.integers(0, 1 << 30),
)
def test_any_blur(shape, sigma, border, seed):
    image = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) - 5  # negative: so is the maximum
    for backend in WORKING:
        check(image, shape, sigma, border, backend)


def test_blur_of_a_constant_and_of_one_pixel(backend):
    assert kernels.gaussian_blur(np.full((40, 50), 3, np.float32), 4, backend=backend) == pytest.approx(3, rel=1e-5)
    image = np.zeros((90, 90), np.float32)
    image[45, 44] = 1
    blurred = kernels.gaussian_blur(image, 4, backend=backend)
    rows, columns = np.nonzero(blurred)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 61, 28, 60)  # truncated at 16
    np.testing.assert_allclose(blurred, np.roll(blurred[::-1, ::-1], (1, -1), (0, 1)), rtol=1e-6)


@pytest.mark.parametrize(("border", "rule"), [("reflect", cv2.BORDER_REFLECT), ("replicate", cv2.BORDER_REPLICATE)])
def test_opencv_agrees(backend, rng, border, rule):
    scores = rng.random((28, 28), dtype=np.float32)
    anomaly_map, _ = kernels.smooth(scores, (256, 256), 4.0, border=border, backend=backend)
    resized = cv2.resize(scores, (256, 256), interpolation=cv2.INTER_LINEAR)
    blurred = cv2.GaussianBlur(resized, (33, 33), 4.0, borderType=rule)
    np.testing.assert_allclose(anomaly_map, blurred, atol=2e-6)  # 33 taps of float32 on either side


@pytest.mark.parametrize(
    ("shape", "size", "sigma"),
    [((64, 64), (500, 300), 5.0), ((64, 64), (1001, 333), 4.0), ((301, 407), (301, 407), 4.0)],
)
def test_threads_and_reuse(backend, rng, shape, size, sigma):
    smoother = kernels.Smoother(shape, size, sigma, backend=backend)
    maps = [rng.random(shape, dtype=np.float32) for _ in range(16)]
    before = kernels.threads()
    try:
        kernels.set_threads(1)
        alone = [smoother(scores) for scores in maps]
        out = np.empty(size, np.float32)
        for turn, (scores, (expected, maximum)) in enumerate(zip(maps, alone, strict=True)):
            kernels.set_threads(2 + turn % 4)
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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 41), (36, 0), (36, 41), (17, 23)])
@pytest.mark.parametrize("sigma", [0, 0.1, 2])
def test_not_finite_blur(backend, sigma, place, value):
    image = np.ones((37, 42), np.float32)
    image[place] = value
    with pytest.raises(ValueError, match="NaN or Inf"):
        kernels.gaussian_blur(image, sigma, backend=backend)


def test_huge_values_are_right_or_refused(backend):
    image = np.full((40, 40), 2.0**126, np.float32)
    assert kernels.gaussian_blur(image, 2, backend=backend) == pytest.approx(2.0**126, rel=1e-5)
    try:
        blurred = kernels.gaussian_blur(image * np.float32(3), 2, backend=backend)
    except ValueError as error:
        assert "beyond 2^126" in str(error)
    else:
        assert blurred == pytest.approx(3 * 2.0**126, rel=1e-5)


@pytest.mark.skipif(not kernels.available_isas(), reason="edgead is installed without native code")
def test_native_blur_refuses_what_does_not_fit():
    native = resolve("cpu")[0]
    assert blur_pays((16, 20), 3.75)
    assert not blur_pays((16, 20), 3.76)
    assert not blur_pays((15, 20), 1)
    weights, rows, columns = blur_filter((16, 20), 2, "reflect")
    native.Blur(weights, rows, columns, "baseline")
    for wrong in [(weights[1:], rows, columns), (weights, rows[1:], columns), (weights, rows + 1, columns)]:
        with pytest.raises(ValueError, match="do not fit"):
            native.Blur(*wrong, "baseline")
    image = np.zeros((32, 20), np.float32)
    with pytest.raises(ValueError, match="overlaps"):
        native.Blur(weights, rows, columns, "baseline")(image[:16], image[8:24])


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
