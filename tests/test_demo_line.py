"""The rendered parts: determinism, and masks that hold exactly what the defect changed."""

from itertools import islice

import numpy as np
import pytest

from edgead.demo import DEFECTS, SIZE, belt, render
from edgead.demo.line import part_seed, schedule

SEEDS = range(100, 112)


def test_there_are_six_defects():
    assert len(set(DEFECTS)) == 6
    assert {"scratch", "missing_hole"} <= set(DEFECTS)


def test_same_seed_same_bytes():
    for defect in (None, *DEFECTS):
        (image, mask), (again, mask_again) = render(7, defect), render(7, defect)
        assert image.tobytes() == again.tobytes()
        assert mask.tobytes() == mask_again.tobytes()


def test_a_good_part_is_a_usable_photograph():
    image, mask = render(3)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert mask.shape == SIZE and mask.dtype == bool and not mask.any()
    assert np.mean(image == 255) < 0.01 and np.mean(image == 0) < 0.01
    belt_level, part_level = image[:60, :60].mean(), image[210:270, 290:350].mean()
    assert part_level > 2 * belt_level


def test_parts_differ():
    images = [render(seed)[0].astype(float) for seed in range(3)]
    assert np.abs(images[0] - images[1]).mean() > 3
    assert np.abs(images[1] - images[2]).mean() > 3


@pytest.mark.parametrize("defect", DEFECTS)
def test_mask_is_what_the_defect_changed(defect):
    for seed in SEEDS:
        image, mask = render(seed, defect)
        changed = np.any(image != render(seed)[0], axis=2)
        assert not changed[~mask].any()
        # Gaps between changed pixels belong to a mask, but most of it must have changed.
        assert changed[mask].mean() > 0.75
        assert 24 <= mask.sum() < 0.04 * mask.size


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_vary_and_can_be_seen(defect):
    areas, contrasts = [], []
    for seed in SEEDS:
        image, mask = render(seed, defect)
        difference = np.abs(image.astype(int) - render(seed)[0]).max(axis=2)[mask]
        areas.append(int(mask.sum()))
        contrasts.append(float(np.percentile(difference, 90)))
    assert len(set(areas)) > 6
    assert min(contrasts) > 5


def test_unknown_defect_is_named():
    with pytest.raises(ValueError, match="'rust'.*scratch, dent"):
        render(1, "rust")


def test_belt_is_deterministic_and_may_be_endless():
    endless = list(islice(belt(4, None, 0.5), 6))
    for (image, mask, defect), (again, mask_again, defect_again) in zip(endless, belt(4, 6, 0.5), strict=True):
        assert defect == defect_again
        assert mask.any() == (defect is not None)
        assert np.array_equal(image, again) and np.array_equal(mask, mask_again)


def test_belt_keeps_the_defect_rate():
    defects = [defect for _, defect in schedule(2, 4000, 0.1)]
    assert 320 < sum(defect is not None for defect in defects) < 480
    assert [defect for _, defect in schedule(2, 50, 0)] == [None] * 50
    assert {defect for _, defect in schedule(2, 50, 1)} == set(DEFECTS)


def test_no_part_is_in_two_places():
    belts = {number for seed in range(5) for number, _ in schedule(seed, 300, 0.1)}
    data_sets = {part_seed(seed, index) for seed in range(5) for index in range(300)}
    assert len(belts) == len(data_sets) == 1500
    assert not belts & data_sets


@pytest.mark.parametrize("call", [lambda: belt(1, 3, 1.5), lambda: belt(1, -1), lambda: belt(-1, 1)])
def test_bad_belt_is_refused(call):
    with pytest.raises(ValueError, match="got"):
        next(call())
