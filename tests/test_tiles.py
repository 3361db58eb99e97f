"""Large images: tiles cover a frame, their maps are joined, and every verb goes through the same measurer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.tiling import MOST_TILES, Tiling
from edgead.detector.tiles import Mosaic
from edgead.errors import SettingsError
from edgead.preprocess import inputs_of, preprocess

SIDES = st.integers(16, 200)


@given(SIDES, SIDES, st.floats(0, 0.5), st.integers(0, 700), st.integers(0, 700))
def test_tiles_cover_the_frame_and_share_what_was_asked_for(height, width, share, more_rows, more_columns):
    overlap = int(share * height), int(share * width)
    shape = height + more_rows, width + more_columns
    try:
        places = Tiling(size=(height, width), overlap=overlap).over(shape)
    except SettingsError as error:
        assert "takes" in str(error)
        return
    for axis, length, side, shared in ((1, shape[0], height, overlap[0]), (0, shape[1], width, overlap[1])):
        origins = sorted({place[axis] for place in places})
        assert origins[0] == 0 and origins[-1] == length - side
        steps = np.diff(origins)
        assert all(0 < step <= side - shared for step in steps)
        assert len(steps) < 2 or max(steps) - min(steps) <= 1  # evenly
    assert len(places) == len(set(places))


def test_what_cannot_be_cut():
    tiling = Tiling(size=(64, 32), overlap=(8, 8))
    with pytest.raises(SettingsError, match="a frame of 31 x 100 pixels is smaller than a tile of 32 x 64"):
        tiling.over((100, 31, 3))
    with pytest.raises(SettingsError, match=f"more than {MOST_TILES}"):
        tiling.over((8000, 8000))
    with pytest.raises(ValidationError, match="by half of their size at most"):
        Tiling(size=(64, 32), overlap=(8, 17))


def test_inputs_are_the_tiles_of_the_region():
    spec = Preprocessing(image_size=(16, 16), roi=(10, 20, 50, 32), tiles=Tiling(size=(32, 32), overlap=(0, 8)))
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    one, other = inputs_of(spec, image.shape)
    plain = Preprocessing(image_size=(16, 16))
    np.testing.assert_array_equal(preprocess(image, one), preprocess(image[20:52, 10:42], plain))
    np.testing.assert_array_equal(preprocess(image, other), preprocess(image[20:52, 28:60], plain))
    assert inputs_of(plain, image.shape) == [plain]


@given(st.integers(32, 150), st.integers(32, 150), st.integers(0, 16))
def test_joined_maps_show_what_the_tiles_agree_on(height, width, overlap):
    spec = Preprocessing(image_size=(64, 64), tiles=Tiling(size=(32, 32), overlap=(overlap, overlap)))
    mosaic = Mosaic(spec, (8, 8), (height, width))
    joined = mosaic.blank(np.float64)
    for number in range(len(mosaic.inputs)):
        mosaic.add(joined, number, np.full((64, 64), 3.0))
    assert joined.shape == (round(height / 2), round(width / 2))
    np.testing.assert_allclose(joined, 3.0)


def test_a_joined_map_has_no_seam_and_shows_a_place_where_it_lies():
    """Each tile is cut from one smooth map and raised at its outermost pixels, as the network's padding does."""
    rows, columns = np.mgrid[:96, :160] / 40
    whole = np.sin(rows) + np.cos(columns)
    spec = Preprocessing(image_size=(64, 64), tiles=Tiling(size=(64, 64), overlap=(32, 32)))
    mosaic = Mosaic(spec, (64, 64), whole.shape)
    joined = mosaic.blank(np.float64)
    for number, one in enumerate(mosaic.inputs):
        x, y, width, height = one.roi
        tile = whole[y : y + height, x : x + width].copy()
        tile[0] += 1
        mosaic.add(joined, number, tile)
    inner = joined[1:] - whole[1:]
    assert joined.shape == whole.shape
    assert np.abs(inner).max() < 0.02  # 1 at a seam with the maximum, a half with the mean
