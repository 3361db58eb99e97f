"""`edgead calibrate`: new thresholds on real images, what it refuses, and what the model remembers of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from terminal import COMMAND, at_a_terminal
from test_imports import REFUSE

from edgead.adapt.recalibrate import AskedRates, recalibrate, thresholds_by_hand, write_thresholds
from edgead.api.model import Model
from edgead.artifact.folder import Artifact, write_manifest
from edgead.artifact.manifest import SCHEMA_VERSION
from edgead.artifact.training_hashes import content_sha256
from edgead.calibration.blind import BlindLimitError
from edgead.calibration.conformal import MARGIN, conformal_threshold
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image, write_image
from edgead.synthetic.line import part_seed, render
from edgead.types import scaled_score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """Forty good parts that no model has seen."""
    folder = tmp_path_factory.mktemp("good")
    for index in range(40):
        write_image(folder / f"{index}.png", render(part_seed(91, index))[0])
    return folder


def edgead(*arguments: object, code: int = 0) -> str:
    """Run the command as a device has it: without torch, onnx, scipy and scikit-learn."""
    program = REFUSE + "from edgead.cli import main\nmain()"
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    return result.stdout if code == 0 else result.stderr


def test_the_new_threshold_is_that_of_the_images(model_copy, good):
    before = Artifact.load(model_copy).manifest
    report = json.loads(edgead("calibrate", model_copy, good, "--false-reject-rate", "0.1", "--json"))
    with Detector.load(model_copy) as detector:
        scores = [detector.measure(load_image(path)).image_score for path in sorted(good.iterdir())]
        decisions = [detector.predict(load_image(path)).decision for path in sorted(good.iterdir())]
    expected = conformal_threshold(scores, 0.1) * (1 + MARGIN)
    after = Artifact.load(model_copy).manifest
    assert after.graphs["fp32"].calibration.reject == report["after"]["reject"] == pytest.approx(expected, rel=1e-6)
    assert after.graphs["fp32"].calibration.scores == pytest.approx(sorted(scores), rel=1e-6)
    # Rank ceil(41 x 0.9) = 37 of 40: three good parts are above, but for the margin.
    assert decisions.count("reject") == sum(score > expected for score in scores) in (2, 3)
    assert after.schema_version == SCHEMA_VERSION
    (change,) = after.threshold_changes
    assert (change.precision, change.images) == ("fp32", 40)
    assert change.before.reject == before.graphs["fp32"].calibration.reject
    assert change.after.false_reject_rate == 0.1
    assert len(change.images_sha256) == 64
    assert 0 < change.same_scores_p_value <= 1
    # The images that the limits are of now take the place of those of the training.
    others = [{name for name in one.files if not name.startswith("calibration/")} for one in (before, after)]
    assert others[0] == others[1] and {one.image for one in after.kept} <= set(after.files) and len(after.kept) == 40


def test_what_was_learnt_makes_no_thresholds(model_copy, line_data, good):
    learnt = sorted((line_data / "train" / "good").iterdir())
    mixed = [shutil.copy(path, good.parent) for path in learnt[:5]]
    content = (model_copy / "manifest.json").read_bytes()
    assert "has learnt from" in edgead("calibrate", model_copy, learnt[0].parent, code=2)
    with Detector.load(model_copy) as detector, pytest.raises(SettingsError, match="of 45 images, .*has not seen"):
        recalibrate(detector, [*sorted(good.iterdir()), *map(Path, mixed)], AskedRates())
    assert (model_copy / "manifest.json").read_bytes() == content


def test_the_limits_of_before_come_back_by_the_command_that_is_named(model_copy, good):
    before = Artifact.load(model_copy).learnt_graph.calibration
    said = edgead("calibrate", model_copy, good, "--false-reject-rate", "0.1")
    undo = next(line for line in said.splitlines() if "brings the limits of before back" in line)
    edgead(*shlex.split(undo.partition("#")[0])[1:])
    assert Artifact.load(model_copy).learnt_graph.calibration.values() == before.values()


def test_every_change_is_kept(model_copy, good):
    edgead("calibrate", model_copy, "--reject", "2.5", "--review", "0.25", "--yes", "--reason", "as asked")
    edgead("calibrate", model_copy, good, "--false-reject-rate", "0.1", "--review-rate", "0.2")
    first, second = Artifact.load(model_copy).manifest.threshold_changes
    assert (first.after.method, first.after.reject, first.after.review, first.images) == ("by_hand", 2.5, 0.25, 0)
    assert second.before == first.after and (first.reason, second.reason) == ("as asked", "")
    assert second.after.method == "split_conformal"
    assert first.changed_at < second.changed_at


def test_a_limit_that_rises_much_needs_defects_that_have_tested_it_or_a_reason(model_copy, good, tmp_path, monkeypatch):
    paths, bad = sorted(good.iterdir()), [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(bad):
        write_image(path, np.random.default_rng(number).integers(0, 256, (480, 480, 3), np.uint8))
    with Detector.load(model_copy) as detector:
        assert recalibrate(detector, paths, AskedRates(0.1)).change.doubts == []  # it rises little
        monkeypatch.setattr("edgead.adapt.recalibrate.MAX_RISE", -1000)
        (doubt,) = recalibrate(detector, paths, AskedRates(), bad=bad[:2]).change.doubts
        assert re.match(r"it rises to -?\d+, where 100 was the limit, and defects .* Look at the \d+ images", doubt)
        assert recalibrate(detector, paths, AskedRates(0.025)).change.doubts == []  # as a person asks
        tested = recalibrate(detector, paths, AskedRates(), bad=bad)
    assert tested.change.doubts == [] and tested.to_dict()["bad_parts"] == {"count": 0, "total": 3}
    # Defects that were taught test nothing.
    artifact = Artifact.load(model_copy)
    training = {**artifact.manifest.training, "known_defects": [{"sha256": content_sha256(bad[0]), "kind": "noise"}]}
    write_manifest(artifact.path, artifact.manifest.model_copy(update={"training": training}))
    with Detector.load(model_copy) as detector:
        tested = recalibrate(detector, paths, AskedRates(), bad=bad)
    assert "defects that were not taught" in tested.change.doubts[0]
    assert "1 of 3 bad parts were taught to this model as known defects" in " ".join(tested.warnings())


def test_images_of_one_product_make_no_limit_for_several_unless_with_a_reason(model_copy, good, tmp_path):
    artifact = Artifact.load(model_copy)
    training = {**artifact.manifest.training, "two_products": "12 of 60 images look like another product"}
    write_manifest(artifact.path, artifact.manifest.model_copy(update={"training": training}))
    of_one = sorted(good.iterdir())
    with Detector.load(model_copy) as detector:
        (doubt,) = recalibrate(detector, of_one, AskedRates(0.1)).change.doubts
        assert "one limit for several products" in doubt
        for number, path in enumerate(of_one):
            write_image(tmp_path / "of_two" / f"{number % 2}" / path.name, load_image(path))
        assert recalibrate(detector, sorted((tmp_path / "of_two").rglob("*.png")), AskedRates(0.1)).change.doubts == []


def test_a_dry_run_changes_nothing(model_copy, good):
    content = (model_copy / "manifest.json").read_bytes()
    report = json.loads(edgead("calibrate", model_copy, good, "--false-reject-rate", "0.1", "--dry-run", "--json"))
    assert report["written"] is False
    assert (model_copy / "manifest.json").read_bytes() == content


def test_thresholds_by_hand_say_what_the_scores_say(model_copy):
    artifact = Artifact.load(model_copy)
    scores = artifact.graph("fp32").calibration.scores
    middle = scores[-10]
    change, calibration = thresholds_by_hand(artifact, None, reject=middle)
    # Nine scores are above the tenth from the end.
    assert calibration.false_reject_rate == calibration.review_rate == 10 / (len(scores) + 1)
    assert calibration.review == middle
    write_thresholds(artifact, change, calibration)
    with Detector.load(model_copy) as detector:
        assert detector.predict(np.zeros((100, 100, 3), np.uint8)).threshold == middle
    for wrong in ({"reject": float("nan")}, {"review": 1e9}):
        with pytest.raises(SettingsError, match="thresholds: "):
            thresholds_by_hand(artifact, None, **wrong)


def test_a_change_in_between_is_not_lost(model_copy):
    mine, other = Artifact.load(model_copy), Artifact.load(model_copy)
    write_thresholds(other, *thresholds_by_hand(other, None, reject=3.0), reason="as asked")
    with pytest.raises(SettingsError, match="changed since it was opened"):
        write_thresholds(mine, *thresholds_by_hand(mine, None, reject=2.0), reason="as asked")
    assert [change.after.reject for change in Artifact.load(model_copy).manifest.threshold_changes] == [3.0]


def test_too_few_images_say_how_many_are_needed(model_copy, good):
    content = (model_copy / "manifest.json").read_bytes()
    error = edgead("calibrate", model_copy, good, "--false-reject-rate", "0.001", code=2)
    assert "needs 999 held-out good images, found 40: take 959 more first. A rate of" in error
    assert "A rate of 0.0244, which these support, rejects up to 2.44 % of good parts, not 0.1 %" in error
    assert (model_copy / "manifest.json").read_bytes() == content


def test_copies_count_once(model_copy, good, tmp_path):
    paths = sorted(good.iterdir())[:19]
    again = Path(shutil.copy(paths[3], tmp_path / "again.png"))
    with Detector.load(model_copy) as detector:
        found = recalibrate(detector, [*paths, again], AskedRates())
        assert (found.change.images, found.good.copies) == (19, 1)
        assert found.change.images_sha256 == recalibrate(detector, paths[::-1], AskedRates()).change.images_sha256
        with pytest.raises(SettingsError, match="no good images"):
            recalibrate(detector, [], AskedRates())


@pytest.mark.slow
def test_defects_among_the_good_images_are_named_and_refused(model_copy, good, tmp_path):
    for number in range(2):
        write_image(tmp_path / "cut" / f"{number}.png", render(part_seed(92, number), "missing_hole")[0])
    content = (model_copy / "manifest.json").read_bytes()
    given = ("calibrate", model_copy, good, tmp_path / "cut")
    refused = edgead(*given, code=2)
    assert "2 of 42 images score far above the others" in refused and "--accept-outliers" in refused
    # The rank is ceil(41 x 0.95) = 39 of 40, which is 39 of 42 where the two are good: 1 - 39 / 43.
    assert "without them the threshold would reject about 9.3 % of good parts, not 5 %" in refused
    assert "cut/0.png" in refused and "cut/1.png" in refused
    assert (model_copy / "manifest.json").read_bytes() == content
    shown = json.loads(edgead(*given, "--dry-run", "--json"))
    assert any("the thresholds let them pass" in warning for warning in shown["warnings"]) and not shown["written"]
    assert "the new limit may be blind" in edgead(*given, "--accept-outliers", code=2)
    taken = json.loads(edgead(*given, "--accept-outliers", "--yes", "--reason", "holes are good", "--json"))
    assert taken["written"] and taken["after"] == shown["after"] and "cut/0.png" in taken["outliers"]


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """Four images of another product, in other proportions than the line's."""
    folder = tmp_path_factory.mktemp("other")
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.workstation.trainer.pretraining_images import draw_texture

    texture = draw_texture(np.random.default_rng(3), 240)[:160]
    for brighter in range(4):
        write_image(folder / f"{brighter}.png", np.clip(texture.astype(int) + brighter, 0, 255).astype(np.uint8))
    return folder


