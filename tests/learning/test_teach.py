"""Teaching on the device: what is learnt, what the thresholds then guarantee, versions, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from fakes import content, edit_manifest
from terminal import COMMAND, at_a_terminal
from test_cli import edgead, report
from test_imports import REFUSE, run

from edgead import Detector, metrics
from edgead.adapt.finalize import GoodScores
from edgead.adapt.kept_images import kept_images, measure_kept
from edgead.adapt.recalibrate import thresholds_by_hand, write_thresholds
from edgead.adapt.teach import LessonRefusedError, TeachPlan, earlier_versions, learn, prepare, sheet_of, teach, undo
from edgead.adapt.teach.lesson import DecisionCounts, Judgement, Lesson
from edgead.adapt.teach.run import new_version, settle
from edgead.adapt.training.from_folder import train_from_folder
from edgead.adapt.training.good_images import GoodImages
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.manifest import Calibration
from edgead.calibration.conformal import MARGIN, CalibrationError, calibrate, conformal_threshold
from edgead.errors import SettingsError
from edgead.images.files import load_image, write_image
from edgead.report.page import _model_card
from edgead.synthetic.line import conveyor, part_seed, render
from edgead.types import score_text
from edgead.workstation.trainer.pretraining_images import draw_texture

LIGHT = "another light"
GOOD = np.linspace(0.05, 1, 20)  # scores of as many good images as 5 % needs: the threshold is the highest


@pytest.fixture(scope="session")
def new_batch(tmp_path_factory) -> list[Path]:
    """Good parts under another light."""
    folder = tmp_path_factory.mktemp("batch")
    for number, (image, _, _) in enumerate(conveyor(21, 15, 0.0)):
        write_image(folder / f"{number:02d}.png", cv2.convertScaleAbs(image, alpha=1.25, beta=8))
    return sorted(folder.iterdir())


def check_golden(path: Path, precision: str) -> None:
    with Detector.load(path, precision=precision) as detector:
        for golden in detector.graph.golden:
            measured = detector.measure(load_image(path / golden.image))
            assert measured.image_score == pytest.approx(golden.image_score, rel=1e-6)
            np.testing.assert_allclose(measured.anomaly_map, np.load(path / golden.anomaly_map), atol=1e-6)


def test_false_rejects_are_learnt_and_the_guarantee_is_kept(model_copy, new_batch):
    old = Artifact.load(model_copy)
    old_bank = old.array("memory_bank")
    lesson = teach(model_copy, TeachPlan(new_batch, reason=LIGHT))
    before, after = lesson.before["fp32"], lesson.after["fp32"]
    assert (before.taught.images, before.held_out.images) == (12, 3)
    assert before.taught.reject >= 10
    assert after.taught.reject <= 1
    assert after.held_out.mean_score < before.held_out.mean_score
    new = Artifact.load(model_copy)
    assert new.array("memory_bank").shape == old_bank.shape
    with pytest.raises(ArtifactError, match="exchanged meanwhile"):  # another model's bank is not the old one's
        old.array("memory_bank")
    assert 0 < lesson.rows_added < lesson.bank_rows
    # The thresholds come from the kept images, scored by the new bank without what they taught it.
    with Detector(new) as detector:
        scores = [measure_kept(detector, one).image_score for one in new.manifest.kept]
    limits = new.graph("fp32").calibration
    assert scores == pytest.approx(limits.scores, rel=1e-6)
    least = conformal_threshold(scores, 0.05) * (1 + MARGIN)
    assert least * (1 - 1e-6) <= limits.reject <= max(least, old.graph("fp32").calibration.reject) * (1 + 1e-6)
    assert limits.false_reject_rate == old.graph("fp32").calibration.false_reject_rate
    assert new.manifest.training["taught"][0]["rows_added"] == lesson.rows_added
    check_golden(model_copy, "fp32")


@pytest.fixture(scope="session")
def holes(tmp_path_factory) -> Path:
    """Parts with a missing hole."""
    folder = tmp_path_factory.mktemp("defects") / "missing_hole"
    for number in range(8):
        write_image(folder / f"{number}.png", render(part_seed(55, number), "missing_hole")[0])
    return folder


@pytest.mark.parametrize(
    ("taught", "held_out", "others", "said"),
    [
        (9, 3, None, "Of taught parts the scores after the lesson are those of the very images .* See held-out parts"),
        (0, 0, 4, "Of bad parts the scores .* say nothing of new ones. See bad parts, each by what the others teach"),
        (9, 0, 4, "Of taught parts and bad parts the scores"),
        (9, 0, None, "they say nothing of new ones.$"),
    ],
)
def test_a_table_of_a_lesson_says_which_scores_are_no_result(taught, held_out, others, said):
    counts = {number: DecisionCounts(number, 0, 0, 0.1 if number else None) for number in (0, 3, 4, 9)}
    after = Judgement(1.0, 1.0, 0.05, counts[taught], counts[held_out], counts[others or 0], counts[9], [], [], 0.5)
    bad = None if others is None else counts[others]
    lesson = Lesson("m", "v", "images", 10, 1, 1.0, 1.0, others or 0, bad, {"fp32": after}, {"fp32": after})
    assert re.search(said, lesson.table().caption)


def test_defects_are_refused_and_shown(model_copy, new_batch, holes):
    first = content(model_copy)
    refused = edgead("teach", model_copy, holes, "--by", "Anna", "--yes", code=2).stderr
    assert "8 of 8 images stand far from anything good, and nothing was learnt" in refused
    assert "missing_hole/0.png" in refused and "a defect?" in refused and "--reason" in refused
    assert content(model_copy) == first and earlier_versions(model_copy) == []
    sheet = load_image(sheet_of(model_copy))
    assert str(sheet_of(model_copy)) in refused and sheet.shape[1] > 1000


def test_another_product_is_refused(model_copy, tmp_path):
    rng = np.random.default_rng(3)
    for number in range(3):
        write_image(tmp_path / "other" / f"{number}.png", draw_texture(rng, 480))
    with pytest.raises(LessonRefusedError, match="3 of 3 images .*(\n.*another product[?]){3}"):
        teach(model_copy, TeachPlan(sorted((tmp_path / "other").iterdir())))


def test_a_reason_teaches_what_is_doubted_and_is_kept(model_copy, holes):
    lesson = report("teach", model_copy, holes, "--yes", "--reason", "drilled later", "--by", "Anna")
    assert lesson["after"]["fp32"]["taught"]["reject"] < lesson["before"]["fp32"]["taught"]["reject"]
    manifest = Artifact.load(model_copy).manifest
    assert manifest.training["taught"][0]["by"] == "Anna" and manifest.training["taught"][0]["in_doubt"] == 8
    assert manifest.training["taught"][0]["reason"] == manifest.threshold_changes[0].reason == "drilled later"
    assert manifest.threshold_changes[0].author == "edgead teach (Anna)"
    found = SimpleNamespace(manifest=manifest, calibration=manifest.graphs["fp32"].calibration, precision="fp32")
    assert "edgead teach (Anna)" in dict(_model_card(found))["changes of limits"]


def test_a_lesson_is_compared_by_the_limit_that_is_in_force(model_copy, new_batch, tmp_path):
    """It lies where nothing is rejected; the model's own limit rejects nearly all of these parts."""
    own, words = Artifact.load(model_copy).graph().calibration, ["teach", model_copy, *new_batch, "--reason", LIGHT]
    words += ["--yes", "--output", tmp_path / "taught", "--in-force"]
    shown = report(*words, own.review + 100, own.reject + 100)
    before, after = (shown[when]["fp32"] for when in ("before", "after"))
    assert (before["reject_threshold"], before["review_threshold"]) == (own.reject + 100, own.review + 100)
    new = Artifact.load(tmp_path / "taught").graph().calibration
    assert after["reject_threshold"] == pytest.approx(new.reject + 100) and new.reject < 50
    assert before["limit_by_hand"] and before["taught"]["reject"] == after["taught"]["reject"] == 0
    assert before["false_reject_rate"] == 1 / (len(own.scores) + 1)
    assert {part["decision"] for part in before["parts"]} == {"ok"}
    shown = report(*words, own.review, own.reject)  # nobody has set another
    assert not shown["before"]["fp32"]["limit_by_hand"] and shown["before"]["fp32"]["taught"]["reject"] >= 10
    assert shown["after"]["fp32"]["review_threshold"] == new.review


