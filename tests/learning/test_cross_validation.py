"""Cross-validated thresholds of detectors that train a network: each image is scored by one that has not seen it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")

from edgead.export.calibration_images import find_calibration_images  # noqa: E402

from edgead import Detector  # noqa: E402
from edgead.adapt.build import write_draft  # noqa: E402
from edgead.adapt.training.from_folder import cross_validate, train_from_folder
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.artifact.folder import Artifact, ArtifactError  # noqa: E402
from edgead.dataset.images import Images  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image  # noqa: E402
from edgead.synthetic import write_dataset  # noqa: E402
from edgead.workstation.methods.mvg.detector import Mvg  # noqa: E402

pytestmark = pytest.mark.slow

IMAGES = 12
SETTINGS = {"backbone": "efficientnet_lite0", "image_size": (96, 96)}


@pytest.fixture(scope="module")
def few(once):
    return once("few", lambda path: write_dataset(path, train_good=IMAGES, test_good=1, per_defect=1, seed=2))


@pytest.fixture(scope="module")
def model(few, once):
    good = GoodImages(few, false_reject_rate=0.1, folds=3)
    return Artifact.load(once("folds", lambda path: train_from_folder(good, path, SETTINGS, detector="mvg")))


@pytest.mark.slow
def test_every_image_is_learnt_and_every_one_calibrates(model):
    facts, limits = model.manifest.training, model.graph().calibration
    assert (facts["training_images"], facts["calibration_images"], facts["folds"]) == (IMAGES, IMAGES, 3)
    assert limits.method == "cross_validated" and len(limits.scores) == IMAGES and model.manifest.kept == []


@pytest.mark.slow
def test_one_fold_is_what_a_training_on_the_others_says(model, few, tmp_path):
    fold_of = np.random.default_rng(0).permutation(IMAGES) % 3
    paths = sorted((few / "train/good").iterdir())
    others = [path for path, fold in zip(paths, fold_of, strict=True) if fold != 1]
    trained = Mvg.from_settings(SETTINGS).fit(Images(others, model.manifest.preprocessing))
    with Detector(Artifact(tmp_path, write_draft(trained, tmp_path))) as detector:
        for index in np.flatnonzero(fold_of == 1):
            score = detector.measure(load_image(paths[index])).image_score
            assert np.isclose(model.graph().calibration.scores, score, rtol=1e-5).any()


def test_whole_groups_are_dealt_to_the_folds(few, monkeypatch):
    paths = sorted((few / "train/good").iterdir())
    groups, learnt = [i // 3 for i in range(IMAGES)], []

    class Stop(Exception):
        pass

    def learn(seen):
        learnt.append(seen)
        raise Stop

    with pytest.raises(Stop):
        cross_validate(learn, paths, 2, groups=groups, preprocessing=None)
    of = dict(zip(paths, groups, strict=True))
    kept = [path for path in paths if path not in learnt[0]]
    assert len(kept) == 6 and {of[path] for path in kept}.isdisjoint(of[path] for path in learnt[0])


def test_other_thresholds_need_images_that_it_has_not_seen(model, few, line_data):
    with pytest.raises(ArtifactError, match="give good images that it has not seen"):
        find_calibration_images(model, few)
    assert find_calibration_images(model, line_data).source == "other images"


def test_a_detector_that_leaves_images_out_needs_no_further_trainings(few, tmp_path):
    with pytest.raises(SettingsError, match="patchcore scores each image by what it has learnt from the others"):
        train_from_folder(GoodImages(few, folds=3), tmp_path / "model", SETTINGS)
    assert not (tmp_path / "model").exists()