def test_a_blind_limit_is_refused_and_taken_for_a_reason(model_copy, other):
    content = (model_copy / "manifest.json").read_bytes()
    given = ("calibrate", model_copy, other, "--false-reject-rate", "0.2", "--group", "none")
    refused = edgead(*given, code=2)
    for found in ("rejects 4 of the 4 images", "have other proportions", "as usual: another product?", "would rise"):
        assert found in refused
    assert '--reason "..."' in refused
    assert 'reason "..."' in edgead(*given, "--yes", code=2)
    assert "nobody can be asked here" in edgead(*given, "--reason", "a new lamp", code=2)
    assert json.loads(edgead(*given, "--dry-run", "--json"))["doubts"]
    assert (model_copy / "manifest.json").read_bytes() == content
    taken = json.loads(edgead(*given, "--yes", "--reason", "a new lamp", "--json"))
    (change,) = Artifact.load(model_copy).manifest.threshold_changes
    assert taken["reason"] == change.reason == "a new lamp" and change.doubts == taken["doubts"]
    assert len([warning for warning in taken["warnings"] if "may be blind" in warning]) == len(change.doubts) == 6


def test_who_sits_at_a_terminal_is_asked_for_a_reason(model_copy, other):
    content = (model_copy / "manifest.json").read_bytes()
    command = [*COMMAND, "calibrate", str(model_copy), str(other), "--false-reject-rate", "0.2", "--group", "none"]
    no = at_a_terminal(command, "n")
    assert no.returncode == 1 and "rejects 4 of the 4 images" in no.stderr
    assert "Take the new limit all the same?" in no.stderr
    assert (model_copy / "manifest.json").read_bytes() == content
    assert at_a_terminal(command, "y", "a new lamp").returncode == 0
    assert Artifact.load(model_copy).manifest.threshold_changes[0].reason == "a new lamp"


