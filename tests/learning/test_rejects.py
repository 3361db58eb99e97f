"""Rejects among good parts are explained by their cause, and honest ones are left to chance."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgead.adapt.finalize import GoodScores
from edgead.adapt.recalibrate import AskedRates, recalibrate, write_thresholds
from edgead.artifact.graph import Graph
from edgead.artifact.manifest import Golden
from edgead.calibration.blind import BlindLimitError
from edgead.calibration.cause_of_rejects import Cause, cause_of
from edgead.calibration.two_sample import same_distribution_p_value
from edgead.cli.predict_files import predict_images
from edgead.dataset.folders import find_test_images
from edgead.detector import Detector
from edgead.images.files import write_image
from edgead.report.evaluate import evaluate
from edgead.report.findings import examine
from edgead.report.folder import evaluate_folder
from edgead.report.page import _DIFFERS, _VISIBLE, _drift
from edgead.synthetic.line import part_seed, render

USUAL, SPREAD = 0.75, 0.04


def drawn(seed: int, count: int = 40, shifted: float = 0.0) -> list[float]:
    return [float(score) for score in np.random.default_rng(seed).normal(USUAL + SPREAD * shifted, SPREAD, count)]


def limits_of(seed: int, count: int = 60, rate: float = 0.05) -> Graph:
    learnt = drawn(1000 + seed, count)
    calibration = GoodScores(learnt, learnt, [0.3] * count).calibrate(rate, None)
    return Graph(
        "fp32", Path("model.onnx"), calibration, [Golden(image="golden/0.png", anomaly_map="", image_score=1)], 0
    )


def cause(scores: list[float], seed: int = 0, names: list[str] | None = None, **options) -> Cause | None:
    names = names or [f"{number:03d}.png" for number in range(len(scores))]
    return cause_of(names, scores, limits_of(seed), Path("a model"), **options)


def kinds(shifted: float, share: float = 1.0, count: int = 40) -> list[str | None]:
    """Causes in 40 draws of parts, of which a share is shifted."""
    apart = round(share * count)
    found = [cause([*drawn(seed, count - apart), *drawn(99 + seed, apart, shifted)], seed) for seed in range(40)]
    return [one and one.kind for one in found]


@pytest.mark.parametrize("count", [12, 40, 120])
def test_chance_has_no_cause(count):
    assert sum(kind is not None for kind in kinds(0, count=count)) <= 1


def test_a_shift_of_all_scores_is_calibrated_and_never_a_part_of_them():
    assert kinds(2).count("shift") >= 38
    assert kinds(6, share=0.5).count("unlearnt") >= 38 and kinds(6, share=0.5).count("shift") <= 1
    assert kinds(6, share=0.3, count=60).count("unlearnt") >= 39
    said = cause(drawn(3, shifted=1)).said
    assert "All scores are higher" in said and "`edgead calibrate 'a model' GOOD_IMAGES --bad DEFECTS`" in said
    said = cause(drawn(3, shifted=2)).said  # of which calibrate refuses to make a limit
    assert re.search(r"higher than at the training, and \d+ of 40 good parts are rejected", said)
    assert "`edgead teach 'a model' GOOD_IMAGES --bad DEFECTS`" in said and "calibrate" not in said


def test_a_half_that_is_apart_is_to_be_taught():
    found = cause([*drawn(0, 12), *drawn(1, 12, 8)])
    assert "12 of 24 good parts score as those that were learnt, 12 (50 %) apart from them, 0" in found.said
    assert "`edgead teach 'a model' GOOD_IMAGES`" in found.said and "calibrate" not in found.said


def test_all_that_are_rejected_are_another_product_and_nothing_to_calibrate_on():
    found = cause(drawn(0, 24, 9))
    assert found.kind == "other" and found.said == (
        "All 24 good parts are rejected: another product, camera, light or model? "
        "Compare a model/golden/0.png with yours. Where yours are right, learn the same product in another light or "
        "grade, with defects like it as the test: `edgead teach 'a model' GOOD_IMAGES --bad DEFECTS`; another product, "
        "apart: `edgead train GOOD_IMAGES -o NEW_MODEL`."
    )
    assert cause([*drawn(0, 23, 9), USUAL]).said.startswith("23 of 24 good parts are rejected: another product")
    # Where images look otherwise as well, no limit shall be made from them.
    assert cause(drawn(0, 40, 2), unlike=True).kind == "other" and cause(drawn(0, 40, 2)).kind == "shift"
    unknown = cause(drawn(0, 24, 9), known_good=False).said
    assert unknown.startswith("All 24 images are rejected: if some of them are good, another product")
    assert cause([*drawn(0, 12), *drawn(1, 12, 8)], known_good=False) is None


def test_one_of_several_products_is_learnt_apart_and_nothing_to_calibrate_on():
    found = cause(drawn(3, shifted=2), of_several=True)
    assert found.kind == "other" and "one limit for several products" in found.said
    assert "`edgead train GOOD_IMAGES -o NEW_MODEL`" in found.said and "edgead calibrate" not in found.said


@pytest.mark.parametrize(
    ("learnt", "strange", "words"),
    [
        ("G01_{}.png", ["G07_{}.png", "G09_{}.png"], "G07, G09"),
        ("a/{}.png", ["b/{}.png"], "b"),
        ("lot 1 red {}.png", ["lot 1 blue {}.png"], "blue"),
        ("A{}.png", ["B{}.png"], "B"),
        ("12100{:03d}_temp.png", ["20085{:03d}_temp.png"], "20085"),
    ],
)
def test_names_say_what_was_not_learnt(learnt, strange, words):
    names = [learnt.format(number) for number in range(24)]
    names += [strange[number % len(strange)].format(number) for number in range(24)]
    found = cause([*drawn(0, 24), *drawn(1, 24, 8)], names=names)
    assert re.match(rf"24 of 2[45] rejected good parts are of {words} \(by their names\)", found.said)
    assert found.kind == "unlearnt" and "edgead teach" in found.said


def test_names_that_have_nothing_to_do_with_it_are_not_blamed():
    names = [f"G0{1 + number % 4}_{number}.png" for number in range(48)]
    assert "names" not in cause([*drawn(0, 24), *drawn(1, 24, 8)], names=names).said


def test_images_of_one_part_count_once():
    """Ten images of one part that is rejected are one reject of thirty-one parts."""
    scores, groups = [*drawn(0, 30), *drawn(1, 10, 8)], [*range(30), *[30] * 10]
    assert cause(scores) is not None and cause(scores, groups=groups) is None


def grade(image: np.ndarray, number: int) -> np.ndarray:
    """The part with a bar printed on it, which the model has not learnt."""
    marked = image.copy()
    marked[200:240, 180 + number : 300 + number] = 40
    return marked


@pytest.fixture(scope="module")
def parts() -> list[np.ndarray]:
    """Good parts that no model has seen."""
    return [render(part_seed(91, number))[0] for number in range(24)]


def written(folder: Path, images: dict[str, np.ndarray]) -> Path:
    for name, image in images.items():
        write_image(folder / name, image)
    return folder


def half_and_half(parts: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{number:03d}.png": grade(one, number) if number % 2 else one for number, one in enumerate(parts)}


@pytest.mark.slow
def test_eval_names_the_grade_that_was_not_learnt(trained_model, line_data, parts, tmp_path):
    named = {f"G0{7 if int(name[:3]) % 2 else 1}_{name}": one for name, one in half_and_half(parts).items()}
    written(tmp_path / "test" / "good", named)
    written(tmp_path / "test" / "bar", {"0.png": grade(parts[0], 0)})
    with Detector.load(trained_model) as detector:
        found = evaluate_folder(detector, tmp_path, "none", lambda *_: None)
    assert re.match(r"12 of 1[2-4] rejected good parts are of G07 \(by their names\)", found.advice)
    assert found.to_dict()["advice"] == found.advice and found.advice in repr(found)


@pytest.mark.slow
def test_half_that_was_not_learnt_makes_no_limit_without_a_reason(model_copy, parts, tmp_path):
    folder = written(tmp_path / "good", half_and_half(parts))
    with Detector.load(model_copy) as detector:
        found = recalibrate(detector, sorted(folder.iterdir()), AskedRates(0.1))
        with pytest.raises(BlindLimitError, match=r"score as those that were learnt, 1[2-4] \(5\d %\) apart"):
            write_thresholds(detector.artifact, found.change, found.calibration, found=found)
        write_thresholds(detector.artifact, found.change, found.calibration, found=found, reason="both are ours")


@pytest.mark.slow
def test_another_light_is_no_heap_apart(model_copy, parts, tmp_path):
    """It may raise the limit so far that a reason is needed; but no part of it lies apart."""
    with Detector.load(model_copy) as detector:
        for factor, more in ((1.15, 8.0), (1.08, 4.0)):
            lit = {f"{n}.png": np.clip(one * factor + more, 0, 255).astype(np.uint8) for n, one in enumerate(parts)}
            folder = written(tmp_path / f"{factor}", lit)
            found = recalibrate(detector, sorted(folder.iterdir()), AskedRates(0.1))
            assert found.rejected_before.count > 2 and not any("apart" in doubt for doubt in found.change.doubts)
        assert re.match(r"it rises to 1\d\d, where 100 was the limit", *found.change.doubts)


@pytest.mark.slow
def test_a_folder_of_another_product_is_one_warning_with_a_golden_image(trained_model, parts, tmp_path):
    """And no warning of the colours of one image: one of twelve is blue."""
    noise = np.random.default_rng(0).integers(0, 255, (12, 480, 480, 3), np.uint8)
    noise[3] = parts[0][..., ::-1] // 2
    other = written(tmp_path / "other", {f"{number}.png": one for number, one in enumerate(noise)})
    with Detector.load(trained_model) as detector:
        warnings = predict_images(detector, sorted(other.iterdir()))[1]
        assert warnings[0].startswith("All 12 images are rejected: if some of them are good, another product")
        assert f"{trained_model}/golden/" in warnings[0] and len(warnings) == 1
        good = written(tmp_path / "good", {f"{number}.png": one for number, one in enumerate(parts[:6])})
        assert predict_images(detector, sorted(good.iterdir()))[1] == []


@pytest.mark.slow
def test_the_report_never_says_that_there_is_no_difference(trained_model, line_data):
    """It says "differ", "may differ", or what so few parts can tell."""
    with Detector.load(trained_model) as detector:
        examined = examine(detector, evaluate(detector, find_test_images(line_data)))
    few = replace(examined, same_scores_p_value=0.34, compared=(60, 48))
    assert _drift(few)["said"] == (
        "Too few to tell (p = 0.34): 48 parts beside 60 of the calibration show a shift of 0.58 interquartile ranges, "
        "and seldom a smaller one."
    )
    assert _drift(replace(examined, same_scores_p_value=0.0135))["said"].startswith(
        "The scores may differ (p = 0.0135)"
    )
    assert _drift(replace(examined, same_scores_p_value=0.002))["said"].startswith("The scores differ (p = 0.002)")
    advised = replace(few, evaluation=replace(examined.evaluation, advice="Look at them."))
    assert re.fullmatch(r"The scores differ \(p = 0.34\): .* ranges \w+\. Look at them\.", _drift(advised)["said"])


def test_the_shift_that_so_few_parts_can_tell_is_found():
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shifted = rng.normal(size=48) + _VISIBLE * np.sqrt(1 / 60 + 1 / 48) * 1.349
        found.append(same_distribution_p_value(rng.normal(size=60), shifted, permutations=199) < _DIFFERS)
    assert np.mean(found) > 0.7
