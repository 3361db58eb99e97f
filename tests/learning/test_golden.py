"""Golden parts: what is missing, added or misplaced, before there are thresholds; and how a part is placed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import run_here

from edgead.adapt.recalibrate import AskedRates, recalibrate, thresholds_by_hand, write_thresholds
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.limits import HIGHEST, LOWEST
from edgead.artifact.manifest import Calibration
from edgead.calibration.conformal import CalibrationError
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.heads.local import GOLDEN, GOLDEN_LOOK, LOOK, LocalHead
from edgead.heads.placing import STAYS, Placer
from edgead.images.files import list_images, load_image

GRID, SIZE, DEPTH = (6, 9), (48, 72), 5


def marks(seed: int, shape: tuple[int, int] = SIZE) -> np.ndarray:
    """Grey levels of a part with marks all over, float32."""
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.round(128 + 60 * blurred / blurred.std())


def turned(image: np.ndarray, degrees: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """The image as it lies after a turn about its centre and a shift (x, y), and the transform back."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turn[:, 2] += shift
    moved = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return moved, cv2.invertAffineTransform(turn)


@pytest.mark.parametrize(
    ("degrees", "shift"), [(0.0, (0.0, 0.0)), (0.0, (11.0, -6.0)), (3.0, (2.0, 1.0)), (-2.5, (-8.0, 3.0))]
)
def test_a_part_is_placed(degrees, shift):
    golden = marks(1, (112, 112))
    part, back = turned(golden, degrees, shift)
    part[40:60, 50:70] = 0  # a defect
    found = Placer(golden).find(part)
    places = np.array([[20.0, 20], [90, 30], [50, 90]])
    distance = np.linalg.norm(places @ (found - back)[:, :2].T + (found - back)[:, 2], axis=1)
    assert distance.max() < 0.5


@pytest.mark.parametrize("part", [np.full(SIZE, 7.0), marks(2), turned(marks(1), 0, (40, 0))[0], marks(1)[::-1]])
def test_what_has_no_place_stays(part):
    assert Placer(marks(1)).find(part) is STAYS
    assert Placer(np.zeros(SIZE)).find(part) is STAYS


def buffers(features: np.ndarray, look: np.ndarray | None = None) -> dict[str, np.ndarray]:
    outputs = {"features": features[None].astype(np.float32)}
    return outputs if look is None else {**outputs, LOOK: look[None].astype(np.float32)}


def patch_scores(head: LocalHead, features: np.ndarray, *golden: np.ndarray) -> np.ndarray:
    """Patch scores of features (h, w, d) against golden ones, where nothing is registered."""
    outputs = buffers(features)
    arrays = {GOLDEN: np.concatenate([part.reshape(-1, part.shape[-1]) for part in golden]).astype(np.float32)}
    head.check(outputs, arrays)
    return head.open(outputs, arrays, SIZE).score(outputs).patch_scores


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reach": 0, "both_ways": False},
        {"reach": 9, "window": 3, "top_patches": 5, "margin": 1},
        {"look_px": 0, "by_place": True, "sigma_px": 2.5},
    ],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_scores_are_those_of_the_reference(options, parts):
    rng = np.random.default_rng(3)
    head = LocalHead(**{"look_px": 2, **options})
    look = marks(4, (24, 36))
    outputs = buffers(rng.normal(size=(*GRID, DEPTH)), turned(look, 2, (3, -1))[0] if head.look_px else None)
    arrays = {
        GOLDEN: rng.normal(size=(parts * math.prod(GRID), DEPTH)).astype(np.float32),
        GOLDEN_LOOK: look.astype(np.float32),
        "usual_scores": rng.random(GRID).astype(np.float32),
    }
    arrays = {name: arrays[name] for name in head.arrays}
    scorer = head.open(outputs, arrays, SIZE)
    scored = scorer.score(outputs)
    plain = {name: array[0].astype(np.float64) for name, array in outputs.items()}
    image_score, anomaly_map = head.reference(plain, arrays, SIZE)
    assert scored.image_score == pytest.approx(image_score, rel=1e-5)
    np.testing.assert_allclose(scorer.anomaly_map(scored.patch_scores)[0], anomaly_map, rtol=1e-4, atol=1e-5)


def test_what_lies_within_reach_is_in_its_place():
    golden = np.random.default_rng(5).normal(size=(*GRID, DEPTH))
    part = np.roll(golden, 2, axis=1)
    near, far = (patch_scores(LocalHead(reach=reach, look_px=0), part, golden)[:, 4:-2] for reach in (2, 1))
    assert near.max() == 0 and far.min() > 0.5


def test_what_is_missing_is_found_by_looking_back():
    golden = np.zeros((*GRID, DEPTH))
    golden[2, 3] = 5  # a mark; the part is like the ground beside it, everywhere
    ways = [
        patch_scores(LocalHead(reach=1, look_px=0, both_ways=both), np.zeros_like(golden), golden) for both in (0, 1)
    ]
    assert ways[0].max() == 0
    assert np.argwhere(ways[1]).tolist() == [[2, 3]]


