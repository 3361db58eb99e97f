"""Places that never count, and parts that are laid onto a golden one: in training and on the device alike."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgead.artifact.folder import Artifact
from edgead.artifact.inputs import Ignored
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import (
    aligned,
    alignment_to,
    map_of_frame,
    preprocess,
)
from edgead.dataset.places import polygons_of, read_alignment, read_ignored
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.images.likeness import look_of
from edgead.metrics.ranking import auroc
from edgead.synthetic.demo_defects import DEFECTS
from edgead.synthetic.line import render

SIZE = (48, 64)


def drawn(ignored: Ignored) -> np.ndarray:
    mask = np.zeros(ignored.frame_size, np.uint8)
    return cv2.fillPoly(mask, [np.array(polygon) for polygon in ignored.polygons], 1)


def moved(image: np.ndarray, degrees: float, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A part turned about the middle and shifted, and the transform of its pixels."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    turn[:, 2] += shift
    return cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101), turn


@pytest.fixture(scope="module")
def part() -> np.ndarray:
    return render(3)[0]


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_is_outlined_hole_for_hole(seed):
    noise = np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)
    mask = (cv2.GaussianBlur(noise, (0, 0), 1 + seed / 2) > 0).astype(np.uint8)
    np.testing.assert_array_equal(drawn(Ignored(frame_size=SIZE, polygons=polygons_of(mask))), mask)


def test_places_are_read_as_rectangles_polygons_and_images(tmp_path):
    ring = np.full((*SIZE, 3), 255, np.uint8)
    cv2.circle(ring, (30, 20), 10, (0, 0, 0), -1)
    cv2.imwrite(str(tmp_path / "ring.png"), ring)
    example = tmp_path / "part.png"
    rectangle = drawn(read_ignored(["2,3,10,5"], SIZE, example))
    assert rectangle[3:8, 2:12].all() and rectangle.sum() == 50
    triangle = drawn(read_ignored(["0,0,20,0,0,20"], SIZE, example))
    assert triangle[0, 20] and triangle[20, 0] and not triangle[15, 15]
    assert np.array_equal(drawn(read_ignored([tmp_path / "ring.png"], SIZE, example)), ring[..., 0] > 0)
    both = drawn(read_ignored(["2,3,10,5", "0,0,20,0,0,20"], SIZE, example))
    assert np.array_equal(both, rectangle | triangle)
    assert read_ignored((), SIZE, example) is None


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("1,2,3", "three corners or more"),
        ("1,2,3,4,5", "three corners or more"),
        ("nowhere.png", "give X,Y,WIDTH,HEIGHT, or corners"),
        ("60,60,5,5", "covers no pixel"),
        ("0,0,64,48", "leave something to look at"),
    ],
)
def test_what_is_no_place_is_refused(asked, reason, tmp_path):
    with pytest.raises(SettingsError, match=reason):
        read_ignored([asked], SIZE, tmp_path / "part.png")


@pytest.mark.parametrize("roi", [None, (8, 4, 40, 30)])
@pytest.mark.parametrize("fill", ["stretch", "reflect"])
@pytest.mark.parametrize("image_size", [(32, 32), (96, 100)])
def test_what_is_in_an_ignored_place_reaches_no_network(roi, fill, image_size):
    rng = np.random.default_rng(0)
    ignored = read_ignored(["10,6,12,9", "30,20,50,22,33,40"], SIZE, SIZE)
    spec = Preprocessing(image_size=image_size, roi=roi, fill=fill, ignored=ignored)
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    other = np.where(drawn(ignored)[..., None], rng.integers(0, 256, image.shape, np.uint8), image)
    before = image.copy()
    np.testing.assert_array_equal(preprocess(image, spec), preprocess(other, spec))
    np.testing.assert_array_equal(image, before)  # it goes on to the sinks
    assert not np.array_equal(preprocess(image, spec), preprocess(image, spec.model_copy(update={"ignored": None})))
    with pytest.raises(SettingsError, match="expects frames of the size it was trained on"):
        preprocess(image[:-1], spec)


def test_a_map_never_shows_what_is_ignored():
    spec = Preprocessing(image_size=(24, 32), ignored=read_ignored(["0,0,32,48"], SIZE, SIZE))
    anomaly_map = np.arange(24 * 32, dtype=np.float32).reshape(24, 32)
    shown = map_of_frame(anomaly_map, spec, aligned(np.zeros((*SIZE, 3), np.uint8), spec))
    assert (shown[:, :16] == 16).all() and np.array_equal(shown[:, 16:], anomaly_map[:, 16:])


@pytest.mark.parametrize(("degrees", "shift"), [(0, (0, 0)), (3, (10, -14)), (-6, (-25, 12)), (1, (40, 30))])
def test_a_part_is_laid_where_the_golden_one_lies(part, degrees, shift):
    spec = Preprocessing(image_size=(64, 64), alignment=alignment_to(part))
    image, transform = moved(part, degrees, shift)
    found = aligned(image, spec)
    assert found.found and found.correlation > 0.9
    corners = np.array([[150, 150], [330, 150], [330, 330], [150, 330]], float)
    there = corners @ transform[:, :2].T + transform[:, 2]
    back = there @ found.to_golden[:, :2].T + found.to_golden[:, 2]
    assert np.abs(back - corners).max() < 1.0, "pixels, of 480"


def test_a_map_lies_as_the_frame_does(part):
    spec = Preprocessing(image_size=(480, 480), alignment=alignment_to(part))
    image, transform = moved(part, 4, (20, -10))
    golden_map = np.zeros((480, 480), np.float32)
    cv2.circle(golden_map, (200, 300), 5, 1.0, -1)
    shown = map_of_frame(golden_map, spec, aligned(image, spec))
    rows, columns = np.nonzero(shown > 0.5)
    expected = transform[:, :2] @ (200, 300) + transform[:, 2]
    assert np.abs(np.array([columns.mean(), rows.mean()]) - expected).max() < 1.0


def test_another_part_and_none_are_not_found(part):
    spec = Preprocessing(image_size=(64, 64), alignment=alignment_to(part))
    noise = np.random.default_rng(1).integers(0, 256, part.shape, np.uint8)
    squares = np.kron(np.indices((8, 8)).sum(axis=0) % 2 * 200, np.ones((60, 60)))[..., None].astype(np.uint8)
    for image in (np.full_like(part, 90), noise, np.ascontiguousarray(np.repeat(squares, 3, axis=2))):
        found = aligned(image, spec)
        assert not found.found and found.image is image and found.to_golden is None
    with pytest.raises(SettingsError, match="one grey alone"):
        alignment_to(np.full_like(part, 90))
    with pytest.raises(SettingsError, match="expects frames of the size"):
        aligned(part[:-2], spec)


def test_a_golden_image_of_another_size_is_refused(part, tmp_path):
    cv2.imwrite(str(tmp_path / "golden.png"), part)
    assert read_alignment(None, SIZE, tmp_path) is None
    with pytest.raises(SettingsError, match="take one of the images"):
        read_alignment(tmp_path / "golden.png", SIZE, tmp_path / "part.png")


def test_a_golden_image_that_is_none_is_refused_when_the_model_runs(part):
    spec = alignment_to(part).model_copy(update={"look": "AAAA"})
    with pytest.raises(SettingsError, match="is damaged"):
        aligned(part, Preprocessing(image_size=(64, 64), alignment=spec))


def test_places_go_with_images_of_one_size(tmp_path):
    training = pytest.importorskip(
        "edgead.adapt.training.from_folder", reason="training needs the workstation's packages"
    )
    assert training.GoodImages(tmp_path, ignore="1,2,3,4").ignore == ("1,2,3,4",)
    good, spec = training.GoodImages(tmp_path, ignore=["1,2,3,4"]), Preprocessing(image_size=(32, 32))
    looks = [look_of(np.zeros((height, 40, 3), np.uint8)) for height in (30, 31)]
    with pytest.raises(SettingsError, match="a.png has 40x30 pixels and b.png 40x31"):
        good.with_places(spec, [Path("a.png"), Path("b.png")], looks)
    prepared = good.with_places(spec, [Path("a.png")], looks[:1])
    assert prepared.ignored.frame_size == (30, 40) and prepared.alignment is None
    assert training.GoodImages(tmp_path, roi=(0, 0, 5, 5)).with_places(spec, [], []).roi == (0, 0, 5, 5)


def with_places(model, **places):
    """A trained model whose frames are prepared otherwise, in memory."""
    artifact = Artifact.load(model)
    return Artifact(artifact.path, artifact.manifest.with_preprocessing(**places))


def test_a_detector_does_not_see_an_ignored_place(trained_model, line_data):
    image = load_image(sorted((line_data / "test" / "good").iterdir())[0])
    ignored = read_ignored(["120,130,90,80"], image.shape[:2], line_data)
    spoilt = image.copy()
    spoilt[135:200, 125:200] = (0, 0, 255)
    with Detector(with_places(trained_model, ignored=ignored)) as detector:
        one, other = detector.predict(image), detector.predict(spoilt)
        assert one == other and np.array_equal(one.anomaly_map, other.anomaly_map)
    with Detector.load(trained_model) as detector:
        assert detector.predict(spoilt).image_score > detector.predict(image).image_score


def test_a_part_that_is_not_found_is_never_ok(trained_model, line_data):
    image = load_image(sorted((line_data / "test" / "good").iterdir())[0])
    alignment = alignment_to(image)
    with Detector(with_places(trained_model, alignment=alignment)) as detector:
        verdict = detector.predict(image)
        assert verdict.measured["alignment"] == pytest.approx(1.0, abs=1e-3)
        assert json.loads(verdict.to_json())["measured"] == verdict.measured
    strict = alignment.model_copy(update={"least_correlation": 1.0})
    with Detector(with_places(trained_model, alignment=strict)) as detector:
        detector.set_thresholds(review=1e6, reject=1e6)
        for other in (render(77)[0], np.full_like(image, 80)):
            verdict = detector.predict(other)
            assert verdict.decision == "review" and verdict.measured["alignment"] < 1


@pytest.mark.slow
def test_parts_that_are_shifted_and_turned_are_judged_as_well_as_those_that_lie_still(tmp_path):
    """The built-in line, whose parts lie by 3 degrees otherwise (one sigma), with parts moved by up to 24 pixels and 3
    degrees more: a detector that compares places and lays no part by itself, trained and tested with and without.
    """
    pytest.importorskip("torch")
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    rng = np.random.default_rng(7)

    def moved_at_random(image):
        return moved(image, rng.uniform(-3, 3), tuple(rng.uniform(-24, 24, 2)))[0]

    (tmp_path / "good").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / "good" / f"{number:03d}.png"), moved_at_random(render(number)[0]))
    cv2.imwrite(str(tmp_path / "golden.png"), render(1000)[0])
    tests = [(moved_at_random(render(2000 + number)[0]), False) for number in range(12)]
    tests += [(moved_at_random(render(3000 + n, DEFECTS[n % len(DEFECTS)])[0]), True) for n in range(12)]
    settings = {"backbone": "efficientnet_lite0", "image_size": (224, 224), "look_px": 0}
    found = {}
    for name, align in (("with", tmp_path / "golden.png"), ("without", None)):
        good = GoodImages(tmp_path / "good", align=align)
        train_from_folder(good, tmp_path / name, settings, detector="golden")
        with Detector.load(tmp_path / name) as detector:
            scores = np.array([detector.measure(image).image_score for image, _ in tests])
        found[name] = auroc(np.array([defective for _, defective in tests]), scores)
    print(found)
    assert found["with"] > found["without"]
