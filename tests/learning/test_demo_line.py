"""The rendered parts: determinism, and masks that hold exactly what the defect changed."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from edgead.synthetic import DEFECTS, SIZE, camera, conveyor, render
from edgead.synthetic.line import BatchConditions, draw_batch, part_seed, schedule
from edgead.synthetic.part import build_layers

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
    conveyor_level, part_level = image[:60, :60].mean(), image[210:270, 290:350].mean()
    assert part_level > 2 * conveyor_level


def test_parts_differ():
    images = [render(seed)[0].astype(float) for seed in range(3)]
    assert np.abs(images[0] - images[1]).mean() > 3
    assert np.abs(images[1] - images[2]).mean() > 3


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS)
def test_mask_is_what_the_defect_changed(defect):
    for seed in SEEDS:
        image, mask = render(seed, defect)
        changed = np.any(image != render(seed)[0], axis=2)
        assert not changed[~mask].any()
        # Gaps between changed pixels belong to a mask, but most of it must have changed.
        assert changed[mask].mean() > 0.75
        assert 24 <= mask.sum() < 0.04 * mask.size


@pytest.mark.slow
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


def test_without_a_batch_every_image_has_the_bytes_that_it_had():
    """What batches added to the renderer, computed as it was before them."""
    for seed in SEEDS:
        scene = camera.draw_scene(seed)
        assert (scene.fall, scene.roughness, scene.mottling) == ((0.0, 0.0), 1.0, 1.0)
        assert np.array_equal(camera._light_over(scene), camera._light_field() * np.float32(scene.gain))
    tile = camera._mottling_tile()
    assert np.array_equal(1 + (tile - 1) * np.float32(1.0), tile)
    same = BatchConditions(1.0, 0.0, (0.0, 0.0), 1.0, 1.0, (0.0, 0.0), 0.0, 0.0)
    assert same.apply(scene) == scene


def test_a_batch_shares_what_the_next_one_has_otherwise():
    assert draw_batch(3) == draw_batch(3) != draw_batch(4)
    first = [draw_batch(3).apply(camera.draw_scene(seed)) for seed in range(5)]
    plain = [camera.draw_scene(seed) for seed in range(5)]
    np.testing.assert_allclose([a.gain / b.gain for a, b in zip(first, plain, strict=True)], draw_batch(3).gain)
    np.testing.assert_allclose([a.angle - b.angle for a, b in zip(first, plain, strict=True)], draw_batch(3).angle)
    assert len({(scene.fall, scene.roughness, scene.mottling) for scene in first}) == 1
    image, _ = render(7, batch=3)
    assert np.array_equal(image, render(7, batch=3)[0])
    assert not np.array_equal(image, render(7, batch=4)[0])
    assert not np.array_equal(image, render(7)[0])
    _, mask = render(7, "scratch", batch=3)
    assert np.array_equal(render(7, "scratch", batch=3)[0][~mask], image[~mask])


@pytest.mark.parametrize("name", ["fall", "roughness", "mottling"])
def test_what_only_batches_change_shows(name):
    """The level changes by about what light, mould and mottling are said to, and not by all at once."""
    scene = camera.draw_scene(1)
    changed = replace(scene, **{name: (0.08, 0.0) if name == "fall" else 1.4})
    before, after = (camera.photograph(build_layers(), each) for each in (scene, changed))
    assert 0.1 < np.abs(after - before).mean() < 10
    if name == "fall":
        assert (after - before)[:, -40:].mean() > 1 and (after - before)[:, :40].mean() < -1


def test_deviations_between_batches_are_those_that_are_said():
    batches = [draw_batch(number) for number in range(3000)]
    for values, deviation in (
        ([np.log(batch.gain) for batch in batches], 0.045),
        ([batch.warmth for batch in batches], 0.006),
        ([batch.shift[0] for batch in batches], 3.0),
        ([batch.angle for batch in batches], 2.0),
        ([batch.defocus for batch in batches], 0.12),
        ([batch.fall[1] for batch in batches], 0.06),
        ([np.log(batch.roughness) for batch in batches], 0.3),
        ([np.log(batch.mottling) for batch in batches], 0.4),
    ):
        assert 0.82 * deviation < np.std(values) < 1.05 * deviation
        assert abs(np.mean(values)) < 0.1 * deviation
    # The part stays within the margin, and some blur is left.
    assert max(abs(place) for batch in batches for place in batch.shift) + 14 < camera._MARGIN
    assert min(batch.defocus for batch in batches) + 0.45 > 0.25


def test_the_conveyor_goes_from_batch_to_batch():
    images = [image for image, _, _ in conveyor(4, 5, 0.0, parts_per_batch=2)]
    for index, image in enumerate(images):
        number, batch = part_seed(4, index, on_conveyor=True), part_seed(4, index // 2, on_conveyor=True)
        assert np.array_equal(image, render(number, batch=batch)[0])
    with pytest.raises(ValueError, match="at least one part"):
        next(conveyor(4, 5, 0.0, parts_per_batch=0))


def test_unknown_defect_is_named():
    with pytest.raises(ValueError, match="'rust'.*scratch, dent"):
        render(1, "rust")


def test_conveyor_is_deterministic_and_may_be_endless():
    endless = list(islice(conveyor(4, None, 0.5), 6))
    for (image, mask, defect), (again, mask_again, defect_again) in zip(endless, conveyor(4, 6, 0.5), strict=True):
        assert defect == defect_again
        assert mask.any() == (defect is not None)
        assert np.array_equal(image, again) and np.array_equal(mask, mask_again)


def test_conveyor_keeps_the_defect_rate():
    defects = [defect for _, defect in schedule(2, 4000, 0.1)]
    assert 320 < sum(defect is not None for defect in defects) < 480
    assert [defect for _, defect in schedule(2, 50, 0)] == [None] * 50
    assert {defect for _, defect in schedule(2, 50, 1)} == set(DEFECTS)


def test_no_part_is_in_two_places():
    conveyors = {number for seed in range(5) for number, _ in schedule(seed, 300, 0.1)}
    data_sets = {part_seed(seed, index) for seed in range(5) for index in range(300)}
    assert len(conveyors) == len(data_sets) == 1500
    assert not conveyors & data_sets


@pytest.mark.parametrize("call", [lambda: conveyor(1, 3, 1.5), lambda: conveyor(1, -1), lambda: conveyor(-1, 1)])
def test_bad_conveyor_is_refused(call):
    with pytest.raises(ValueError, match="got"):
        next(call())
