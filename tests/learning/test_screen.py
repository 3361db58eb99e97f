"""Piles that nobody has labelled: mutual scores, the ranking, and the folder that comes of it."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from command_line import run_here

from edgead import kernels
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.metrics.ranking import auroc
from edgead.unlabelled.screening import run
from edgead.unlabelled.screening.features import _joined
from edgead.unlabelled.screening.mutual import (
    MutualRule,
    constrain,
    interval_average,
    mutual_scores,
    neighbourhood_mean,
)
from edgead.unlabelled.screening.run import screen
from edgead.unlabelled.screening.screeners import ScreenPlan

FIRST_ROUND = MutualRule(interval=0.3, trusted=0, reaches=(1,), top=0.01)


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def pile(rng, good, defective, side=6, d=12):
    """Images of one texture; defective ones have a strange patch each."""
    words = rng.normal(size=(20, d))
    images = words[rng.integers(0, 20, (good + defective, side, side))] + 0.1 * rng.normal(
        size=(good + defective, side, side, d)
    )
    images[good:, 2, 3] += 3 * rng.normal(size=(defective, d))
    return images.astype(np.float32)


# Mutual scores


def test_the_neighbourhood_mean_counts_zeros_outside():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    mean = neighbourhood_mean(image, 3).reshape(3, 4)
    assert mean[1, 1] == pytest.approx(image[0:3, 0:3].mean())
    assert mean[0, 0] == pytest.approx(image[0:2, 0:2].sum() / 9)
    np.testing.assert_array_equal(neighbourhood_mean(image, 1)[:, 0], image.ravel())


def test_the_interval_is_of_the_other_images(rng):
    distances = rng.random((5, 11)).astype(np.float32)
    apart = np.arange(11) != 4
    expected = np.sort(distances[:, apart], axis=1)[:, :3].mean(axis=1)  # floor(0.3 * 10)
    np.testing.assert_allclose(interval_average(distances, apart, 0.3), expected, rtol=1e-6)
    least = distances[:, apart].min(axis=1)
    np.testing.assert_array_equal(interval_average(distances, apart, 0.01), least)


def test_scores_are_those_of_the_obvious_loops(rng):
    features = pile(rng, 9, 1, side=4)
    rule = MutualRule(interval=0.4, trusted=0, reaches=(1, 3), top=1 / 16)
    scores, maps = mutual_scores(features, range(10), rule)
    expected = np.zeros((10, 16))
    for reach in (1, 3):
        patches = [neighbourhood_mean(image, reach).astype(np.float64) for image in features]
        for i, own in enumerate(patches):
            nearest = [
                [np.linalg.norm(other - patch, axis=1).min() for j, other in enumerate(patches) if j != i]
                for patch in own
            ]
            expected[i] += np.sort(nearest, axis=1)[:, :3].mean(axis=1) / 2  # floor(0.4 * 9)
    np.testing.assert_allclose(maps.reshape(10, 16), expected, rtol=1e-5)
    np.testing.assert_allclose(scores, expected.max(axis=1), rtol=1e-5)


@pytest.mark.parametrize("rule", [FIRST_ROUND, MutualRule()])
def test_a_strange_patch_comes_first_and_its_place_is_marked(rng, rule):
    features = pile(rng, 30, 3)
    scores, maps = mutual_scores(features, range(33), rule)
    assert set(np.argsort(scores)[-3:]) == {30, 31, 32}
    assert all(np.unravel_index(maps[i].argmax(), maps[i].shape) == (2, 3) for i in (30, 31, 32))


def test_what_most_images_have_is_normal(rng):
    features = pile(rng, 30, 0)
    features[:25, 2, 3] = 9
    scores, _ = mutual_scores(features, range(30), FIRST_ROUND)
    assert auroc(np.arange(30) < 25, scores) < 0.7


def test_images_of_one_part_do_not_vouch_for_each_other(rng):
    features = pile(rng, 12, 2)
    features[13] = features[12]  # the same defective part once more
    few = MutualRule(interval=0.05, trusted=0, reaches=(1,))
    alone, _ = mutual_scores(features, range(14), few)
    grouped, _ = mutual_scores(features, [*range(12), 12, 12], few)
    assert alone[12] < np.median(alone[:12])
    assert set(np.argsort(grouped)[-2:]) == {12, 13}


def test_shuffled_labels_give_chance(rng):
    features = pile(rng, 36, 4)
    scores, _ = mutual_scores(features, range(40), MutualRule())
    labels = np.arange(40) >= 36
    found = [auroc(rng.permutation(labels), scores) for _ in range(400)]
    assert auroc(labels, scores) > 0.95
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_a_constraint_by_itself_alone_changes_no_order(rng):
    scores, descriptors = rng.random(9), rng.normal(size=(9, 4)).astype(np.float32)
    alone = constrain(scores, descriptors, (1,))
    np.testing.assert_array_equal(np.argsort(alone), np.argsort(scores))
    assert (alone.min(), alone.max()) == (0, 1)


def test_a_constraint_moves_scores_towards_images_that_look_alike():
    descriptors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    moved = constrain(np.array([1.0, 0.0, 0.2, 0.0]), descriptors, (1, 2))
    assert moved[1] > moved[3] > 0
    assert moved[0] < 1


# The ranking of a folder


@pytest.fixture(scope="module")
def parts(line_data):
    """A dozen good images of the built-in line, and three with a defect."""
    good = sorted(line_data.glob("train/good/*"))[:12]
    defective = [sorted(folder.iterdir())[0] for folder in sorted(line_data.glob("test/*")) if folder.name != "good"]
    return good, defective[:3]


PLAN = ScreenPlan(zoom=1, group="none")


@pytest.fixture(scope="module")
def ranked(parts):
    return screen([*parts[0], *parts[1]], PLAN)


def test_the_order_of_the_pile_changes_nothing(parts, ranked):
    paths = [*parts[0], *parts[1]]
    for order in (paths[::-1], [*paths[7:], *paths[:7], paths[0]]):
        again = screen(order, PLAN)
        assert [(one.path, one.score) for one in again.images] == [(one.path, one.score) for one in ranked.images]
        for one, other in zip(again.images, ranked.images, strict=True):
            np.testing.assert_array_equal(one.patch_scores, other.patch_scores)


def test_threads_and_instruction_sets_change_no_distance(rng):
    features = pile(rng, 10, 2).reshape(12, 36, 12)
    bank = features.reshape(-1, 12)
    found = [kernels.GroupedPatches(bank, [36] * 12, backend=name).search(bank) for name in ("numpy", "auto")]
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_a_large_pile_is_dealt(parts, ranked, monkeypatch):
    monkeypatch.setattr(run, "MAX_IMAGES", 8)
    dealt = screen([*parts[0], *parts[1]], PLAN)
    assert {one.path for one in dealt.images} == {one.path for one in ranked.images}
    assert sorted(one.score for one in dealt.images) != sorted(one.score for one in ranked.images)


@pytest.mark.parametrize(("height", "step"), [(4, 4), (3, 2)])
def test_windows_of_a_larger_image_are_put_together(height, step):
    side = 2 * height
    whole = np.arange(side * side, dtype=np.float32).reshape(side, side, 1)
    windows = whole.reshape(2, height, 2, height, 1).transpose(0, 2, 1, 3, 4).reshape(-1, height, height, 1)
    expected = whole.reshape(side // step, step, side // step, step, 1).mean(axis=(1, 3))
    np.testing.assert_array_equal(_joined(windows, 2), expected)


def test_few_parts_are_refused_or_warned_of(parts, ranked):
    with pytest.raises(SettingsError, match="2 images of 2 parts"):
        screen(parts[0][:2], PLAN)
    assert "15 parts are few" in ranked.warnings()[0]


@pytest.mark.parametrize(("change", "message"), [({"zoom": 0}, "zoom"), ({"rule": MutualRule(0)}, "interval")])
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        ScreenPlan(**change)


def test_the_verb_writes_a_sheet_a_table_and_what_it_cannot_know(parts, ranked, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path / "out"
    arguments = ["screen", *parts[0], *parts[1], broken, "-o", out, "--zoom", "1", "--group", "none"]
    done = run_here(*arguments, "--json")
    assert done.returncode == 1 and "broken.png" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["limits.txt", "ranking.csv", "sheet.jpg"]
    rows = list(csv.DictReader((out / "ranking.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [str(one.path) for one in ranked.images]
    assert [row["image"] for row in json.loads(done.stdout)["ranking"]] == [row["image"] for row in rows]
    assert load_image(out / "sheet.jpg").shape[1] >= 1400
    page = (out / "limits.txt").read_text()
    assert "A defect that most parts have" in page and "this pile has 15" in page
    again = run_here(*arguments)
    assert again.returncode == 2 and "is not empty" in again.stderr
