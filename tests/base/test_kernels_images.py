"""shrink on every backend and instruction set level: the same whole numbers as the reference, to the last pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import reference
from backends import ON_HOST
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead import kernels
from edgead.errors import SettingsError

SIDES = st.integers(1, 70)


@pytest.fixture(params=ON_HOST, scope="module")
def backend(request):
    return request.param


def drawn(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_shape_is_exact(backend, data):
    height, width = data.draw(SIDES), data.draw(SIDES)
    size = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    image = drawn(height * width, height, width)
    assert np.array_equal(kernels.shrink(image, size, backend=backend), reference.shrink(image, size))


@pytest.mark.parametrize(
    ("shape", "size"),
    [((600, 3), (1, 2)), ((1030, 700), (2, 3)), ((3, 2049), (3, 1)), ((64, 64), (16, 16)), ((5, 1400), (4, 349))],
)
def test_more_rows_than_sixteen_bits_hold_and_more_columns_than_a_block(backend, shape, size):
    for image in (np.full((*shape, 3), 255, np.uint8), drawn(1, *shape)):
        assert np.array_equal(kernels.shrink(image, size, backend=backend), reference.shrink(image, size))


def test_halves_are_rounded_to_even(backend):
    image = np.repeat(np.array([[[0, 1, 2], [1, 2, 3]]], np.uint8), 3, axis=0)
    assert kernels.shrink(image, (1, 1), backend=backend).tolist() == [[[0, 2, 2]]]


def test_a_region_of_a_larger_image_is_read_where_it_lies(backend):
    whole, out = drawn(2, 90, 80), np.empty((7, 9, 3), np.uint8)
    for region in (whole[3:81, 5:70], whole[::2], whole[:, ::-1], whole[::-1]):
        assert kernels.shrink(region, (7, 9), out, backend=backend) is out
        assert np.array_equal(out, reference.shrink(np.ascontiguousarray(region), (7, 9)))


def test_rows_may_overlap_or_run_upwards(backend):
    flat = drawn(5, 1, 200).ravel()
    overlapping = np.lib.stride_tricks.as_strided(flat, (8, 9, 3), (12, 3, 1))
    for image in (overlapping, drawn(6, 8, 9)[::-1]):
        expected = kernels.shrink(image.copy(), (4, 3), backend=backend)
        np.testing.assert_array_equal(kernels.shrink(image, (4, 3), backend=backend), expected)


def test_a_side_has_at_most_2_to_the_20_pixels(backend):
    image = np.full((1, 2**20 + 1, 3), 7, np.uint8)
    assert (kernels.shrink(image[:, :-1], (1, 1), backend=backend) == 7).all()
    with pytest.raises(ValueError, match="from at most 2.20"):
        kernels.shrink(image, (1, 1), backend=backend)


def test_it_is_what_opencv_computes_in_floats(backend):
    image = drawn(3, 300, 410)
    ours = kernels.shrink(image, (64, 50), backend=backend).astype(int)
    difference = np.abs(ours - cv2.resize(image, (50, 64), interpolation=cv2.INTER_AREA))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


@pytest.mark.parametrize(
    ("image", "size", "error", "reason"),
    [
        (np.zeros((4, 4, 3), np.float32), (2, 2), TypeError, "image must be uint8, found float32"),
        (np.zeros((4, 4), np.uint8), (2, 2), ValueError, r"\(H, W, 3\), found \(4, 4\)"),
        (np.zeros((4, 4, 3), np.uint8), (5, 2), ValueError, "shrinks along both axes"),
        (np.zeros((4, 4, 3), np.uint8), (0, 2), ValueError, "to one pixel at least"),
        (np.zeros((0, 4, 3), np.uint8), (1, 2), ValueError, "shrinks along both axes"),
    ],
)
def test_what_cannot_be_shrunk_is_refused(backend, image, size, error, reason):
    with pytest.raises(error, match=reason):
        kernels.shrink(image, size, backend=backend)


def test_no_gpu_shrinks():
    with pytest.raises(SettingsError, match="backend 'cuda' has no code for this kernel"):
        kernels.shrink(drawn(4, 9, 9), (3, 3), backend="cuda")


def test_a_result_that_does_not_fit_is_refused():
    image = drawn(4, 9, 9)
    with pytest.raises(ValueError, match=r"out must be a writeable array of shape \(3, 3, 3\), found \(2, 3, 3\)"):
        kernels.shrink(image, (3, 3), np.empty((2, 3, 3), np.uint8))