def test_a_part_may_be_like_any_of_the_golden_parts():
    rng = np.random.default_rng(6)
    golden = rng.normal(size=(3, *GRID, DEPTH))
    assert patch_scores(LocalHead(look_px=0), golden[1], *golden).max() == 0
    assert patch_scores(LocalHead(look_px=0), golden[1], golden[0], golden[2]).min() > 0


def test_windows_follow_the_part():
    golden, look = np.random.default_rng(7).normal(size=(*GRID, DEPTH)), marks(8, (96, 144))
    head = LocalHead(reach=0, look_px=2)
    arrays = {GOLDEN: golden.reshape(-1, DEPTH).astype(np.float32), GOLDEN_LOOK: look.astype(np.float32)}
    part = np.roll(golden, 2, axis=1)  # two patches are 64 pixels of the image, 32 of the look
    moved = turned(look, 0, (32, 0))[0]
    outputs = buffers(part, moved)
    head.check(outputs, arrays)
    scorer = head.open(outputs, arrays, (192, 288))
    assert scorer.score(outputs).patch_scores.max() == 0
    seen = np.zeros(GRID, bool)
    seen[1:-1, 3:-1] = True  # what both images show, less the border of each
    assert np.array_equal(scorer.score(buffers(part + 1, moved)).patch_scores > 0, seen)


def test_features_that_are_not_finite_are_refused():
    golden = np.zeros((*GRID, DEPTH))
    with pytest.raises(ValueError, match="NaN or Inf"):
        patch_scores(LocalHead(look_px=0), np.full_like(golden, np.nan), golden)


@pytest.mark.parametrize(
    ("golden", "look", "message"),
    [
        ((53, DEPTH), (24, 36), r"golden parts of 6 x 9 patches with 5 numbers each are needed, .* is \(53, 5\)"),
        ((54, 4), (24, 36), r"the array golden_parts is \(54, 4\)"),
        ((0, DEPTH), (24, 36), r"the array golden_parts is \(0, 5\)"),
        ((54, DEPTH), (24, 35), r"the array golden_look is \(24, 35\), the network gives \(24, 36\)"),
    ],
)
def test_arrays_are_checked(golden, look, message):
    arrays = {GOLDEN: np.zeros(golden, np.float32), GOLDEN_LOOK: np.zeros(look, np.float32)}
    with pytest.raises(ValueError, match=message):
        LocalHead().check(buffers(np.zeros((*GRID, DEPTH)), np.zeros((24, 36))), arrays)


def test_no_thresholds_are_no_scores():
    none = Calibration.none_yet(1.0, 0.5)
    assert (none.review, none.reject, none.scores) == (LOWEST, HIGHEST, [])
    content = none.model_dump()
    for change, message in (
        ({"reject": 3.0}, "there are thresholds or scores, and yet the method is none"),
        ({"scores": [1.0]}, "there are thresholds or scores, and yet the method is none"),
        ({"method": "split_conformal"}, "split_conformal thresholds come from scores, there are none"),
    ):
        with pytest.raises(ValueError, match=message):
            Calibration.model_validate({**content, **change})


# From here on with a network.