def test_a_dry_run_shows_what_would_be_learnt(model_copy, new_batch):
    first = content(model_copy)
    shown = report("teach", model_copy, *new_batch, "--dry-run", "--reason", LIGHT)
    assert (shown["taught"], shown["held_out"], len(shown["images"])) == (12, 3, 15)
    assert 0 < shown["rows_replaced"] < shown["bank_rows"] == 500
    scores = [image["score"] for image in shown["images"]]
    doubted = [bool(image["doubt"]) for image in shown["images"]]
    assert scores == sorted(scores, reverse=True) and doubted == sorted(doubted, reverse=True)
    assert Path(shown["sheet"]).is_file() and content(model_copy) == first


def test_bad_parts_that_look_like_good_ones_are_named_before_anything_is_learnt(
    model_copy, new_batch, line_data, holes, caplog, monkeypatch
):
    first, hole = content(model_copy), min(holes.iterdir())
    like_good = sorted((line_data / "test" / "good").iterdir())[:3]
    plan = TeachPlan(new_batch[:3], reason=LIGHT, bad=[*like_good, hole])
    prepared = prepare(model_copy, plan)
    (said,) = prepared.warnings
    assert re.match(r"[123] of 4 bad parts look like good ones .* good/00[012].jpg: score \d+ \(limit 100\)", said)
    assert prepared.to_dict()["warnings"] == [said]
    assert prepare(model_copy, TeachPlan(new_batch[:3], reason=LIGHT, bad=[hole])).warnings == []
    with monkeypatch.context() as patch:
        patch.setattr("edgead.adapt.teach.run.learn", lambda *_, **__: pytest.fail("it was learnt"))
        with pytest.raises(pytest.fail.Exception, match="it was learnt"):
            teach(model_copy, plan)
    assert said in caplog.messages
    bad = [word for path in like_good for word in ("--bad", path)]
    words = ["teach", *map(str, (model_copy, new_batch[0], "--reason", LIGHT, *bad))]
    asked = at_a_terminal([*COMMAND, *words], "n").stderr
    assert " bad parts look like good ones" in asked.partition("Are all of these good parts?")[0]
    assert content(model_copy) == first


