"""Boxes around what a map marks, and where boxes lie on a grid: each by its definition, cell by cell."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgead.images.boxes import box_density, box_places, find_boxes, highest_spot

SIDES = st.integers(1, 9)
PIXELS = st.integers(1, 200)


@given(st.integers(0, 2**32), SIDES, SIDES, st.tuples(st.integers(0, 50), st.integers(0, 50), PIXELS, PIXELS))
def test_a_box_holds_its_region_outwards_to_whole_pixels(seed, rows, columns, region):
    """One rectangle of cells in a map that is lower elsewhere, in a part of the frame of any proportions."""
    rng = np.random.default_rng(seed)
    top, bottom = sorted(rng.choice(rows + 1, 2, replace=False).tolist())
    left, right = sorted(rng.choice(columns + 1, 2, replace=False).tolist())
    anomaly_map = np.zeros((rows, columns), np.float32)
    anomaly_map[top:bottom, left:right] = 2
    anomaly_map[bottom - 1, left] = 3
    (box,) = find_boxes(anomaly_map, 1.0, region)
    x, y, width, height = region
    across, down = Fraction(width, columns), Fraction(height, rows)
    assert (box.x, box.y) == (x + math.floor(left * across), y + math.floor(top * down))
    assert (box.x + box.width, box.y + box.height) == (x + math.ceil(right * across), y + math.ceil(bottom * down))
    assert box.peak == 3
    at_x, at_y = highest_spot(anomaly_map, region)
    assert x + math.floor(left * across) <= at_x <= x + math.ceil((left + 1) * across)
    assert y + math.floor((bottom - 1) * down) <= at_y <= y + math.ceil(bottom * down)


def test_regions_that_touch_at_a_corner_are_one_and_the_highest_comes_first():
    anomaly_map = np.zeros((4, 6), np.float32)
    anomaly_map[0, 0] = anomaly_map[1, 1] = 2
    anomaly_map[3, 5] = 5
    boxes = [(box.x, box.y, box.width, box.height, box.peak) for box in find_boxes(anomaly_map, 1.0, (0, 0, 12, 4))]
    assert boxes == [(10, 3, 2, 1, 5.0), (0, 0, 4, 2, 2.0)]


BOXES = st.lists(st.tuples(st.integers(-20, 130), st.integers(-20, 130), PIXELS, PIXELS), max_size=6)


@given(BOXES, PIXELS, PIXELS)
def test_density_and_places_count_boxes_one_by_one(boxes, width, height):
    found = [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in boxes]
    rows = max(1, round(64 * height / width))
    density = np.zeros((rows, 64), np.int64)
    places: Counter[str] = Counter()
    for x, y, wide, tall in boxes:
        # As far as a box lies in the image; in the numbers of the code, which decide where it ends on a line.
        across, down = 64 / width, rows / height
        left, right = (min(max(edge, 0), 64) for edge in (math.floor(x * across), math.ceil((x + wide) * across)))
        top, bottom = (min(max(edge, 0), rows) for edge in (math.floor(y * down), math.ceil((y + tall) * down)))
        density[top:bottom, left:right] += 1
        ranks = max(1, min(26, round(8 * height / width)))
        column, row = Fraction(2 * x + wide, 2) * 8 / width, Fraction(2 * y + tall, 2) * ranks / height
        if 0 <= column < 8 and 0 <= row < ranks:
            places["ABCDEFGHIJKLMNOPQRSTUVWXYZ"[math.floor(row)] + "12345678"[math.floor(column)]] += 1
    np.testing.assert_array_equal(box_density(found, (width, height)), density)
    assert box_places(found, (width, height)) == places
    assert list(box_places(found, (width, height)).values()) == sorted(places.values(), reverse=True)