def test_a_limit_by_hand_far_above_all_good_parts_needs_a_reason(model_copy):
    before = Artifact.load(model_copy).graph("fp32").calibration
    high = before.scores[-1] + 20 * np.std(before.scores)
    assert "the limit would rise from" in edgead("calibrate", model_copy, "--reject", high, code=2)
    assert "warnings" not in json.loads(
        edgead("calibrate", model_copy, "--reject", before.reject, "--dry-run", "--json")
    )
    edgead("calibrate", model_copy, "--reject", before.scores[-1])
    limit = Artifact.load(model_copy).graph("fp32").calibration
    assert (rise := scaled_score(high, limit.typical, limit.reject)) > 120
    said = edgead("calibrate", model_copy, "--reject", high, "--yes", "--reason", "only holes count", "--json")
    assert f"the limit rises to {rise:.0f}, where 100 was the limit" in json.loads(said)["warnings"][0]
    assert [change.reason for change in Artifact.load(model_copy).manifest.threshold_changes] == [
        "",
        "only holes count",
    ]


def test_a_python_program_gives_a_reason(model_copy, other):
    with Model.load(model_copy) as model:
        with pytest.raises(BlindLimitError, match="says why with reason"):
            model.calibrate(other, false_reject_rate=0.2, group="none")
        model.calibrate(other, false_reject_rate=0.2, group="none", reason="a new lamp")
        assert model.manifest.threshold_changes[0].reason == "a new lamp"


