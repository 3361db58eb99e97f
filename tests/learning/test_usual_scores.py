"""What is usual at a place: found by other parts than those it is judged by, and only ever subtracted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fakes import edit_manifest

from edgead import Detector
from edgead.artifact.folder import Artifact, ArtifactError, write_manifest
from edgead.heads.map import MapHead, MapScorer
from edgead.images.files import load_image

pytest.importorskip("torch", reason="efficient_ad needs the workstation's packages")

from edgead.workstation.methods.efficient_ad.usual_scores import fit_usual_scores, look_at  # noqa: E402

RULE = MapHead(window=3, top_patches=10, margin=1)
GRID = (24, 30)


def good_maps(count, loud=0.0, seed=0):
    """Patch scores with a noisy frame around a quiet middle, louder by `loud`."""
    rng = np.random.default_rng(seed)
    frame = np.full(GRID, loud, np.float32)
    frame[6:-6, 6:-6] = 0
    return (1 + frame + 0.1 * rng.standard_normal((count, *GRID))).astype(np.float32)


def test_a_loud_background_comes_down_to_the_middle():
    maps = good_maps(60, loud=0.5)
    usual = fit_usual_scores(maps)
    assert usual.dtype == np.float32 and usual.shape == GRID
    assert usual[2, 2] == pytest.approx(0.5, abs=0.05)
    assert usual[12, 15] == pytest.approx(0, abs=0.05)
    scorer = MapScorer(RULE, GRID, GRID)
    defect = np.zeros(GRID, np.float32)
    defect[10:14, 10:14] = 0.4

    def found(lowering):
        good = [scorer.image_score(scores - lowering) for scores in maps]
        return np.mean([scorer.image_score(scores - lowering + defect) > max(good) for scores in maps])

    assert found(0) == 0 and found(usual) == 1


@pytest.mark.parametrize("loud", [0, -0.5])
def test_a_background_that_is_no_louder_stays_as_it_is(loud):
    usual = fit_usual_scores(good_maps(200, loud))
    assert usual.min() == 0 and usual.max() < 0.03


def test_one_odd_part_is_not_usual():
    maps = good_maps(100)
    maps[0, 2:4, 2:4] += 3
    assert fit_usual_scores(maps).max() < 0.1


def test_the_middle_is_what_lies_a_quarter_of_each_side_from_the_border():
    x = np.abs(np.arange(120, dtype=np.float32) - 59.5) / 59.5
    usual = fit_usual_scores(np.tile(x, (3, 40, 1)))
    border = cv2.GaussianBlur(np.tile(x, (40, 1)).astype(float), (0, 0), 0.05 * 40, borderType=cv2.BORDER_REFLECT)
    assert usual[0, 0] == pytest.approx(border[0, 0] - 15 / 59.5, abs=1e-6)  # the middle of 30 to 90 lies 15 away
    assert usual[0, 45] == 0 < usual[0, 44]


@pytest.mark.parametrize(("groups", "count"), [(range(19), 0), (range(20), 20), ([0] * 500, 0), (range(500), 120)])
def test_too_few_groups_say_nothing_and_many_images_are_thinned(groups, count):
    assert len(look_at(groups, 3)) == count


@pytest.fixture
def by_place(model_copy):
    """A model as 0.1.0 made it, with what is usual at each place of its 20 x 20 patches beside its graph."""
    manifest = Artifact.load(model_copy).manifest
    usual = np.random.default_rng(2).normal(0, 0.1, (20, 20)).astype(np.float32)
    np.save(model_copy / "usual_scores.npy", usual)
    changes = {"head": manifest.head.model_copy(update={"by_place": True})}
    arrays = {**manifest.arrays, "usual_scores": "usual_scores.npy"}
    write_manifest(model_copy, manifest.model_copy(update={**changes, "arrays": arrays}))
    return model_copy


def test_the_map_of_an_earlier_model_is_less_what_is_usual(by_place, line_data):
    path = line_data / "test" / "good" / "000.jpg"
    image, artifact = load_image(path), Artifact.load(by_place)
    everywhere = artifact.manifest.head.model_copy(update={"by_place": False})
    plain = Artifact(by_place, artifact.manifest.model_copy(update={"head": everywhere}))
    with Detector(plain) as before, Detector(artifact) as after:
        difference = before.measure(image).anomaly_map - after.measure(image).anomaly_map
    expected = cv2.resize(artifact.array("usual_scores"), (160, 160), interpolation=cv2.INTER_LINEAR)
    expected = cv2.GaussianBlur(expected, (33, 33), 4.0, borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(difference, expected, atol=1e-4)
    from edgead.export.verify import compare_with_torch

    assert compare_with_torch(artifact, [path]).passed


@pytest.mark.parametrize("usual", [np.zeros((3, 3), np.float32), np.zeros((20, 20)), np.full((20, 20), np.nan, "f4")])
def test_usual_scores_that_do_not_fit_are_refused(by_place, usual):
    manifest = Artifact.load(by_place).manifest
    np.save(by_place / "usual_scores.npy", usual)
    write_manifest(by_place, manifest)
    with pytest.raises(ArtifactError, match="train the model again"):
        Detector.load(by_place)


def test_missing_usual_scores_are_reported(by_place):
    (by_place / "usual_scores.npy").unlink()
    edit_manifest(by_place, lambda content: content["files"].pop("usual_scores.npy"))
    with pytest.raises(ArtifactError, match="usual_scores.npy"):
        Detector.load(by_place)
