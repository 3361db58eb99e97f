"""Large images: tiles cover a frame, their maps are joined, and every verb goes through the same measurer."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import run_here
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgead import Detector
from edgead.adapt.kept_images import as_kept, kept_images, measure_kept
from edgead.artifact.folder import Artifact
from edgead.artifact.inputs import Ignored
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import (
    aligned,
    alignment_to,
    inputs_of,
    preprocess,
)
from edgead.artifact.tiling import MAX_TILES, Tiling
from edgead.cli.advice import advise
from edgead.dataset.images import Images
from edgead.detector.joined_tiles import Mosaic
from edgead.errors import SettingsError
from edgead.heads.nearest import NearestHead
from edgead.images.files import ImageError, list_images, load_image
from edgead.types import Frame

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
from edgead.export.verify import TorchScores, compare_with_torch, replay_golden  # noqa: E402

from edgead.adapt.training.frame_time import tiles_account  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import AskedTiles, GoodImages, shrink_warning  # noqa: E402
from edgead.workstation.methods.draem.made_pairs import MadePairs  # noqa: E402

SIDES = st.integers(16, 200)


@given(SIDES, SIDES, st.floats(0, 0.5), st.integers(0, 700), st.integers(0, 700))
def test_tiles_cover_the_frame_and_share_what_was_asked_for(height, width, share, more_rows, more_columns):
    overlap = int(share * height), int(share * width)
    shape = height + more_rows, width + more_columns
    try:
        places = Tiling(size=(height, width), overlap=overlap).over(shape)
    except SettingsError as error:
        assert "takes" in str(error)
        return
    for axis, length, side, shared in ((1, shape[0], height, overlap[0]), (0, shape[1], width, overlap[1])):
        origins = sorted({place[axis] for place in places})
        assert origins[0] == 0 and origins[-1] == length - side
        steps = np.diff(origins)
        assert all(0 < step <= side - shared for step in steps)
        assert len(steps) < 2 or max(steps) - min(steps) <= 1  # evenly
    assert len(places) == len(set(places))


def test_what_cannot_be_cut():
    tiling = Tiling(size=(64, 32), overlap=(8, 8))
    with pytest.raises(SettingsError, match="a frame of 31 x 100 pixels is smaller than a tile of 32 x 64"):
        tiling.over((100, 31, 3))
    with pytest.raises(SettingsError, match=f"more than {MAX_TILES}"):
        tiling.over((8000, 8000))
    with pytest.raises(ValidationError, match="by half of their size at most"):
        Tiling(size=(64, 32), overlap=(8, 17))


def test_inputs_are_the_tiles_of_the_region():
    spec = Preprocessing(image_size=(16, 16), roi=(10, 20, 50, 32), tiles=Tiling(size=(32, 32), overlap=(0, 8)))
    image = np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8)
    one, other = inputs_of(spec, image.shape)
    plain = Preprocessing(image_size=(16, 16))
    np.testing.assert_array_equal(preprocess(image, one), preprocess(image[20:52, 10:42], plain))
    np.testing.assert_array_equal(preprocess(image, other), preprocess(image[20:52, 28:60], plain))
    assert inputs_of(plain, image.shape) == [plain]


@given(st.integers(32, 150), st.integers(32, 150), st.integers(0, 16))
def test_joined_maps_show_what_the_tiles_agree_on(height, width, overlap):
    spec = Preprocessing(image_size=(64, 64), tiles=Tiling(size=(32, 32), overlap=(overlap, overlap)))
    mosaic = Mosaic(spec, (8, 8), (height, width))
    joined = mosaic.blank(np.float64)
    for number in range(len(mosaic.inputs)):
        mosaic.add(joined, number, np.full((64, 64), 3.0))
    assert joined.shape == (round(height / 2), round(width / 2))
    np.testing.assert_allclose(joined, 3.0)


def test_a_joined_map_has_no_seam_and_shows_a_place_where_it_lies():
    """Each tile is cut from one smooth map and raised at its outermost pixels, as the network's padding does."""
    rows, columns = np.mgrid[:96, :160] / 40
    whole = np.sin(rows) + np.cos(columns)
    spec = Preprocessing(image_size=(64, 64), tiles=Tiling(size=(64, 64), overlap=(32, 32)))
    mosaic = Mosaic(spec, (64, 64), whole.shape)
    joined = mosaic.blank(np.float64)
    for number, one in enumerate(mosaic.inputs):
        x, y, width, height = one.roi
        tile = whole[y : y + height, x : x + width].copy()
        tile[0] += 1
        mosaic.add(joined, number, tile)
    inner = joined[1:] - whole[1:]
    assert joined.shape == whole.shape
    assert np.abs(inner).max() < 0.02  # 1 at a seam with the maximum, a half with the mean


