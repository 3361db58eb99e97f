"""Limits that were made or set after the training: what a lesson does to them, graph by graph, and the way back."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import edit_manifest
from test_cli import edgead

from edgead import Detector
from edgead.adapt.kept_images import kept_images, made_from_kept
from edgead.adapt.recalibrate import AskedRates, recalibrate, thresholds_by_hand, write_thresholds
from edgead.adapt.teach import LessonRefusedError, TeachPlan, teach
from edgead.adapt.teach.run import moved
from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Calibration
from edgead.calibration.conformal import calibrate
from edgead.images.files import write_image
from edgead.synthetic.line import part_seed, render

LAMP = "a new lamp"
PREPARE = import_module("edgead.adapt.teach.prepare")  # its package has a function of that name


@pytest.fixture(scope="session")
def under_lamp(tmp_path_factory) -> list[Path]:
    """Good parts under another light, of which the model rejects most as it was trained."""
    folder = tmp_path_factory.mktemp("lamp")
    for number in range(24):
        image = render(part_seed(91, number))[0]
        write_image(folder / f"{number:02d}.png", cv2.convertScaleAbs(image, alpha=1.25, beta=12))
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def as_trained(tmp_path_factory) -> list[Path]:
    """Good parts as those of the training."""
    folder = tmp_path_factory.mktemp("same")
    for number in range(24):
        write_image(folder / f"{number:02d}.png", render(part_seed(92, number))[0])
    return sorted(folder.iterdir())


def limits_of(model: Path, precision: str = "fp32") -> Calibration:
    found = Artifact.load(model).graph(precision).calibration
    assert found is not None
    return found


def calibrated(model: Path, images: list[Path], *, precision: str = "fp32", kept: bool = True) -> Calibration:
    """Calibrate a graph; a calibration that was not `kept` is one of an earlier edgead."""
    with Detector.load(model, precision=precision) as detector:
        found = recalibrate(detector, images, AskedRates(0.1, accept_outliers=True))
        write_thresholds(detector.artifact, found.change, found.calibration, reason=LAMP, found=found if kept else None)
    return limits_of(model, precision)


def rejected(model: Path, images: list[Path]) -> int:
    with Detector.load(model) as detector:
        return sum(detector.predict(path).decision == "reject" for path in images)


def passing(model: Path, images: list[Path]) -> list[Path]:
    with Detector.load(model) as detector:
        return [path for path in images if detector.predict(path).decision == "ok"]


@pytest.fixture
def no_rows(monkeypatch) -> None:
    """What is taught lies near what the model knows: the small bank of these tests would take rows of any part."""
    monkeypatch.setattr(PREPARE, "_harmless", lambda manifest: 1e9)


@pytest.mark.parametrize("kept", [True, False])
def test_a_part_that_is_ok_already_leaves_a_calibration_as_it_is(model_copy, under_lamp, no_rows, kept):
    images, others = under_lamp[:20], under_lamp[20:]
    trained = limits_of(model_copy)
    assert rejected(model_copy, under_lamp) > 12
    limits = calibrated(model_copy, images, kept=kept)
    assert limits.reject > 1.05 * trained.reject and rejected(model_copy, others) <= 1
    lesson = teach(model_copy, TeachPlan(passing(model_copy, others)[:1], held_out_share=0))
    assert lesson.rows_added == 0
    assert limits_of(model_copy) == limits
    assert [change.verb for change in Artifact.load(model_copy).manifest.threshold_changes] == ["calibrate"]
    kept_now = Artifact.load(model_copy).manifest.kept
    assert (len(kept_now), {one.fold for one in kept_now}) == (20, {None}) if kept else len(kept_now) == 60


def test_a_limit_that_was_made_lower_is_not_raised_by_a_lesson(model_copy, as_trained):
    trained = limits_of(model_copy)
    with Detector.load(model_copy) as detector:
        scores = {path: detector.measure(detector.read_image(path)).image_score for path in as_trained}
    lowest = sorted(as_trained, key=lambda path: scores[path])
    limits = calibrated(model_copy, lowest[:12])
    assert limits.reject < 0.97 * trained.reject
    teach(model_copy, TeachPlan(lowest[12:13], held_out_share=0))
    assert limits_of(model_copy).reject == pytest.approx(limits.reject, rel=0.01)


@pytest.mark.slow
def test_a_lesson_makes_the_limits_from_the_images_of_the_calibration(model_copy, under_lamp):
    first = set(kept_images(Artifact.load(model_copy)))
    before = calibrated(model_copy, under_lamp[:16])
    artifact = Artifact.load(model_copy)
    kept = kept_images(artifact)
    assert len(kept) == 16 and all(path.is_file() for path in kept) and not any(path.exists() for path in first)
    assert [one.image_score for one in artifact.manifest.kept] == before.scores
    lesson = teach(model_copy, TeachPlan(under_lamp[16:], held_out_share=0, reason=LAMP))
    assert lesson.rows_added > 0
    after = limits_of(model_copy)
    assert after.method == "split_conformal" and len(after.scores) == 16 and after.reject < before.reject
    change = Artifact.load(model_copy).manifest.threshold_changes[-1]
    assert (change.verb, change.images) == ("teach", 16)
    calibrated(model_copy, under_lamp[:16])  # again: its files take the place of the lesson's
    assert len(list((model_copy / "calibration").iterdir())) == 16


def by_hand(model: Path) -> Calibration:
    """Set limits by hand, a little below those of the training."""
    artifact, trained = Artifact.load(model), limits_of(model)
    given = {"reject": 0.99 * trained.reject, "review": 0.95 * trained.review}
    change, limits = thresholds_by_hand(artifact, None, **given)
    write_thresholds(artifact, change, limits)
    return limits


def test_limits_by_hand_stay_where_no_score_moves(model_copy, as_trained, no_rows):
    limits = by_hand(model_copy)
    teach(model_copy, TeachPlan(passing(model_copy, as_trained)[:1], held_out_share=0))
    assert limits_of(model_copy) == limits


def test_limits_by_hand_follow_the_good_scores(model_copy, under_lamp):
    limits = by_hand(model_copy)
    teach(model_copy, TeachPlan(under_lamp[1:12], held_out_share=0, reason=LAMP))
    now = limits_of(model_copy)
    by = now.scores[0] - limits.scores[0]
    assert now.method == "by_hand" and by != 0
    assert now.reject == pytest.approx(limits.reject + by, abs=0.02 * limits.reject)  # or what a taught part needs


@pytest.mark.slow
def test_defects_are_taught_beside_limits_by_hand(model_copy, tmp_path):
    by_hand(model_copy)
    bad = [tmp_path / "scratch" / f"{number}.png" for number in range(4)]
    for number, path in enumerate(bad):
        write_image(path, render(part_seed(71, number), "scratch")[0])
    lesson = teach(model_copy, TeachPlan([], bad=bad, reason=LAMP))
    assert lesson.after["fp32"].bad.images == 4 and limits_of(model_copy).method == "by_hand"


def test_limits_move_as_far_as_the_upper_half_of_other_good_scores():
    scores = np.linspace(1, 2, 20)
    limits = calibrate(scores, scores, scores, false_reject_rate=0.1)
    other = np.array([3.0, 1.0, 2.0, 4.0])
    now = moved(limits, other, other + [5.0, 7.0, 0.0, -1.0])  # the upper half: 3 and 4 become 8 and 8
    assert now.reject == pytest.approx(limits.reject + 4.5) and now.scores == pytest.approx(scores + 4.5)
    assert (now.method, limits.method) == ("by_hand", "split_conformal")


def test_each_graph_keeps_what_it_was_calibrated_for(model_copy, under_lamp):
    """Another graph than the one that was calibrated has its own images no more: its limits only follow."""
    edit_manifest(model_copy, lambda manifest: manifest["graphs"].update(fp16=manifest["graphs"]["fp32"]))
    trained, limits = limits_of(model_copy), calibrated(model_copy, under_lamp[:16], precision="fp16")
    manifest = Artifact.load(model_copy).manifest
    assert [made_from_kept(manifest, name) for name in ("fp32", "fp16")] == [False, True]
    exported_again = manifest.with_graph("fp16", calibration=trained)
    assert not made_from_kept(exported_again, "fp16")
    teach(model_copy, TeachPlan(under_lamp[16:], held_out_share=0, reason=LAMP))
    manifest = Artifact.load(model_copy).manifest
    methods = [manifest.graphs[name].calibration.method for name in ("fp32", "fp16")]
    assert methods == ["by_hand", "split_conformal"]
    assert limits_of(model_copy).reject < trained.reject < limits_of(model_copy, "fp16").reject <= limits.reject
    assert [made_from_kept(manifest, name) for name in ("fp32", "fp16")] == [False, True]
    calibrated(model_copy, under_lamp[:16])
    calibrated(model_copy, under_lamp[:16], precision="fp16")
    manifest = Artifact.load(model_copy).manifest
    assert all(made_from_kept(manifest, name) for name in ("fp32", "fp16"))
    calibrated(model_copy, under_lamp[:15])
    manifest = Artifact.load(model_copy).manifest
    assert [made_from_kept(manifest, name) for name in ("fp32", "fp16")] == [True, False]


def test_a_limit_that_may_be_blind_needs_a_reason_and_one_that_stays_needs_none(model_copy, under_lamp, monkeypatch):
    limits = calibrated(model_copy, under_lamp[:16])
    plan = TeachPlan(passing(model_copy, under_lamp[16:]), held_out_share=0)
    monkeypatch.setattr("edgead.adapt.teach.run.doubts", lambda *_: ["it would rise"])
    with pytest.raises(LessonRefusedError, match="it would rise"):
        teach(model_copy, plan)
    assert limits_of(model_copy) == limits
    monkeypatch.setattr(PREPARE, "_harmless", lambda manifest: 1e9)
    teach(model_copy, plan)
    assert limits_of(model_copy) == limits


def test_a_calibration_that_cannot_be_written_leaves_the_model_as_it_was(model_copy, under_lamp, monkeypatch):
    def files() -> list[Path]:
        return sorted(model_copy.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    before = files()
    monkeypatch.setattr("edgead.adapt.recalibrate.write_manifest", full)
    with pytest.raises(OSError, match="no space"):
        calibrated(model_copy, under_lamp[:16])
    assert files() == before
    Artifact.load(model_copy)


@pytest.mark.slow
def test_the_way_back_says_which_calibration_it_undoes(model_copy, under_lamp):
    teach(model_copy, TeachPlan(under_lamp[:2], held_out_share=0, reason=LAMP))
    assert "calibrate" not in edgead("teach", model_copy, "--undo").stderr
    teach(model_copy, TeachPlan(under_lamp[:2], held_out_share=0, reason=LAMP))
    artifact = Artifact.load(model_copy)
    write_thresholds(artifact, *thresholds_by_hand(artifact, None, reject=0.9 * limits_of(model_copy).reject))
    said = edgead("teach", model_copy, "--undo").stderr
    assert "limits of before the lesson" in said and "edgead calibrate" in said