@pytest.fixture(scope="module")
def golden_model(line_data, once) -> Path:
    """A small model of two golden parts; tests that change it copy it."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    settings = {"backbone": "efficientnet_lite0", "image_size": [160, 160]}
    paths = list_images(line_data / "train" / "good")[:2]
    good = GoodImages(line_data, paths=paths)
    return once("golden", lambda path: train_from_folder(good, path, settings, detector="golden"))


@pytest.fixture
def golden_copy(golden_model, tmp_path) -> Path:
    return Path(shutil.copytree(golden_model, tmp_path / "model"))


@pytest.fixture(scope="module")
def others(line_data) -> list[Path]:
    """Good images that were not learnt."""
    return list_images(line_data / "train" / "good")[2:22]


@pytest.mark.slow
def test_everything_is_for_review_until_it_is_calibrated(golden_model, line_data, others):
    with Detector.load(golden_model) as detector:
        bad = list_images(line_data / "test" / "scratch")[0]
        good, defective = (detector.predict(load_image(path)) for path in (others[0], bad))
        assert good.decision == defective.decision == "review"
        assert good.p_value == 1.0 and good.review_threshold is None
        assert detector.threshold is None and "no thresholds" in repr(detector)
        assert detector.manifest.training["training_images"] == 2
        assert detector.predict(load_image(list_images(line_data / "train" / "good")[0])).image_score < 1e-3


def test_its_export_is_the_torch_network(golden_model):
    from edgead.export.verify import compare_with_torch, replay_golden

    artifact = Artifact.load(golden_model)
    assert len(artifact.graph("fp32").golden) == 2
    assert compare_with_torch(artifact).passed and replay_golden(artifact).passed


def test_good_images_make_its_thresholds(golden_copy, others):
    with Detector.load(golden_copy) as detector:
        found = recalibrate(detector, others, AskedRates(group="none"))
        write_thresholds(detector.artifact, found.change, found.calibration)
    assert found.calibration.method == "split_conformal" and found.calibration.false_reject_rate == 0.2
    assert found.change.before.method == "none" and found.change.same_scores_p_value is None
    with Detector.load(golden_copy) as detector:
        decisions = [detector.predict(load_image(path)).decision for path in others]
        assert decisions.count("ok") >= 16
        assert detector.predict(255 - load_image(others[0])).decision == "reject"


def test_too_few_or_learnt_images_make_none(golden_model, line_data, others):
    with Detector.load(golden_model) as detector:
        with pytest.raises(CalibrationError, match="found 3 good images, but at least 4 are needed for a threshold"):
            recalibrate(detector, others[:3], AskedRates(group="none"))
        with pytest.raises(SettingsError, match="learnt"):
            recalibrate(detector, list_images(line_data / "train" / "good"), AskedRates(group="none"))


def test_by_hand_it_guarantees_nothing(golden_model):
    change, after = thresholds_by_hand(Artifact.load(golden_model), None, reject=3.0)
    assert (after.method, after.reject, after.review, after.false_reject_rate) == ("by_hand", 3.0, LOWEST, 1.0)
    with Detector.load(golden_model) as detector:
        detector.set_thresholds(review=1.0, reject=2.0)
        assert detector.threshold == 2.0


def test_what_needs_thresholds_says_what_to_do(golden_model, line_data, tmp_path):
    from edgead.export.calibration_images import find_calibration_images

    from edgead.report.folder import report_folder

    with pytest.raises(ArtifactError, match="no scores of good parts yet: run `edgead calibrate`"):
        find_calibration_images(Artifact.load(golden_model), line_data)
    with Detector.load(golden_model) as detector, pytest.raises(SettingsError, match="no thresholds yet"):
        report_folder(detector, line_data, tmp_path / "page.html", "none", lambda *_: None)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (17, {}, "compares with 1 to 16 golden parts, found 17 images"),
        (2, {"false_reject_rate": 0.1}, "golden makes no thresholds in training"),
        (2, {"folds": 2}, "leave out --false-reject-rate, --review-rate, --guarantee and --folds"),
    ],
)
def test_what_it_cannot_be_trained_with_is_refused(line_data, tmp_path, count, options, message):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    good = GoodImages(line_data, paths=list_images(line_data / "train" / "good")[:count], **options)
    settings = {"backbone": "efficientnet_lite0", "image_size": [64, 64]}
    with pytest.raises(SettingsError, match=message):
        train_from_folder(good, tmp_path / "model", settings, detector="golden")
    assert not (tmp_path / "model").exists()


def test_golden_parts_are_laid_onto_the_first():
    torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.workstation.methods.golden import GoldenMethod

    settings = {"backbone": "efficientnet_lite0", "image_size": [128, 128], "reach": 0}
    torch.manual_seed(0)
    method = GoldenMethod.from_settings(settings, pretrained=False)
    large = cv2.resize(marks(9, (43, 43)), (128, 128), interpolation=cv2.INTER_CUBIC)
    first = np.repeat(large[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
    trained = method.fit([first, turned(first, 0, (16, 8))[0]])
    parts = trained.arrays[GOLDEN].reshape(2, 32, 32, -1)
    inside = (slice(8, 24), slice(8, 24))
    distance = np.linalg.norm(parts[0] - parts[1], axis=-1)[inside]
    assert distance.max() < 0.1 * np.linalg.norm(parts[0], axis=-1)[inside].mean()


@pytest.mark.slow
def test_the_command_line_says_so(line_data, others, tmp_path):
    folder, model = tmp_path / "golden", tmp_path / "model"
    folder.mkdir()
    shutil.copy(list_images(line_data / "train" / "good")[0], folder)
    small = ["--backbone", "efficientnet_lite0", "--image-size", "160"]
    output = run_here("train", folder, "-o", model, "--detector", "golden", *small).stdout
    assert "none yet: every image is for review" in output and "edgead calibrate" in output
    predicted = json.loads(run_here("predict", model, others[0], "--json").stdout)
    assert predicted["images"][0]["decision"] == "review" and "no thresholds yet" in predicted["warnings"][-1]
    run_here("calibrate", model, *others, "--group", "none")
    predicted = json.loads(run_here("predict", model, others[0], "--json").stdout)
    assert predicted["images"][0]["decision"] == "ok" and not predicted["warnings"]


@pytest.mark.slow
def test_it_gets_an_int8_graph_once_it_is_calibrated(golden_copy, line_data, others):
    from edgead.export.add_graph import add_graph
    from edgead.export.precision import PrecisionPlan
    from edgead.export.verify import replay_golden

    with Detector.load(golden_copy) as detector:
        found = recalibrate(detector, others, AskedRates(group="none"))
        write_thresholds(detector.artifact, found.change, found.calibration)
    artifact = add_graph(golden_copy, PrecisionPlan("int8", tolerance=0.05), line_data, group="none")
    assert replay_golden(artifact, precision="int8").score_error < 0.1