def test_tiles_as_they_are_asked_for():
    frame, square = (3000, 4096), (448, 448)
    assert AskedTiles.read("auto").tiling(square, frame) == Tiling(size=(896, 896), overlap=(112, 112))
    assert AskedTiles.read("auto").tiling(square, (1260, 500)) == Tiling(size=(500, 500), overlap=(62, 62))
    assert AskedTiles.read(640).tiling((320, 448), frame) == Tiling(size=(457, 640), overlap=(57, 80))
    assert AskedTiles.read("640, 100").tiling(square, frame) == Tiling(size=(640, 640), overlap=(100, 100))
    for wrong in ("640,1,2", "-5", "large", "64.5"):
        with pytest.raises(SettingsError, match="expected auto, or SIZE or SIZE,OVERLAP"):
            AskedTiles.read(wrong)
    with pytest.raises(SettingsError, match="tiles of 640 pixels do not fit in images of 500 x 1260: at most 500"):
        AskedTiles.read("640").tiling(square, (1260, 500))
    with pytest.raises(SettingsError, match="by half of their size at most"):
        AskedTiles.read("640,400").tiling(square, frame)


def test_what_is_shrunk_by_far_is_warned_of():
    spec = Preprocessing(image_size=(448, 448))
    assert shrink_warning((1344, 1300), spec) == ""
    warning = shrink_warning((3000, 4096), spec)
    assert "4096 x 3000 pixels are shrunk 9.1 times" in warning and "--tiles auto" in warning
    tiled = spec.model_copy(update={"tiles": Tiling(size=(896, 896), overlap=(0, 0))})
    assert shrink_warning((3000, 4096), tiled) == ""
    large = spec.model_copy(update={"tiles": Tiling(size=(1500, 1500), overlap=(0, 0))})
    assert shrink_warning((3000, 4096), large).endswith("train with smaller ones")


@pytest.fixture(scope="module")
def tiled_model(line_data, once):
    """A model that sees the line's images of 480 x 480 pixels in four tiles."""
    paths = list_images(line_data / "train" / "good")[:22]
    good = GoodImages(line_data, paths=paths, false_reject_rate=0.1, tiles="288,64")
    settings = {"backbone": "efficientnet_lite0", "image_size": (160, 160), "memory_bank_size": 500}
    return once("tiled", lambda path: train_from_folder(good, path, settings))


@pytest.fixture(scope="module")
def detector(tiled_model):
    with Detector.load(tiled_model, runtime="onnxruntime") as detector:
        yield detector


@pytest.fixture
def part(line_data):
    return load_image(line_data / "test" / "good" / "000.jpg")


def of_tiles(detector, image):
    """What a model of whole frames says of each tile."""
    for one in inputs_of(detector.manifest.preprocessing, image.shape):
        manifest = detector.manifest.with_preprocessing(tiles=None, roi=one.roi)
        with Detector(Artifact(detector.artifact.path, manifest), runtime="onnxruntime") as alone:
            yield one.roi, alone.describe(image)