def test_who_sits_at_a_terminal_is_asked(model_copy, new_batch):
    first = content(model_copy)
    command = [*COMMAND, "teach", str(model_copy), str(new_batch[0]), "--reason", LIGHT]
    result = at_a_terminal(command, "n")
    assert result.returncode == 1 and "Are all of these good parts?" in result.stderr
    assert content(model_copy) == first


def test_without_a_terminal_somebody_says_yes(model_copy, new_batch):
    first = content(model_copy)
    refused = edgead("teach", model_copy, new_batch[0], "--reason", LIGHT, code=2).stderr
    assert "nobody can be asked here: Are all of these good parts? If so, say --yes" in refused
    assert content(model_copy) == first


def test_most_images_that_score_like_defects_are_doubted(model_copy, new_batch):
    """Each alone is what a lesson is for: a good part that was rejected."""
    with Detector.load(model_copy) as detector:
        limit = detector.graph.calibration.reject
        high = [path for path in new_batch if detector.measure(load_image(path)).image_score > 1.1 * limit]
    low = sorted(set(new_batch) - set(high))
    assert high and low
    refused = edgead("teach", model_copy, *high, "--yes", code=2).stderr
    assert f"{len(high)} of these {len(high)} score like defects" in refused and "--reason" in refused
    mixed = prepare(model_copy, TeachPlan([*low, *high[: len(low)]]))
    assert not any(one.doubt for one in mixed.offered)


def limits_of(scores: np.ndarray) -> Calibration:
    return calibrate(scores, scores, scores, false_reject_rate=0.05)


@pytest.mark.parametrize(
    ("renewed", "taught", "expected"),
    [
        pytest.param(GOOD * 1.1, [0.1], 1.1, id="good parts score higher: the guarantee needs it"),
        pytest.param(GOOD * 0.9, [0.1], 0.9, id="all score lower"),
        pytest.param(np.minimum(GOOD, 0.9), [0.1], 0.76 / 0.775, id="only the highest do"),
        pytest.param(np.minimum(GOOD, 0.9), [0.99], 0.99, id="a taught part just passed"),
        pytest.param(GOOD * 0.9, [1.3], 0.9, id="a taught part was not learnt"),
        pytest.param(GOOD * 0, [0.0], 0.0, id="good parts that are all the same"),
    ],
)
def test_thresholds_follow_good_scores_down(renewed, taught, expected):
    old, new = limits_of(GOOD), limits_of(renewed)
    settled = settle(new, old, GoodScores(taught, taught, taught))
    for name in ("reject", "review", "map_threshold"):
        assert getattr(settled, name) == pytest.approx(expected * getattr(old, name), rel=1.1 * MARGIN)
        assert getattr(settled, name) >= getattr(new, name)
    assert settle(old, new, GoodScores(taught, taught, taught)).reject >= old.reject


