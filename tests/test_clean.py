"""Images that are not learnt as they stand out: when, how many, and that thresholds keep theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import run_here

from edgead.errors import SettingsError
from edgead.images.files import load_image, write_image
from edgead.unlabelled.screening import clean
from edgead.unlabelled.screening.clean import clean_warnings, stand_out, suspicious_images


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("size", [20, 60, 200])
def test_of_scores_without_an_outlier_few_stand_out(rng, size):
    sets = [rng.lognormal(0, 0.3, size) for _ in range(400)]
    assert np.mean([len(stand_out(scores)) for scores in sets]) / size < 0.01


def test_outliers_stand_out_the_highest_first(rng):
    scores = rng.lognormal(0, 0.1, 60)
    scores[[7, 30, 31]] = 2.5, 9, 4
    assert stand_out(scores) == [30, 31, 7]
    assert stand_out(scores * 1000) == [30, 31, 7]


def test_no_more_than_a_quarter_is_an_exception(rng):
    scores = rng.lognormal(0, 0.1, 40)
    scores[:16] *= 20
    assert len(stand_out(scores)) == 10


def test_scores_that_are_all_the_same_do_not_stand_out():
    assert stand_out(np.ones(30)) == []
    assert stand_out(np.zeros(30)) == []


def test_few_parts_are_all_learnt():
    paths = [Path(f"{number}.png") for number in range(98)]  # are not even read
    assert suspicious_images(paths, [number // 2 for number in range(98)]) == []


def test_what_is_not_learnt_is_named(monkeypatch):
    monkeypatch.setattr(clean, "MutualScorer", lambda *given: lambda *piles: (np.r_[np.linspace(1, 1.2, 59), 5], None))
    paths = [Path(f"{number}.png") for number in range(60)]
    assert suspicious_images(paths, range(60)) == paths[-1:]
    (warning,) = clean_warnings(paths[:9])
    assert "9 images stand out" in warning and "7.png, ..." in warning and "8.png" not in warning
    assert clean_warnings([]) == []


def test_folds_hold_nothing_out_to_keep():
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.workstation.training.good_images import GoodImages

    with pytest.raises(SettingsError, match="give one of them"):
        GoodImages(Path(), clean=True, folds=5)


@pytest.mark.slow
def test_a_defect_among_good_parts_is_not_learnt(line_data, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    monkeypatch.setattr(clean, "ENOUGH_PARTS", 10)
    good = tmp_path / "good"
    shutil.copytree(line_data / "train" / "good", good)
    image = load_image(next(good.iterdir()))
    image[20:80, 20:80] = np.random.default_rng(0).integers(0, 256, (60, 60, 3))
    write_image(good / "defect.png", image)
    given = ["train", good, "--preset", "fast", "--image-size", "96", "--group", "none", "--false-reject-rate", "0.2"]
    done = run_here(*given, "--clean", "-o", tmp_path / "model", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "defect.png" in report["not_learnt"]
    count = len(list(good.iterdir()))
    assert report["training_images"] + len(report["not_learnt"]) == report["calibration_images"] == count
    assert "stand out as defects do" in done.stderr.replace("\n", " ")