def test_the_highest_tile_makes_the_score_and_says_what_it_is_like(detector, part):
    cv2.circle(part, (400, 90), 14, (20, 20, 20), -1)
    described = detector.describe(part)
    alone = [one for _, one in of_tiles(detector, part)]
    highest = max(alone, key=lambda one: one.verdict.image_score)
    assert len(alone) == 4
    assert described.verdict.image_score == highest.verdict.image_score
    np.testing.assert_array_equal(described.descriptor, highest.descriptor)


def test_map_and_boxes_are_in_pixels_of_the_frame(detector, part):
    cv2.circle(part, (400, 90), 14, (20, 20, 20), -1)
    verdict = detector.predict(part)
    assert verdict.anomaly_map.dtype == np.float32
    assert verdict.anomaly_map.shape == (67, 67)  # 480 pixels, 288 of them in 160 / 4
    assert verdict.decision == "reject"
    box = verdict.boxes[0]
    assert box.x <= 400 <= box.x + box.width and box.y <= 90 <= box.y + box.height
    wide = cv2.resize(part, (900, 480))
    assert detector.predict(wide).anomaly_map.shape == (67, 125)
    with pytest.raises(SettingsError, match="smaller than a tile of 288 x 288"):
        detector.predict(part[:200])


def test_a_stream_sees_the_same(detector, part):
    session = detector.session()
    frame = Frame(part, 0, 0, datetime.now(timezone.utc), "test")
    assert session.step(frame) == detector.predict(part)


def test_calibrated_on_whole_images(detector, tiled_model):
    """A score for each image, the maximum over its tiles, without what it has taught; they are kept uncut."""
    kept = detector.manifest.kept
    scores = detector.graph.calibration.scores
    assert len(kept) == len(scores) == 22
    assert load_image(kept_images(detector.artifact)[0]).shape == (480, 480, 3)
    again = [measure_kept(detector, one).image_score for one in (kept[0], kept[-1])]
    np.testing.assert_allclose(again, [scores[0], scores[-1]], rtol=1e-6)
    assert detector.manifest.training["training_images"] == 22
    assert replay_golden(detector.artifact, runtime="onnxruntime").passed


@pytest.mark.slow
def test_the_torch_network_agrees(tiled_model):
    parity = compare_with_torch(Artifact.load(tiled_model))
    assert parity.passed and parity.images == 3