def test_images_are_named_from_here_and_from_the_root(model_copy, good, tmp_path, monkeypatch):
    for number, path in enumerate(sorted(good.iterdir())[:20]):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / f"{number // 2}.png")
    rows = [f"{folder}/{number}.png,{folder}{number // 2}" for folder in "ab" for number in range(10)]
    (tmp_path / "groups.csv").write_text("\n".join(["path,group", *rows]))
    monkeypatch.chdir(tmp_path)
    mixed = [*Path("a").iterdir(), *(tmp_path / "b").iterdir()]
    with Detector.load(model_copy) as detector:
        assert recalibrate(detector, mixed, AskedRates(0.1, group="groups.csv")).good.found.count == 10


def test_another_light_is_reported(model_copy, good, tmp_path):
    dark = []
    for path in sorted(good.iterdir()):
        dark.append(tmp_path / path.name)
        write_image(dark[-1], (load_image(path) * 0.6).astype(np.uint8))
    with Detector.load(model_copy) as detector:
        found = recalibrate(detector, dark, AskedRates(0.1))
    assert found.change.same_scores_p_value < 0.01
    assert any("other light" in warning for warning in found.warnings())
    assert found.median_after > found.median_before


@pytest.mark.parametrize(
    "arguments",
    [(), ("--reject", "1", "--false-reject-rate", "0.1"), ("--false-reject-rate", "0.1")],
)
def test_usage(trained_model, arguments):
    assert "give either good images" in edgead("calibrate", trained_model, *arguments, code=2)