def other_light(image: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=1.18, beta=6)


@pytest.mark.slow  # photographs 180 parts
def test_truth_of_the_line_before_and_after(line_data, tmp_path):
    """Taught its false rejects under another light, a model rejects fewer good parts and finds the defects it found."""
    # Not the small shared model: a lesson would replace half of its memory bank.
    model_copy = tmp_path / "model"
    train_from_folder(
        GoodImages(line_data, false_reject_rate=0.05), model_copy, {"image_size": (224, 224), "memory_bank_size": 4000}
    )
    parts = [(image, defect is not None) for image, _, defect in conveyor(22, 120, 0.5)]
    flawed = np.array([is_flawed for _, is_flawed in parts])

    def judge(light) -> tuple[np.ndarray, np.ndarray]:
        with Detector.load(model_copy) as detector:
            verdicts = [detector.predict(light(image)) for image, _ in parts]
        flagged = np.array([verdict.decision != "ok" for verdict in verdicts])
        return flagged, np.array([verdict.image_score for verdict in verdicts])

    with Detector.load(model_copy) as detector:
        for number, (image, _, _) in enumerate(conveyor(21, 60, 0.0)):
            if detector.predict(other_light(image)).decision != "ok":
                write_image(tmp_path / "false_rejects" / f"{number:02d}.png", other_light(image))
    before = judge(np.copy), judge(other_light)
    lesson = teach(model_copy, TeachPlan(sorted((tmp_path / "false_rejects").iterdir()), held_out_share=0))
    after = judge(np.copy), judge(other_light)
    assert lesson.before["fp32"].taught.reject == lesson.before["fp32"].taught.images >= 10
    assert lesson.after["fp32"].taught.reject < lesson.before["fp32"].taught.reject / 3
    for (old_flagged, old), (flagged, new) in zip(before, after, strict=True):
        assert flagged[~flawed].sum() < old_flagged[~flawed].sum(), "good parts are rejected as often as before"
        assert metrics.auroc(flawed, new) > metrics.auroc(flawed, old), "parts are distinguished no better"
    # Under the light that it was made for. Under the other it had flagged good and defective parts alike.
    (_, old), (flagged, _) = before[0], after[0]
    as_many = np.sort(old[~flawed])[-1 - flagged[~flawed].sum()]
    found = flagged[flawed].sum()
    assert found >= (old[flawed] > as_many).sum(), "defects escape that a limit with as few false rejects had found"
    assert found > 0.8 * before[0][0][flawed].sum()


@pytest.mark.slow
def test_one_command_goes_back(model_copy, new_batch):
    versions = [content(model_copy)]
    for images in (new_batch[:6], new_batch[6:]):
        edgead("teach", model_copy, *images, "--yes", "--reason", LIGHT)
        versions.append(content(model_copy))
    assert len({version["memory_bank.npy"] for version in versions}) == 3
    assert [path.name for path in earlier_versions(model_copy)] == ["1", "2"]
    assert report("teach", model_copy, "--undo")["earlier versions left"] == 1
    assert content(model_copy) == versions[1]
    edgead("teach", model_copy, "--undo")
    assert content(model_copy) == versions[0]
    assert "no earlier version" in edgead("teach", model_copy, "--undo", code=2).stderr
    assert [entry.name for entry in model_copy.parent.iterdir()] == ["model"]


def test_the_way_back_can_be_copied(trained_model, new_batch, tmp_path):
    model = tmp_path / "a long folder name with spaces" / "models of line number seven" / "model"
    shutil.copytree(trained_model, model)
    done = edgead("teach", model, new_batch[0], "--yes", "--reason", LIGHT, columns=80)
    assert shlex.join(["edgead", "teach", str(model), "--undo"]) in done.stdout
    assert f"With heat maps: {model}.lesson.jpg\n" in done.stderr


def test_a_link_to_a_model_stays_one(model_copy, new_batch):
    first = content(model_copy)
    link = model_copy.with_name("current")
    link.symlink_to(model_copy.name)
    teach(link, TeachPlan(new_batch[:3], reason=LIGHT))
    assert link.is_symlink() and content(link) == content(model_copy) != first
    assert earlier_versions(link) == earlier_versions(model_copy) and content(earlier_versions(link)[0]) == first
    undo(link)
    assert link.is_symlink() and content(model_copy) == first