def test_an_aligned_part_with_places_to_ignore_is_cut_too(detector, part):
    ignored = Ignored(frame_size=(480, 480), polygons=(((300, 40), (479, 40), (479, 479), (300, 479)),))
    manifest = detector.manifest.with_preprocessing(alignment=alignment_to(part), ignored=ignored)
    turn = cv2.getRotationMatrix2D((239.5, 239.5), 3, 1.0)
    moved = cv2.warpAffine(part, turn, (480, 480), borderMode=cv2.BORDER_REFLECT_101)
    cv2.circle(moved, (140, 200), 14, (20, 20, 20), -1)  # counts
    cv2.circle(moved, (400, 200), 30, (20, 20, 20), -1)  # does not
    artifact = Artifact(detector.artifact.path, manifest)
    with Detector(artifact, runtime="onnxruntime") as laid:
        measured = laid.measure(moved)
    score, anomaly_map = TorchScores(artifact)(moved)
    assert measured.found and measured.measured["alignment"] > 0.9
    assert measured.image_score == pytest.approx(score, rel=1e-4)
    np.testing.assert_allclose(measured.anomaly_map, anomaly_map, atol=1e-3 * anomaly_map.max())
    counted, ignored_place = (measured.anomaly_map[200 * 67 // 480, x * 67 // 480] for x in (140, 400))
    assert counted > 1.5 * ignored_place


def test_images_are_aligned_before_they_are_cut_and_kept_as_they_are(line_data, part):
    tiles = Tiling(size=(288, 288), overlap=(64, 64))
    spec = Preprocessing(image_size=(16, 16), tiles=tiles, alignment=alignment_to(part))
    paths = list_images(line_data / "test" / "good")[1:3]
    image = load_image(paths[1])
    laid = aligned(image, spec).image
    assert not np.array_equal(laid, image)
    np.testing.assert_array_equal(Images(paths, spec)[6], preprocess(laid, inputs_of(spec, laid.shape)[2]))
    assert as_kept(image, spec) is image


def test_a_head_that_remembers_frames_is_refused(tiled_model, monkeypatch):
    monkeypatch.setattr(NearestHead, "new_state", lambda head: [])
    with pytest.raises(SettingsError, match="remembers earlier frames"):
        Detector.load(tiled_model, runtime="onnxruntime")


def test_images_are_their_tiles(line_data):
    paths = list_images(line_data / "test" / "good")[:3]
    spec = Preprocessing(image_size=(16, 16), tiles=Tiling(size=(288, 288), overlap=(64, 64)))
    images = Images(paths, spec)
    assert images.origins == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert images.spread([7, 7, 5]) == [7] * 8 + [5] * 4
    whole = load_image(paths[1])
    np.testing.assert_array_equal(images[5], preprocess(whole[:288, 192:], Preprocessing(image_size=(16, 16))))
    few = images.some(5)
    assert len(few) == 5 and few.origins == sorted(few.origins)
    assert all(any(np.array_equal(one, other) for other in images) for one in few)
    assert images.some(100).origins == images.origins
    assert all(images.some(3, seed).origins == [0, 1, 2] for seed in range(20))  # one of each
    with pytest.raises(ImageError, match=re.escape(f"{paths[0]}: a frame of 480 x 480 pixels is smaller")):
        Images(paths, Preprocessing(image_size=(16, 16), tiles=Tiling(size=(500, 500), overlap=(0, 0))))


def test_what_goes_with_no_tiles(line_data, tmp_path):
    with pytest.raises(SettingsError, match="golden compares a part place by place"):
        train_from_folder(GoodImages(line_data, tiles="auto"), tmp_path / "model", {}, detector="golden")
    with pytest.raises(SettingsError, match="made defects are on whole images"):
        MadePairs(tmp_path, [], Preprocessing(image_size=(16, 16), tiles=Tiling(size=(32, 32), overlap=(0, 0))))


def test_the_terminal_says_what_a_frame_takes(tiled_model, line_data):
    good = GoodImages(line_data, tiles="288,64")
    account = tiles_account(good, "patchcore", {"backbone": "efficientnet_lite0", "image_size": (160, 160)})
    assert re.match(r"4 tiles of 288 x 288 pixels, seen at 160 x 160: about \d+ ms a frame", account)
    assert tiles_account(GoodImages(line_data), "patchcore", {}) == ""
    said = advise(Artifact.load(tiled_model), line_data, replaced=False)
    assert any(line.startswith("A frame of 480 x 480 pixels is 4 tiles and takes about") for line in said)


@pytest.mark.slow
def test_int8_teaching_and_calibration_of_tiles(tiled_model, line_data, tmp_path):
    model = Path(shutil.copytree(tiled_model, tmp_path / "model"))
    good = line_data / "train" / "good"

    def run(*arguments):
        ended = run_here(*arguments)
        assert ended.returncode == 0, ended.stderr

    run("export", model, line_data, "--precision", "int8")
    run("verify", model, "--all")
    run("teach", model, *list_images(good)[42:52], "--yes", "--reason", "x")
    run("calibrate", model, *list_images(good)[22:42], "--false-reject-rate", "0.1")
    with Detector.load(model, precision="int8", runtime="onnxruntime") as detector:
        image = load_image(list_images(good)[55])
        assert detector.predict(image).decision in ("ok", "review")
        cv2.circle(image, (400, 90), 14, (20, 20, 20), -1)
        assert detector.predict(image).decision == "reject"
