"""One preprocessing: resize rule, colour order, region of interest."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import covered, preprocess
from edgead.errors import SettingsError


def test_same_size_only_swaps_colours():
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    np.testing.assert_array_equal(preprocess(image, Preprocessing(image_size=(6, 5))), image[:, :, ::-1])


def test_shrinking_averages_the_covered_pixels():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    expected = image.reshape(16, 4, 32, 3, 3).astype(float).mean(axis=(1, 3))[:, :, ::-1]
    # One grey level: OpenCV rounds once more than float arithmetic.
    assert np.abs(preprocess(image, Preprocessing(image_size=(16, 32))) - expected).max() <= 1


@pytest.mark.parametrize("size", [(12, 96), (96, 12)])
def test_one_axis_shrinks_while_the_other_grows(size):
    # Stripes one pixel wide along the shrinking axis: without averaging they alias to black or white.
    stripes = np.indices((48, 48))[0 if size[0] < 48 else 1] % 2 * 255
    image = np.repeat(stripes[:, :, None], 3, axis=2).astype(np.uint8)
    result = preprocess(image, Preprocessing(image_size=size))
    assert result.shape == (*size, 3)
    assert 100 < result.min() <= result.max() < 155


def test_region_of_interest():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    result = preprocess(image, Preprocessing(image_size=(8, 10), roi=(3, 5, 10, 8)))
    np.testing.assert_array_equal(result, image[5:13, 3:13, ::-1])
    with pytest.raises(SettingsError, match="does not fit in an image of 30x20"):
        preprocess(image, Preprocessing(image_size=(8, 10), roi=(25, 5, 10, 8)))


def test_writes_into_the_given_buffer():
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    out = np.zeros((1, 32, 32, 3), np.uint8)
    preprocess(image, Preprocessing(image_size=(32, 32)), out=out[0])
    np.testing.assert_array_equal(out[0], preprocess(image, Preprocessing(image_size=(32, 32))))
    assert out.any()


@pytest.mark.parametrize("shape", [(40, 100), (100, 40), (64, 64), (1, 500), (700, 3), (33, 32)])
def test_a_filled_image_keeps_its_proportions_and_is_reflected_around(shape):
    spec = Preprocessing(image_size=(64, 48), fill="reflect")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    rows, columns = covered(spec, image.shape)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    assert height == 64 or width == 48
    factor = min(64 / shape[0], 48 / shape[1])
    assert abs(height - max(1, shape[0] * factor)) <= 0.5 and abs(width - max(1, shape[1] * factor)) <= 0.5
    result = preprocess(image, spec)
    inside = preprocess(image, Preprocessing(image_size=(height, width)))
    np.testing.assert_array_equal(result[rows, columns], inside)
    around = ((rows.start, 64 - rows.stop), (columns.start, 48 - columns.stop), (0, 0))
    np.testing.assert_array_equal(result, np.pad(inside, around, mode="reflect"))


def test_the_covered_part_is_that_of_the_region():
    spec = Preprocessing(image_size=(32, 32), roi=(3, 5, 20, 10), fill="reflect")
    assert covered(spec, (100, 40, 3)) == (slice(8, 24), slice(0, 32))
    assert covered(spec.model_copy(update={"fill": "stretch"}), (100, 40, 3)) == (slice(0, 32), slice(0, 32))
