"""The estimator: scikit-learn's own checks that apply to images, and what its tools do with it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="SCIKIT-LEARN NOT TESTED")
pytest.importorskip("torch", reason="training needs the workstation's packages")
from sklearn.base import clone, is_outlier_detector  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

import edgead  # noqa: E402
from edgead.adapt.methods.method import Method  # noqa: E402
from edgead.api.estimator import AnomalyDetector  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import ImageError, write_image  # noqa: E402

# scikit-learn runs its checks on estimators for tables alone: these are those that have nothing to do with tables,
CHECKS = [
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimators_unfitted",
]
# and these are those that have, with each row made an image.
CHECKS_OF_ROWS = [
    "check_fit_score_takes_y",
    "check_estimators_overwrite_params",
    "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self",
    "check_estimators_pickle",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_requires_y_none",
    "check_pipeline_consistency",
    "check_fit_check_is_fitted",
]


class RowsAsImages(AnomalyDetector):
    """Takes the tables of scikit-learn's checks."""

    def fit(self, X, y=None):
        return super().fit(self._images(X))

    def score_samples(self, X):
        return super().score_samples(self._images(X))

    def _images(self, X):
        rows = np.clip(128 + 20 * np.asarray(X, float), 0, 255).astype(np.uint8)
        return np.stack([np.resize(row, (8, 8, 1)).repeat(3, axis=2) for row in rows])


@pytest.fixture(autouse=True)
def plugin(monkeypatch):
    """A method that is trained at once."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugin"))


@pytest.fixture(scope="module")
def images(line_data) -> np.ndarray:
    return np.stack([edgead.load_image(path) for path in sorted((line_data / "train" / "good").iterdir())[:24]])


@pytest.fixture
def white(images) -> np.ndarray:
    return np.full_like(images[:2], 255)


def dummy(**changes) -> AnomalyDetector:
    return AnomalyDetector(detector="dummy", false_reject_rate=0.2, **changes)


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_sklearn(name):
    getattr(estimator_checks, name)("AnomalyDetector", AnomalyDetector())


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS_OF_ROWS)
def test_checks_of_sklearn_with_rows_as_images(name):
    check = getattr(estimator_checks, name)
    check("RowsAsImages", RowsAsImages(detector="dummy", false_reject_rate=0.3, options={"group": "none"}))


def test_it_learns_in_fp32_and_tries_no_int8(images, monkeypatch):
    asked, choose = [], Method.choose_precision
    monkeypatch.setattr(
        Method,
        "choose_precision",
        lambda self, precision, *rest, **some: asked.append(precision) or choose(self, precision, *rest, **some),
    )
    assert dummy().fit(images).model_.info()["precisions"] == asked == ["fp32"]


def test_it_is_an_outlier_detector():
    assert is_outlier_detector(AnomalyDetector())


def test_good_images_are_1_and_anomalous_ones_are_minus_1(images, white):
    estimator = dummy()
    with pytest.raises(NotFittedError):
        estimator.predict(white)
    before = estimator.get_params()
    assert estimator.fit(images) is estimator and estimator.get_params() == before
    assert estimator.predict(white).tolist() == [-1, -1]
    found = estimator.predict(images)
    assert found.dtype == np.int64 and set(found) <= {1, -1} and (found == 1).mean() > 0.7
    scores = estimator.score_samples(images)
    assert scores.shape == (24,) and scores.min() > estimator.score_samples(white).max()
    assert (estimator.decision_function(images) == scores - estimator.offset_).all()
    assert ((scores < estimator.offset_) == (found == -1)).all()
    model = Path(estimator.model_.artifact.path)
    copied = pickle.loads(pickle.dumps(estimator))
    unfitted = clone(estimator)
    del estimator
    assert not model.exists()  # the folder was its own
    assert (copied.score_samples(images) == scores).all()
    assert unfitted.get_params() == before and not hasattr(unfitted, "model_")


def test_files_in_a_pipeline_and_a_folder_of_ones_own(line_data, white, tmp_path):
    paths = [str(path) for path in sorted((line_data / "train" / "good").iterdir())[:24]]
    shutil.copy(line_data / "test" / "good" / "000.jpg", tmp_path / "000.jpg")
    pipeline = make_pipeline(dummy(model_dir=tmp_path / "model", options={"group": "none"}))
    assert pipeline.fit(paths).predict([*paths[:2], tmp_path / "000.jpg", *white]).tolist()[-2:] == [-1, -1]
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match="broken.jpg"):  # it is neither good nor anomalous
        pipeline.predict([tmp_path / "broken.jpg"])
    with edgead.load(tmp_path / "model") as model:
        assert -model.threshold == pipeline[-1].offset_
        assert model.manifest.training["groups"]["rule"] == "none"


def learnt(model) -> str:
    return (model.artifact.path / "learnt_images.txt").read_text()


def test_files_are_learnt_where_they_lie(line_data, tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="PIL NOT TESTED")
    good = tmp_path / "good"
    good.mkdir()
    for number in range(24):
        image = edgead.load_image(line_data / "train" / "good" / f"{number:03d}.jpg")
        taken = pillow.fromarray(image[:, :, ::-1])
        exif = taken.getexif()
        exif[0x0132] = f"2026:01:01 {8 + number // 2:02d}:00:{number % 2:02d}"  # parts were taken twice
        taken.save(good / f"{number:03d}.jpg", exif=exif, quality=95)
    with edgead.train(good, tmp_path / "model", detector="dummy", false_reject_rate=0.2) as expected:
        facts = expected.manifest.training
    assert "time" in facts["groups"]["account"] and facts["groups"]["groups"] == 12
    for given in (good, [str(path) for path in sorted(good.iterdir())]):
        estimator = dummy().fit(given)
        model = estimator.model_
        for name in ("data", "data_sha256", "groups", "training_images", "calibration_images"):
            assert model.manifest.training[name] == facts[name]
        assert learnt(model) == learnt(expected)
        with pytest.raises(SettingsError, match="has learnt from"):
            model.calibrate(good)


def test_files_of_the_same_name_and_arrays_are_all_learnt(images, tmp_path):
    given: list = list(images[:4])
    for number, image in enumerate(images[4:]):
        folder = tmp_path / (f"a_{number}" if number % 2 else f"a/{number - 1}_x")
        folder.mkdir(parents=True)
        write_image(folder / "1.png", image)
        given.append(folder / ".." / folder.name / "1.png")
    estimator = dummy().fit(iter(given))
    model = estimator.model_
    facts = model.manifest.training
    assert facts["training_images"] + facts["calibration_images"] == len(images)
    assert len(learnt(model).split()) == 2 * facts["training_images"]  # by file, and by pixels
    with pytest.raises(SettingsError, match="no images are given"):
        dummy().fit([])


def test_thresholds_that_are_made_again_are_those_that_judge(images, line_data):
    estimator = dummy(options={"group": "none"}).fit(images)
    before = estimator.offset_
    estimator.model_.calibrate(line_data / "test" / "good", false_reject_rate=0.2, accept_outliers=True, reason="x")
    assert estimator.offset_ == -estimator.model_.threshold != before


def test_a_single_image_is_refused_in_words(images):
    with pytest.raises(SettingsError, match="several images are needed"):
        dummy().fit(images[0])
    for empty in ("", [""]):
        with pytest.raises(SettingsError, match="a path is empty"):
            dummy().fit(empty)
    fitted = dummy().fit(images)
    with pytest.raises(SettingsError, match="is a single image: .* put it in a list"):
        fitted.predict(images[0])
