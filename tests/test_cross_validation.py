"""Thresholds from few images, each scored by a model that has not seen it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")

from edgead import Detector  # noqa: E402
from edgead.artifact.folder import Artifact, ArtifactError  # noqa: E402
from edgead.calibration.conformal import CalibrationError
from edgead.calibration.plan import plan_cross_validation  # noqa: E402
from edgead.dataset.images import Images  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.export.build import write_draft  # noqa: E402
from edgead.export.calibration_images import find_calibration_images  # noqa: E402
from edgead.images.files import load_image  # noqa: E402
from edgead.learning.teach import TeachPlan, teach  # noqa: E402
from edgead.methods.patchcore import PatchCore  # noqa: E402
from edgead.synthetic import write_dataset  # noqa: E402
from edgead.training.cross_validation import cross_validate  # noqa: E402
from edgead.training.from_folder import train_from_folder  # noqa: E402
from edgead.training.good_images import GoodImages  # noqa: E402

pytestmark = pytest.mark.slow

IMAGES = 12
SETTINGS = {"backbone": "efficientnet_lite0", "image_size": (96, 96), "memory_bank_size": 5000}


@pytest.fixture(scope="module")
def few(once):
    return once("few", lambda path: write_dataset(path, train_good=IMAGES, test_good=1, per_defect=1, seed=2))


@pytest.fixture(scope="module")
def model(few, once):
    good = GoodImages(few, false_reject_rate=0.1, folds=3)
    return Artifact.load(once("folds", lambda path: train_from_folder(good, path, SETTINGS)))


@pytest.mark.slow
def test_every_image_is_learnt_and_none_scored_by_what_has_seen_it(model, few):
    facts, limits = model.manifest.training, model.graph().calibration
    assert (facts["training_images"], facts["calibration_images"], facts["folds"]) == (IMAGES, 0, 3)
    assert limits.method == "cross_validated" and len(limits.scores) == IMAGES
    # The bank holds every patch of every image, so that what ships finds each of them in it.
    with Detector(model) as detector:
        seen = [detector.measure(load_image(path)).image_score for path in sorted((few / "train/good").iterdir())]
    assert max(seen) < 0.5 * min(limits.scores)


@pytest.mark.slow
def test_one_fold_is_what_a_training_on_the_others_says(model, few, tmp_path):
    fold_of = np.random.default_rng(0).permutation(IMAGES) % 3
    paths = sorted((few / "train/good").iterdir())
    others = [path for path, fold in zip(paths, fold_of, strict=True) if fold != 1]
    trained = PatchCore.from_settings(SETTINGS).fit(Images(others, model.manifest.preprocessing))
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
    with pytest.raises(SettingsError, match="cross validated"):
        teach(model.path, TeachPlan(sorted((few / "train/good").iterdir())))


@pytest.mark.parametrize(
    ("images", "folds", "asked", "rate"), [(12, 3, None, 0.1), (12, 12, 0.1, 0.1), (99, 5, None, 0.01)]
)
def test_plan(images, folds, asked, rate):
    assert plan_cross_validation(images, folds, asked, None) == rate


@pytest.mark.parametrize(
    ("images", "folds", "asked", "review", "reported"),
    [
        (12, 1, None, None, "2 to 12 folds"),
        (12, 13, None, None, "2 to 12 folds"),
        (3, 2, None, None, "at least 4 are needed"),
        (12, 3, 0.01, None, "at least 99 are needed"),
        (12, 3, 0.1, 0.05, "review rate"),
    ],
)
def test_plans_that_cannot_be(images, folds, asked, review, reported):
    with pytest.raises(CalibrationError, match=reported):
        plan_cross_validation(images, folds, asked, review)
