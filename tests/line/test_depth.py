"""Images of 16 bits and floats keep their values on every way: file, network, model, stream, evidence, page."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
from daemons import make_site, started
from patience import wait_until
from test_evidence import open_store

from benchmarks.plates import MM_PER_COUNT, render_plate, write_plates
from edgead.artifact.folder import Artifact
from edgead.artifact.inputs import Preprocessing, Range, Relief
from edgead.artifact.preprocess import as_frame, holes_of, preprocess, read_frame, surface_in, visible_image
from edgead.artifact.relief import heights_of, plane_of
from edgead.cli.advice import advise
from edgead.dataset.folders import check_images
from edgead.dataset.ranges import depth_warnings, with_colour
from edgead.detector import Detector
from edgead.errors import EdgeadError, SettingsError
from edgead.images.files import ImageError, load_image
from edgead.images.header import deep_channels
from edgead.line.daemon.active_model import ActiveModel
from edgead.line.daemon.thresholds import KeptThresholds
from edgead.line.drift import DriftSection
from edgead.line.site.schema import PipelineSection
from edgead.sources import gives_depth, open_source
from edgead.stream import run
from edgead.types import VALUES

SIDE = 64
GREY = Preprocessing(image_size=(SIDE, SIDE), colour="grey16", grey16=Range(low=0, high=4095))
RELIEF = Preprocessing(
    image_size=(SIDE, SIDE),
    colour="relief",
    relief=Relief(mm_per_count=0.01, height_mm=0.5, slope_mm=0.1, sigma_px=8),
)
RAMP = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)  # every value of a camera of 12 bits, once


def rolled(number: int) -> np.ndarray:
    """The ramp as another part shows it."""
    return np.ascontiguousarray(np.roll(RAMP, 3 * number, axis=1))


def with_step(image: np.ndarray) -> np.ndarray:
    defective = image.copy()
    defective[20:34, 20:34] = image[20:34, 20:34][::-1, ::-1] // 4 + 3000
    return defective


@pytest.fixture(scope="module")
def deep_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deep")
    for place, count in (("train/good", 14), ("test/good", 3), ("test/step", 3)):
        (folder / place).mkdir(parents=True)
        for number in range(count):
            image = rolled(number if place == "train/good" else 20 + number)
            cv2.imwrite(str(folder / place / f"{number:02d}.png"), with_step(image) if "step" in place else image)
    return folder


def train(data, model, **settings):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    import edgead

    size = {"image_size": [SIDE, SIDE], "memory_bank_size": 200, "backbone": "efficientnet_lite0"}
    return edgead.train(data, model, group="none", **{**size, **settings})


@pytest.fixture(scope="module")
def grey_model(deep_data, once):
    def make(path):
        train(deep_data, path, input="grey16").close()

    return once("grey16", make)


@pytest.fixture(scope="module")
def relief_model(once, tmp_path_factory):
    def make(path):
        plates = tmp_path_factory.mktemp("plates")
        write_plates(plates, good=14, tested=1, dents_mm=(0.3,), size=(96, 96))
        size = {"image_size": [96, 96], "false_reject_rate": 0.2}
        train(plates / "heights", path, input="relief", mm_per_count=MM_PER_COUNT, **size).close()

    pytest.importorskip("torch", reason="training needs the workstation's packages")
    return once("relief", make)


# Files


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_files_of_16_bits_are_read_with_all_of_them_and_as_before_where_nobody_asks(tmp_path, suffix):
    path = tmp_path / f"ramp{suffix}"
    cv2.imwrite(str(path), RAMP * 16)
    np.testing.assert_array_equal(load_image(path, keep_depth=True), RAMP * 16)
    expected = np.repeat(((RAMP.astype(int) * 16 + 128) // 257)[..., None], 3, axis=2)
    np.testing.assert_array_equal(load_image(path), expected)


def test_files_of_floats_are_read_with_their_holes(tmp_path):
    values = RAMP.astype(np.float32) / 7
    values[3, 4] = np.nan
    for dtype in (np.float32, np.float64):
        path = tmp_path / f"{np.dtype(dtype).name}.tiff"
        cv2.imwrite(str(path), values.astype(dtype))
        found = load_image(path, keep_depth=True)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp", ".jpg"])
def test_what_has_8_bits_or_colours_is_read_as_before(tmp_path, suffix):
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    images = {"grey": grey, "colour": np.dstack([grey, grey[::-1], grey])}
    if suffix in (".png", ".tiff"):
        images["deep colour"] = images["colour"].astype(np.uint16) * 257
    for name, image in images.items():
        path = tmp_path / f"{name}{suffix}"
        cv2.imwrite(str(path), image)
        assert not deep_channels(path.read_bytes())
        np.testing.assert_array_equal(load_image(path, keep_depth=True), load_image(path))


def test_a_header_that_is_cut_off_has_no_depth():
    for suffix in (".png", ".tiff", ".pgm"):
        data = cv2.imencode(suffix, RAMP)[1].tobytes()
        assert deep_channels(data) == 1
        assert not any(deep_channels(data[:end]) for end in range(0, 10))


# The network's input


def test_every_value_of_12_bits_reaches_the_input():
    given = preprocess(RAMP, GREY)
    assert given.dtype == np.float32 and given.shape == (SIDE, SIDE, 3)
    assert len(np.unique(given)) == RAMP.size
    np.testing.assert_allclose(given[..., 1], RAMP * (255 / 4095), rtol=1e-5)


@pytest.mark.parametrize(
    ("factor", "said"), [(1, "4,096 grey levels, 0 to 4,095 of 65,535, and 8 bits keep 17"), (16, "8 bits keep 256")]
)
def test_what_8_bits_lose_of_more_is_said(tmp_path, factor, said):
    paths = [tmp_path / "ramp.tiff", tmp_path / "ramp.png"]
    for path in paths:
        cv2.imwrite(str(path), RAMP * factor)
    eight_bits = Preprocessing(image_size=(SIDE, SIDE))
    (warning,) = depth_warnings(paths, eight_bits)
    assert said in warning and "--input grey16" in warning
    assert depth_warnings(paths, GREY) == []
    cv2.imwrite(str(paths[0]), np.uint16(257) * (RAMP % 256))  # 8 bits in a file of 16
    assert depth_warnings(paths[:1], eight_bits) == []


def test_what_lies_beyond_the_range_keeps_its_distance():
    bright = RAMP + np.uint16(60_000)
    given = preprocess(bright, GREY)
    assert len(np.unique(given)) == RAMP.size and given.max() > 255


def test_a_plane_is_taken_whatever_stands_on_it():
    rows, columns = np.mgrid[:50, :80].astype(np.float32)
    plane = 3 + 0.02 * columns - 0.05 * rows
    seen = plane.copy()
    seen[10:20, 10:30] += 7  # a boss, of 5 % of the pixels
    known = np.ones(plane.shape, bool)
    known[40:, 60:] = False
    assert np.abs(plane_of(seen, known) - plane).max() < 1e-3


def test_a_tilt_and_a_lift_change_nothing_that_is_shown():
    level, tilted = (
        render_plate(np.random.default_rng(3), dent_mm=0.3, tilt_mm=tilt, size=(96, 96)).heights
        for tilt in ((0, 0), (4, -3))
    )
    spec = RELIEF.model_copy(update={"image_size": (96, 96)})
    found = [surface_in(heights, spec) for heights in (level, tilted, level + np.uint16(500) * (level > 0))]
    for one in found[1:]:
        # Counts are rounded elsewhere on a plate that lies otherwise: the surface itself is the same.
        assert np.abs(one.height - found[0].height).mean() < 0.01 / 2


def test_holes_are_filled_with_what_lies_around_and_hide_what_lies_near():
    spec = RELIEF.model_copy(update={"image_size": (160, 160)})
    heights = render_plate(np.random.default_rng(4)).heights
    assert (heights == 0).any() and holes_of(heights, spec, (20, 20)) is None  # single pixels hide nothing
    heights[40:54, 48:62] = 0
    filled = heights_of(heights, spec.relief).mm
    inside, outside = filled[40:54, 48:62], filled[100:, 100:]
    assert 0.5 < inside.std() / outside.std() < 2
    holes = holes_of(heights, spec, (20, 20))
    assert holes[5, 6] and holes[6, 7] and holes[3, 6] and not holes[0, 0] and not holes[15, 15] and holes.mean() < 0.3
    floats = np.where(heights == 0, np.nan, heights).astype(np.float32)
    np.testing.assert_array_equal(preprocess(floats, spec), preprocess(heights, spec))


def test_ignored_places_are_holes_and_grey_in_the_middle():
    ignored = {"frame_size": (SIDE, SIDE), "polygons": [[(8, 8), (24, 8), (24, 24), (8, 24)]]}
    grey = Preprocessing.model_validate({**GREY.model_dump(), "ignored": ignored})
    assert np.unique(preprocess(RAMP, grey)[9:23, 9:23]).size == 1
    relief = Preprocessing.model_validate({**RELIEF.model_dump(), "ignored": ignored})
    assert holes_of(np.full((SIDE, SIDE), 900, np.uint16), relief, (8, 8))[1, 1]


def test_what_cannot_be_judged_is_refused_in_words():
    with pytest.raises(ImageError, match="0 % of the pixels have a height"):
        preprocess(np.zeros((SIDE, SIDE), np.uint16), RELIEF)
    comb = np.full((SIDE, SIDE), 900, np.uint16)
    comb[:, ::16] = comb[:, 1::16] = comb[:, 2::16] = comb[:, 3::16] = comb[:, 4::16] = 0
    with pytest.raises(ImageError, match="no place is left to look at"):
        holes_of(comb, RELIEF, (8, 8))
    with pytest.raises(ImageError, match="NaN or infinite"):
        preprocess(np.full((SIDE, SIDE), np.nan, np.float32), GREY)
    for image in (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.uint16)):
        with pytest.raises(ImageError, match="one channel with 16 bits or floats"):
            as_frame(image, GREY)


def test_people_are_shown_8_bits_of_the_range_and_a_relief_with_its_holes():
    shown = visible_image(RAMP, GREY)
    assert shown.dtype == np.uint8 and (shown.min(), shown.max()) == (0, 255)
    plate = render_plate(np.random.default_rng(5), dent_mm=0.5, size=(96, 96))
    shown = visible_image(plate.heights, RELIEF).astype(int)
    blue = shown[..., 0] - shown[..., 2]
    assert (blue[plate.heights == 0] > 0).all() and not blue[plate.heights > 0].any()
    known = plate.heights > 0
    assert shown[plate.mask & known].std() > 2 * shown[~plate.mask & known].std()
    assert visible_image(np.zeros((9, 9), np.uint16), RELIEF).shape == (9, 9, 3)


# The manifest


def test_a_manifest_of_8_bits_is_what_it_was_and_others_must_fit_together():
    assert not {"grey16", "relief"} & Preprocessing(image_size=(8, 8)).model_dump().keys()
    assert Preprocessing.model_validate_json(RELIEF.model_dump_json()) == RELIEF
    for wrong in (
        {"colour": "grey16"},
        {"colour": "rgb", "grey16": {"low": 0, "high": 1}},
        {"colour": "relief", "grey16": {"low": 0, "high": 1}},
        {"colour": "grey16", "grey16": {"low": 2, "high": 2}},
        {"colour": "relief", "relief": {**RELIEF.relief.model_dump(), "mm_per_count": 0}},
        {"colour": "relief", "relief": {**RELIEF.relief.model_dump(), "invalid": 7}},
        {"colour": "cmyk"},
    ):
        with pytest.raises(ValueError, match=r"grey16|relief|range|rgb|mm_per_count|invalid|colour"):
            Preprocessing.model_validate({"image_size": (8, 8), **wrong})


def test_a_range_is_that_of_the_good_parts(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), 700 + RAMP // 8)
    paths = sorted(tmp_path.iterdir())
    found = with_colour(Preprocessing(image_size=(8, 8)), "grey16", None, paths)
    assert 700 <= found.grey16.low < 705 and 1205 < found.grey16.high <= 1211
    with pytest.raises(SettingsError, match="mm-per-count"):
        with_colour(Preprocessing(image_size=(8, 8)), "relief", None, paths)
    lost = tmp_path / "lost.png"
    cv2.imwrite(str(lost), np.zeros((9, 9), np.uint16))
    with pytest.raises(EdgeadError, match=r"lost\.png: 0 % of the pixels have a height"):
        with_colour(Preprocessing(image_size=(8, 8)), "relief", 0.01, [lost])
    flat = tmp_path / "flat.png"
    cv2.imwrite(str(flat), np.full((9, 9), 5, np.uint16))
    with pytest.raises(EdgeadError, match="nothing is on them"):
        with_colour(Preprocessing(image_size=(8, 8)), "grey16", None, [flat])


# From the training to the verdict


def test_values_survive_the_training_and_the_model(grey_model, deep_data):
    artifact = Artifact.load(grey_model)
    spec = artifact.manifest.preprocessing
    assert spec.colour == "grey16" and 0 <= spec.grey16.low < 10 and 4085 < spec.grey16.high <= 4095
    assert any("watch:FOLDER" in line for line in advise(artifact, deep_data, replaced=False))
    for golden in artifact.manifest.graphs["fp32"].golden:
        values = artifact.image(golden.image)
        assert values.dtype == np.uint16 and len(np.unique(values)) > 3900  # shifted by a pixel, and turned
    kept = artifact.image(artifact.manifest.kept[0].image)
    assert sorted(kept.ravel()) == sorted(RAMP.ravel())
    with Detector(artifact) as detector:
        detector.measure(detector.read_image(deep_data / "test/good/00.png"))
        assert detector._runtime.input.dtype == np.float32
        assert len(np.unique(detector._runtime.input)) == RAMP.size


def test_defects_are_found_and_shown(grey_model, deep_data, tmp_path):
    import edgead

    with edgead.load(grey_model) as model:
        assert model.evaluate(deep_data).to_dict()["image_AUROC"] == 1.0
        model.report(deep_data, tmp_path / "report.html")
        (verdict, *_) = model.predict_all(deep_data / "test/step")
        assert verdict.decision == "reject" and verdict.plot().dtype == np.uint8
        of_array = model.predict(load_image(deep_data / "test/step/00.png", keep_depth=True))
        assert of_array == verdict and of_array.plot().dtype == np.uint8
        for wrong in (np.zeros((SIDE, SIDE, 3), np.uint8), rolled(0).astype(np.uint8)):
            with pytest.raises(ImageError, match="8 bits"):
                model.predict(wrong)


def test_a_colour_file_is_refused_by_its_name(grey_model, tmp_path):
    path = tmp_path / "colour.png"
    cv2.imwrite(str(path), np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ImageError, match=r"colour\.png: the model reads images of one channel"):
        read_frame(path, Artifact.load(grey_model).manifest.preprocessing)
    with pytest.raises(EdgeadError, match=r"colour\.png"):
        check_images([path], read=lambda path: read_frame(path, GREY))


def test_runtimes_agree(grey_model, relief_model):
    pytest.importorskip("onnx", reason="verifying needs the workstation's packages")
    from edgead.export.verify import compare_with_torch, replay_golden

    for model in (grey_model, relief_model):
        artifact = Artifact.load(model)
        assert compare_with_torch(artifact).passed
        assert replay_golden(artifact, runtime="onnxruntime").passed
    pytest.importorskip("openvino", reason="OPENVINO NOT TESTED: it is not installed")
    assert replay_golden(artifact, runtime="openvino").passed


def test_a_tilt_changes_no_score_by_a_hundredth_and_a_hole_makes_none(relief_model):
    with Detector.load(relief_model) as detector:
        limit = detector.threshold
        for number in range(4):
            level, tilted, dented = (
                render_plate(np.random.default_rng([7, number]), tilt_mm=tilt, dent_mm=dent, size=(96, 96)).heights
                for tilt, dent in (((0, 0), 0), ((1.5, -1), 0), ((1.5, -1), 0.5))
            )
            score = detector.measure(level).image_score
            # Counts are rounded elsewhere on a plate that lies otherwise, as noise is; of floats, none are.
            assert detector.measure(tilted).image_score == pytest.approx(score, rel=0.05)
            rows, columns = np.mgrid[:96, :96]
            floats = np.where(level > 0, level + 3.3 * columns - 2.1 * rows + 90, np.nan).astype(np.float32)
            assert detector.measure(floats).image_score == pytest.approx(score, rel=0.001)
            assert detector.measure(dented).image_score > 1.3 * limit
            dented[render_plate(np.random.default_rng([7, number]), dent_mm=0.5, size=(96, 96)).mask] = 0
            assert detector.measure(dented).image_score < 1.3 * limit
        with pytest.raises(ImageError, match="of the pixels have a height"):
            detector.measure(np.zeros((96, 96), np.uint16))


def test_a_model_of_8_bits_sees_16_bits_as_before(trained_model, tmp_path):
    grey = np.random.default_rng(1).integers(0, 256, (480, 480), np.uint8)
    for name, image in (("8", grey), ("16", grey.astype(np.uint16) * 257)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "part.png"), image)
    with Detector.load(trained_model) as detector:
        scores = []
        for name in ("8", "16"):
            assert not run(str(tmp_path / name), detector, [], on_verdict=lambda f, v: scores.append(v)).fault
        assert scores[0].image_score == scores[1].image_score


# The line


def test_frames_carry_values_beside_the_image(deep_data, tmp_path):
    (frame, *_) = open_source(str(deep_data / "test/good"))
    np.testing.assert_array_equal(frame.others[VALUES], rolled(20))
    assert frame.image.dtype == np.uint8 and frame.image.shape == (SIDE, SIDE, 3)
    cv2.imwrite(str(tmp_path / "floats.tiff"), RAMP.astype(np.float32) / 10)
    (frame,) = open_source(str(tmp_path))
    assert frame.others[VALUES].dtype == np.float32 and frame.image.max() == 255
    uris = ("watch:/x", "request:", "camera:0", "synthetic:")
    assert [gives_depth(uri) for uri in uris] == [True, True, False, False]


def test_the_stream_judges_values_shows_a_image_and_keeps_both(grey_model, deep_data, tmp_path):
    seen = []
    with Detector.load(grey_model) as detector, closing(open_store(tmp_path, evidence="all")) as store:

        def keep(frame, verdict):
            seen.append((frame, verdict))
            store.add(frame, verdict)
            store.keep(frame, verdict)

        summary = run(str(deep_data / "test/step"), detector, [f"images:{tmp_path}/out"], on_verdict=keep)
        assert not summary.fault and summary.decisions["reject"] == 3
        frame, verdict = seen[0]
        np.testing.assert_array_equal(frame.image, detector.visible(frame.others[VALUES]))
        wait_until(lambda: len(store.verdict(frame.id)["images"]) == 3)
        kept = cv2.imread(str(store.image(frame.id, "frame.png")), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(kept, with_step(rolled(20)))
        assert set(store.verdict(frame.id)["images"]) == {"frame.jpg", "heat.jpg", "frame.png"}
        np.testing.assert_array_equal(store.recent.find(frame.id), kept)
        floats = replace(frame, others={VALUES: kept.astype(np.float32)}, id=f"{frame.id[:-4]}0000")
        store.add(floats, verdict)
        store.keep(floats, verdict)
        wait_until(lambda: store.image(floats.id, "frame.tiff"))
        of_floats = load_image(store.image(floats.id, "frame.tiff"), keep_depth=True)
        np.testing.assert_array_equal(of_floats, kept.astype(np.float32))


def test_drift_is_watched_by_what_is_shown(grey_model, deep_data, tmp_path):
    slot = ActiveModel(
        "a", PipelineSection(camera="top", model=grey_model), KeptThresholds(tmp_path / "kept"), threads=1
    )
    slot.load()
    with closing(slot):
        assert slot.self_test().passed and slot.keeps_depth
        assert not slot.golden()  # the camera's own frames are not as bright as what people are shown
        watch = slot.drift_watch(DriftSection(most_flagged=0.6))
        for number in range(14):
            cv2.imwrite(str(tmp_path / f"{number:02d}.png"), rolled(number))
        for frame in open_source(str(tmp_path)):
            verdict = slot.step(frame)
            state = watch.add(verdict, slot.shown(frame).image)
        assert state.cause != "camera" and state.parts == 14


def test_floats_are_not_for_a_model_of_8_bits(trained_model, tmp_path):
    cv2.imwrite(str(tmp_path / "part.tiff"), np.random.default_rng(0).random((480, 480)).astype(np.float32))
    with Detector.load(trained_model) as detector, closing(open_source(f"{tmp_path}/*.tiff")) as source:
        with pytest.raises(SettingsError, match="the frame has floats, and the model reads images of 8 bits"):
            detector.session().step(next(iter(source)))


def test_a_stream_of_8_bits_is_refused_in_words(grey_model):
    with Detector.load(grey_model) as detector:
        assert "files of one channel with 16 bits" in run("synthetic:?count=2", detector, []).fault


def test_the_daemon_judges_values_and_the_page_has_images_of_them(grey_model, deep_data, tmp_path):
    site = make_site(grey_model, cameras={"top": {"uri": f"{deep_data}/test/step/*.png?rate=5"}})
    site["cameras"]["line"] = {"uri": "synthetic:?rate=5&repeat=1&count=3"}
    site["pipelines"]["a"] = {"camera": "top", "model": str(grey_model)}
    site["pipelines"]["b"] = {"camera": "line", "model": str(grey_model)}
    site["store"]["evidence"] = "all"
    with started(tmp_path, site) as daemon:
        refused = daemon.wait_state("fault", "b", reason="camera line gives 8 bits")
        assert "grey16" in refused["reason"]
        wait_until(lambda: daemon.api.get("/api/verdicts?pipeline=a").json()["verdicts"])
        record = daemon.api.get("/api/verdicts?pipeline=a").json()["verdicts"][0]
        place = f"/api/verdicts/{record['id']}/images"
        wait_until(lambda: daemon.api.get(f"{place}/frame.png").status_code == 200)
        data = np.frombuffer(daemon.api.get(f"{place}/frame.png").content, np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_UNCHANGED).dtype == np.uint16
        shown = cv2.imdecode(np.frombuffer(daemon.api.get(f"{place}/frame.jpg").content, np.uint8), cv2.IMREAD_COLOR)
        assert shown.max() > 240  # 4,095 of 65,535 would be 16 of 255
        daemon.stop()


# What is done to a finished model


@pytest.mark.slow
def test_a_model_of_values_is_exported_calibrated_and_taught(grey_model, deep_data, tmp_path):
    import shutil

    import edgead

    path = shutil.copytree(grey_model, tmp_path / "model")
    good, new = tmp_path / "good", tmp_path / "new"
    good.mkdir()
    new.mkdir()
    for number in range(16):
        cv2.imwrite(str((good if number < 14 else new) / f"{number:02d}.png"), np.roll(rolled(number), 7, axis=0))
    with edgead.load(path) as model:
        with pytest.raises(SettingsError, match="256 levels"):
            model.export("int8", deep_data)
        model.export("fp16", deep_data)
    with edgead.load(path) as model:
        model.calibrate(good, false_reject_rate=0.2, reason="a test", accept_outliers=True)
    lesson = edgead.teach(path, sorted(new.iterdir()), reason="a test")
    assert lesson.to_dict()
    assert json.loads((path / "manifest.json").read_text())["inputs"][0]["plane"] == VALUES


def test_what_does_not_go_with_depth_is_refused_before_anything_is_read(deep_data, tmp_path):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    import edgead

    for settings, words in (
        ({"input": "rgb_relief"}, "mm.per.count"),
        ({"input": "rgb_relief", "mm_per_count": 0.1, "tiles": 32}, "take a plane"),
        ({"input": "rgb_relief", "mm_per_count": 0.1, "align": "x.png"}, "8-bit images"),
        ({"input": "grey12"}, "choose rgb, grey16, relief, rgb_relief"),
        ({"input": "relief"}, "mm.per.count"),
        ({"input": "grey16", "mm_per_count": 0.1}, "mm.per.count"),
        ({"input": "relief", "mm_per_count": -1.0}, "above 0"),
        ({"input": "relief", "mm_per_count": 0.1, "tiles": 32}, "takes a plane|take a plane"),
        ({"input": "grey16", "detector": "simplenet"}, "simplenet learns from rgb images"),
    ):
        with pytest.raises(EdgeadError, match=words):
            edgead.train(deep_data, tmp_path / "model", **settings)
    assert not (tmp_path / "model").exists()