def test_goes_back_where_a_stop_left_no_model(model_copy, new_batch):
    first = content(model_copy)
    teach(model_copy, TeachPlan(new_batch[:3], reason=LIGHT))
    shutil.rmtree(model_copy)
    undo(model_copy)
    assert content(model_copy) == first


def test_going_back_touches_nothing_of_others(model_copy):
    first = content(model_copy)
    with new_version(model_copy) as draft:
        (draft / "note.txt").write_text("a lesson")
    (earlier_versions(model_copy)[0].parent / "README").write_text("mine")
    undo(model_copy)
    assert content(model_copy) == first
    assert sorted(entry.name for entry in model_copy.parent.rglob("README")) == ["README"]


def test_a_failed_way_back_keeps_the_present_model(model_copy, monkeypatch):
    with new_version(model_copy) as draft:
        (draft / "note.txt").write_text("a lesson")
    present = content(model_copy)
    rename = Path.rename

    def fail(self, target):
        if self.parent.name == "model.versions":
            raise OSError("input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="input/output"):
        undo(model_copy)
    assert content(model_copy) == present and len(earlier_versions(model_copy)) == 1
    assert sorted(entry.name for entry in model_copy.parent.iterdir()) == ["model", "model.versions"]


def set_threshold(path: Path, reject: float) -> None:
    artifact = Artifact.load(path)
    write_thresholds(artifact, *thresholds_by_hand(artifact, None, reject=reject), reason="as asked")


def test_a_lesson_that_is_not_learnt_yet_is_shown_on_the_scale_from_0_to_100(model_copy, new_batch):
    prepared = prepare(model_copy, TeachPlan(new_batch[:3], reason=LIGHT))
    shown = {column.header: list(column.cells) for column in prepared.table().columns}
    assert list(shown) == ["image", "score", "limit", ""] and set(shown["limit"]) == {"100"}
    assert shown["score"] == [score_text(one.score, one.typical, one.limit) for one in prepared.offered]


def test_what_was_calibrated_during_a_lesson_is_not_lost(model_copy, new_batch):
    prepared = prepare(model_copy, TeachPlan(new_batch[:3], reason=LIGHT))

    def meanwhile(stage: str, done: int, total: int) -> None:
        if stage == "judge after":
            set_threshold(model_copy, 3.0)

    with pytest.raises(SettingsError, match="changed since it was opened"):
        learn(prepared, progress=meanwhile)
    assert Artifact.load(model_copy).graph().calibration.reject == 3.0
    with pytest.raises(SettingsError, match="changed since it was opened"):
        learn(prepared, progress=lambda stage, done, total: pytest.fail(stage))
    assert [entry.name for entry in model_copy.parent.iterdir()] == ["model"]


def test_a_damaged_version_is_not_put_back(model_copy, new_batch):
    teach(model_copy, TeachPlan(new_batch[:3], reason=LIGHT))
    present = content(model_copy)
    with (earlier_versions(model_copy)[0] / "memory_bank.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="sha256"):
        undo(model_copy)
    assert content(model_copy) == present


def test_a_failure_changes_nothing(model_copy, new_batch, monkeypatch):
    first = content(model_copy)

    def fails(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("edgead.adapt.teach.run.measure_good", fails)
    with pytest.raises(OSError, match="no space"):
        teach(model_copy, TeachPlan(new_batch[:3], reason=LIGHT))
    assert content(model_copy) == first
    assert [entry.name for entry in model_copy.parent.iterdir()] == ["model"]


@pytest.mark.slow
def test_every_graph_is_calibrated_again(model_copy, new_batch, line_data):
    from edgead.export.calibration_images import find_calibration_images
    from edgead.export.precision import PrecisionPlan, add_precision

    images = find_calibration_images(Artifact.load(model_copy), line_data)
    old = add_precision(model_copy, PrecisionPlan("fp16"), images).manifest
    lesson = teach(model_copy, TeachPlan(new_batch, reason=LIGHT))
    new = Artifact.load(model_copy).manifest
    assert lesson.after["fp16"].taught.reject <= 1 < lesson.before["fp16"].taught.reject
    for before, after in ((old.graphs[name], new.graphs[name]) for name in ("fp32", "fp16")):
        assert before.calibration.scores != after.calibration.scores
    assert [change.precision for change in new.threshold_changes] == ["fp32", "fp16"]
    for change, graph in zip(new.threshold_changes, (new.graphs["fp32"], new.graphs["fp16"]), strict=True):
        assert change.after.reject == graph.calibration.reject
        assert change.images == len(graph.calibration.scores) and change.images_sha256
    for precision in ("fp32", "fp16"):
        check_golden(model_copy, precision)


@pytest.mark.slow
def test_given_images_take_the_place_of_the_kept_ones(model_copy, new_batch, tmp_path):
    other = [image for image, _, _ in conveyor(33, 20, 0.0)]
    for number, image in enumerate(other):
        write_image(tmp_path / "other" / f"{number}.png", image)
    paths = sorted((tmp_path / "other").iterdir())
    with pytest.raises(CalibrationError, match="needs 19"):
        teach(model_copy, TeachPlan(new_batch, calibration=paths[:18], reason=LIGHT))
    copies = [*paths[:18], Path(shutil.copy(paths[0], tmp_path / "copy.png"))]
    with pytest.raises(CalibrationError, match="needs 19"):
        teach(model_copy, TeachPlan(new_batch, calibration=copies, reason=LIGHT))
    with pytest.raises(SettingsError, match="to be learnt and to calibrate on"):
        teach(model_copy, TeachPlan([*new_batch, paths[0]], calibration=paths, reason=LIGHT))
    lesson = teach(model_copy, TeachPlan(new_batch, calibration=paths, reason=LIGHT))
    assert lesson.calibrated_on == "20 images given"
    assert len(kept_images(Artifact.load(model_copy))) == 20
    teach(model_copy, TeachPlan(new_batch[:2], reason=LIGHT))  # goes on with the kept ones


def test_an_image_that_thresholds_are_made_from_is_not_learnt(model_copy, new_batch, line_data):
    kept = kept_images(Artifact.load(model_copy))[:3]
    with pytest.raises(SettingsError, match=r"made from 3 of the 5 images to learn, 000.png first.*--calibration"):
        teach(model_copy, TeachPlan([*new_batch[:2], *kept], group="none", reason=LIGHT))
    good = sorted((line_data / "train" / "good").iterdir())
    held_out = len(Artifact.load(model_copy).graph().calibration.scores)
    with pytest.raises(SettingsError, match=f"made from {held_out} of the {len(good)} images"):
        prepare(model_copy, TeachPlan(good))
    assert earlier_versions(model_copy) == []


def test_without_images_to_calibrate_on_there_is_no_guarantee(model_copy, new_batch):
    edit_manifest(model_copy, lambda manifest: manifest["kept"][0].update(image_score=1.0))
    with pytest.raises(ArtifactError, match="does not score the 60 images that it keeps as it did .* --calibration"):
        teach(model_copy, TeachPlan(new_batch, reason=LIGHT))
    shutil.rmtree(model_copy / "calibration")

    def forget(manifest):
        manifest["files"] = {name: file for name, file in manifest["files"].items() if "calibration/" not in name}
        manifest["kept"] = []

    edit_manifest(model_copy, forget)
    with pytest.raises(ArtifactError, match="keeps no images .* --calibration"):
        teach(model_copy, TeachPlan(new_batch, reason=LIGHT))
    assert earlier_versions(model_copy) == []


def test_a_model_without_a_bank_is_refused(model_copy, new_batch):
    def as_map(manifest):
        manifest["detector"], manifest["head"] = "simplenet", {"kind": "map"}

    edit_manifest(model_copy, as_map)
    with pytest.raises(SettingsError, match="simplenet, has no memory bank"):
        teach(model_copy, TeachPlan(new_batch, reason=LIGHT))


def test_needs_no_workstation(model_copy, new_batch):
    code = f"sys.argv[1:] = ['teach', {str(model_copy)!r}, {str(new_batch[0])!r}, '--json', '--yes']\nmain()"
    lesson = json.loads(run(REFUSE + "from edgead.cli import main\n" + code))
    assert lesson["after"]["fp32"]["taught"]["images"] == 1


def test_usage(model_copy, new_batch):
    assert "name good images" in edgead("teach", model_copy, code=2).stderr
    assert "takes no images" in edgead("teach", model_copy, new_batch[0], "--undo", code=2).stderr
    with pytest.raises(SettingsError, match="0 to 0.5"):
        TeachPlan(new_batch, held_out_share=0.9, reason=LIGHT)
