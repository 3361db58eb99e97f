"""Colours with heights in one model: read, prepared, learnt, judged, kept and shown together."""

from __future__ import annotations

import struct
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from daemons import make_site, started
from patience import wait_until
from test_evidence import open_store

from benchmarks.plates import MM_PER_COUNT, render_plate, write_plates
from edgead.artifact.folder import Artifact
from edgead.artifact.inputs import Preprocessing, Relief
from edgead.artifact.preprocess import as_frame, holes_of, preprocess, read_in_colour, visible_image
from edgead.artifact.training_hashes import content_sha256
from edgead.cli.app import find_images
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.detector import Detector
from edgead.errors import EdgeadError, SettingsError
from edgead.images.files import ImageError, decode_image, load_image, lossless_suffix, storable, write_image
from edgead.images.header import deep_channels
from edgead.images.inputs import each_image
from edgead.images.pairs import colours_in, files_of, heights_in, joined, judged_of, load_deep
from edgead.sources import open_source
from edgead.sources.contract import FrameCounter
from edgead.stream import run
from edgead.synthetic.rejects import find_rejects
from edgead.types import COLOUR, VALUES

SIZE = (96, 96)
RELIEF = Relief(mm_per_count=MM_PER_COUNT, height_mm=0.1, slope_mm=0.01, sigma_px=12)
BOTH = Preprocessing(image_size=SIZE, colour="rgb_relief", relief=RELIEF)
PLATE = render_plate(np.random.default_rng(3), dent_mm=0.3, size=SIZE)
PAIR = joined(PLATE.image, PLATE.heights)


@pytest.fixture(scope="module")
def plates(once):
    def make(path):
        write_plates(path, good=14, tested=3, dents_mm=(0.5,), stains=(0.6,), size=SIZE)

    return once("plates of pairs", make)


def train(data, model, **settings):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    import edgead

    size = {"image_size": list(SIZE), "backbone": "efficientnet_lite0", "false_reject_rate": 0.2, "group": "none"}
    return edgead.train(data, model, **{**size, "mm_per_count": MM_PER_COUNT, **settings})


@pytest.fixture(scope="module")
def pair_model(plates, once):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    return once("pair", lambda path: train(plates / "pairs", path, input="rgb_relief", memory_bank_size=300).close())


def write_pair(folder: Path, name: str = "1.png", heights: np.ndarray = PLATE.heights, place: str = "height") -> Path:
    write_image(folder / "rgb" / name, PLATE.image)
    suffix = lossless_suffix(heights)
    write_image((folder / place / name).with_suffix(suffix), heights)
    return folder / "rgb" / name


# Files


def test_colours_and_heights_are_read_from_folders_beside_each_other(tmp_path):
    path = write_pair(tmp_path)
    np.testing.assert_array_equal(load_deep(path), PAIR)
    assert PAIR.dtype == np.float32 and PAIR.shape == (*SIZE, 4)
    np.testing.assert_array_equal(heights_in(PAIR), PLATE.heights)
    np.testing.assert_array_equal(colours_in(PAIR), PLATE.image)
    np.testing.assert_array_equal(load_image(path), PLATE.image)  # who asks for no depth gets the colours
    assert files_of(path) == [path, tmp_path / "height" / "1.png"]
    dent = write_pair(tmp_path / "kinds" / "dent")
    assert [name for _, name in each_image(tmp_path)] == ["1.png"]
    assert [name for _, name in each_image(tmp_path, recursive=True)] == ["kinds/dent/rgb/1.png", "rgb/1.png"]
    assert find_images([tmp_path]) == [dent, path] and find_images([tmp_path], below=False) == [path]
    assert find_rejects(tmp_path / "kinds") == [(dent, "dent")]
    np.testing.assert_array_equal(read_in_colour(path, "relief"), PLATE.heights)
    np.testing.assert_array_equal(read_in_colour(path, "rgb"), PLATE.image)
    with pytest.raises(ImageError, match=r"rgb/1\.png: .*one channel with 16 bits or floats .*this one has 4 channels"):
        read_in_colour(path, "grey16")
    alone = tmp_path / "1.png"
    write_image(alone, PLATE.image)
    assert files_of(alone) == [alone] and load_deep(alone).dtype == np.uint8


def test_the_z_of_points_is_the_height_as_in_mvtec_3d_ad(tmp_path):
    z = PLATE.heights.astype(np.float32) / 1000
    z[0, 0] = np.nan
    points = np.dstack([z, z + 7, z + 9])  # OpenCV writes the last channel first: X, Y, Z
    path = write_pair(tmp_path, heights=points, place="xyz")
    np.testing.assert_array_equal(heights_in(load_deep(path)), z)
    file = tmp_path / "xyz" / "1.tiff"
    np.testing.assert_array_equal(load_image(file, keep_depth=True), z)
    # OpenCV reads noise where one channel stands after the other.
    chunky, planar = (struct.pack("<HHII", 284, 3, 1, planes) for planes in (1, 2))
    assert file.read_bytes().count(chunky) == 1
    file.write_bytes(file.read_bytes().replace(chunky, planar))
    with pytest.raises(ImageError, match=r"1\.tiff"):
        load_deep(path)


def test_both_fit_into_one_file_that_loses_nothing(tmp_path):
    floats = PAIR.copy()
    floats[2, 3, 3], floats[2, 4, 3] = np.nan, -0.25
    assert lossless_suffix(PAIR) == lossless_suffix(floats) == ".tiff"
    for name, pair in (("counts.tiff", PAIR), ("counts.png", PAIR), ("floats.tiff", floats)):
        path = tmp_path / name
        write_image(path, pair)
        assert deep_channels(path.read_bytes()) == 4
        np.testing.assert_array_equal(load_deep(path), pair)
        if "counts" in name:
            np.testing.assert_array_equal(load_image(path), PLATE.image)
    assert storable(PLATE.heights) is PLATE.heights and storable(PLATE.image) is PLATE.image


def test_what_does_not_belong_together_is_refused_by_its_name(tmp_path):
    path = write_pair(tmp_path)
    heights = tmp_path / "height" / "1.png"
    for image, words in (
        (PLATE.heights[:50], r"1\.png.*96 x 96 pixels, the heights 96 x 50"),
        (PLATE.image, r"height/1\.png.*must be \(H, W\)"),
    ):
        write_image(heights, image)
        with pytest.raises(ImageError, match=words):
            load_deep(path)
    heights.unlink()
    for read in (load_deep, content_sha256):
        with pytest.raises(ImageError, match=r"rgb/1\.png: its heights are missing: there is no 1\.tiff or \.png"):
            read(path)
    with (
        pytest.raises(EdgeadError, match=r"1\.png: its heights are missing"),
        closing(open_source(str(path))) as source,
    ):
        next(iter(source))
    alone = tmp_path / "alone.png"
    write_image(alone, PLATE.image)
    with pytest.raises(ImageError, match=r"alone\.png: .*has no heights"):
        read_in_colour(alone, "rgb_relief")


def test_other_heights_are_another_image(tmp_path):
    first = write_pair(tmp_path / "a")
    second = write_pair(tmp_path / "b", heights=PLATE.heights + 1)
    assert content_sha256(first) != content_sha256(second)
    assert first.read_bytes() == second.read_bytes()


def test_images_of_kinds_lie_in_rgb_and_their_masks_in_gt(plates):
    good = find_good_images(plates / "pairs")
    assert {path.parent for path in good} == {plates / "pairs" / "train/good/rgb"} and len(good) == 14
    assert find_good_images(plates / "pairs/train/good") == good  # a plain folder of pairs
    found = find_test_images(plates / "pairs")
    assert {image.defect for image in found} == {"good", "dent_0.5mm", "stain_60"}
    assert all(image.load_mask(SIZE).any() == image.is_defective for image in found)
    assert found[0].mask == plates / "pairs/test/good/gt/000.png"


# The network's input


def test_the_input_is_that_of_colours_and_that_of_heights():
    found = preprocess(PAIR, BOTH)
    assert found.dtype == np.float32 and found.shape == (*SIZE, 6)
    colour = Preprocessing(image_size=SIZE)
    relief = Preprocessing(image_size=SIZE, colour="relief", relief=RELIEF)
    np.testing.assert_array_equal(found[..., :3], preprocess(PLATE.image, colour))
    np.testing.assert_array_equal(found[..., 3:], preprocess(PLATE.heights, relief))
    out = np.empty((*SIZE, 6), np.float32)
    assert preprocess(PAIR, BOTH, out=out) is out
    np.testing.assert_array_equal(out, found)
    region = BOTH.model_copy(update={"roi": (10, 20, 64, 48)})
    np.testing.assert_array_equal(
        preprocess(PAIR, region)[..., :3], preprocess(PLATE.image, colour.model_copy(update={"roi": region.roi}))
    )


def test_a_hole_hides_what_it_hides_of_heights_alone():
    holed = PAIR.copy()
    holed[20:60, 20:60, 3] = 0
    found, whole = preprocess(holed, BOTH), preprocess(PAIR, BOTH)
    relief = Preprocessing(image_size=SIZE, colour="relief", relief=RELIEF)
    hidden = holes_of(holed, BOTH, (12, 12))
    np.testing.assert_array_equal(hidden, holes_of(heights_in(holed).astype(np.uint16), relief, (12, 12)))
    assert hidden.any() and not hidden.all() and holes_of(PAIR, BOTH, (12, 12)) is None
    np.testing.assert_array_equal(found[..., :3], whole[..., :3])
    assert np.isfinite(found).all() and np.abs(found[..., 3:] - whole[..., 3:]).max() > 10
    nothing = PAIR.copy()
    nothing[..., 3] = np.nan
    with pytest.raises(ImageError, match="0 % of the pixels have a height"):
        preprocess(nothing, BOTH)


def test_only_pairs_are_taken_and_heights_alone_of_a_pair_are_a_relief():
    relief = Preprocessing(image_size=SIZE, colour="relief", relief=RELIEF)
    np.testing.assert_array_equal(as_frame(PAIR, relief), PLATE.heights)
    assert as_frame(PAIR.astype(np.float64), BOTH).dtype == np.float32
    for wrong in (PLATE.image, PLATE.heights, PAIR.astype(np.uint16), PAIR[:0], "part.png"):
        with pytest.raises(ImageError, match="has no heights"):
            as_frame(wrong, BOTH)
    with pytest.raises(ImageError, match="one of them|one size|must be"):
        joined(PLATE.image, PLATE.image)


def test_people_see_the_colours_in_the_light_of_the_relief():
    shown = visible_image(PAIR, BOTH)
    assert shown.dtype == np.uint8 and shown.shape == PLATE.image.shape
    level = PAIR.copy()
    level[..., 3] = 20_000
    np.testing.assert_array_equal(visible_image(level, BOTH), PLATE.image)
    known = PLATE.heights > 0
    assert shown[PLATE.mask & known].std() > 2 * PLATE.image[PLATE.mask & known].std()
    np.testing.assert_array_equal(shown[~known], PLATE.image[~known])


def test_a_manifest_of_pairs_must_fit_together():
    assert Preprocessing.model_validate_json(BOTH.model_dump_json()) == BOTH
    assert BOTH.channels == 6 and BOTH.dtype == "float32" and BOTH.keeps_depth
    assert Preprocessing(image_size=SIZE).channels == 3
    with pytest.raises(ValueError, match="relief"):
        Preprocessing(image_size=SIZE, colour="rgb_relief")


def test_the_backbone_looks_at_both_as_at_one():
    torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.workstation.backbones.pretrained import build_backbone, layer_shapes

    settings = {"layers": ("stride8", "stride16"), "image_size": (64, 96), "pretrained": False}
    torch.manual_seed(0)
    both = build_backbone("efficientnet_lite0", channels=6, **settings)
    image = 255 * torch.rand(2, 6, 64, 96)
    with torch.inference_mode():
        found = both(image)
        expected = [*both.backbone(image[:, :3]), *both.backbone(image[:, 3:])]
    assert layer_shapes(both, (64, 96)) == [(40, 8, 12), (112, 4, 6)] * 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_what_is_learnt_is_what_the_network_gives():
    from edgead.adapt.methods.patchcore import PatchCore
    from edgead.artifact.inputs import Relief
    from edgead.kernels import NearestPatches

    heights = Relief(mm_per_count=0.1, height_mm=1, slope_mm=1, sigma_px=3)
    rng = np.random.default_rng(0)
    images = [rng.uniform(0, 255, (64, 64, 6)).astype(np.float32) for _ in range(12)]
    method = PatchCore.from_settings({"backbone": "efficientnet_lite0", "image_size": [64, 64]}, channels=6)
    method.prepared(method.preprocessing.model_copy(update={"colour": "rgb_relief", "relief": heights}))
    learnt = method.fit(images).arrays["memory_bank"]
    assert learnt.shape[1] == 304
    metric = method.learnt.metric
    assert not metric[:152, 152:].any() and not metric[152:, :152].any()  # nothing in common
    features = method.outputs_of(images[3])["features"].reshape(-1, 304)
    distance, _ = NearestPatches(learnt).search(features)
    assert distance.max() < 1e-2 * np.linalg.norm(features, axis=1).mean()


# From the training to the verdict


def test_dents_and_stains_are_found_and_values_survive(pair_model, plates, tmp_path):
    import edgead

    with edgead.load(pair_model) as model:
        kinds = model.evaluate(plates / "pairs").to_dict()["defect_types"]
        assert {kind: row["image_AUROC"] for kind, row in kinds.items()} == {"dent_0.5mm": 1.0, "stain_60": 1.0}
        model.report(plates / "pairs", tmp_path / "report.html")
        (verdict, *_) = model.predict_all(plates / "pairs/test/stain_60/rgb")
        assert verdict.decision == "reject" and verdict.plot().dtype == np.uint8
        pair = model.read_image(plates / "pairs/test/stain_60/rgb/000.png")
        assert [each.name for each in model.predict_all(plates / "pairs/test/stain_60")] == [
            "000.png",
            "001.png",
            "002.png",
        ]
        assert model.predict(pair) == verdict and model.predict(pair).plot().dtype == np.uint8
        with pytest.raises(ImageError, match="has no heights"):
            model.predict(plates / "images/test/stain_60/000.png")
        with pytest.raises(SettingsError, match="256 levels"):
            model.export("int8", plates / "pairs")
    artifact = Artifact.load(pair_model)
    kept = artifact.image(artifact.manifest.kept[0].image)
    assert any(np.array_equal(kept, load_deep(path)) for path in find_good_images(plates / "pairs"))


def test_runtimes_agree(pair_model):
    pytest.importorskip("onnx", reason="verifying needs the workstation's packages")
    from edgead.export.verify import compare_with_torch, replay_golden

    artifact = Artifact.load(pair_model)
    assert compare_with_torch(artifact).passed
    assert replay_golden(artifact, runtime="onnxruntime").passed
    pytest.importorskip("openvino", reason="OPENVINO NOT TESTED: it is not installed")
    assert replay_golden(artifact, runtime="openvino").passed


@pytest.mark.slow
@pytest.mark.parametrize(("camera", "input"), [("pairs", "rgb_relief"), ("heights", "relief"), ("heights", "grey16")])
def test_gaussians_learn_from_values_too(plates, tmp_path, camera, input):
    pytest.importorskip("onnx", reason="verifying needs the workstation's packages")
    from edgead.export.verify import compare_with_torch

    heights = {"mm_per_count": MM_PER_COUNT if "relief" in input else None}
    with train(plates / camera, tmp_path / "model", input=input, detector="mvg", **heights) as model:
        found = model.evaluate(plates / camera).to_dict()["defect_types"]
        assert model.manifest.preprocessing.colour == input
    if input != "grey16":  # the heights as they are show how the plate lies, and a dent hardly
        assert found["dent_0.5mm"]["image_AUROC"] == 1.0
    if input == "rgb_relief":
        assert found["stain_60"]["image_AUROC"] == 1.0
    assert compare_with_torch(Artifact.load(tmp_path / "model")).passed


# The line


def test_frames_carry_colours_and_heights(tmp_path):
    path = write_pair(tmp_path)
    frames = [*open_source(str(path.parent))]
    write_image(tmp_path / "one" / "both.png", PAIR)
    frames += open_source(str(tmp_path / "one"))
    counter = FrameCounter("a camera")
    frames.append(
        counter.capture(decode_image((tmp_path / "one/both.png").read_bytes(), keep_depth=True), keep_depth=True)
    )
    for frame in frames:
        np.testing.assert_array_equal(frame.image, PLATE.image)
        np.testing.assert_array_equal(frame.others[VALUES], PLATE.heights)
        np.testing.assert_array_equal(frame.others[COLOUR], PLATE.image)
        np.testing.assert_array_equal(judged_of(frame), PAIR)


def test_the_stream_judges_both_shows_the_light_and_keeps_all(pair_model, plates, tmp_path):
    seen = []
    with Detector.load(pair_model) as detector, closing(open_store(tmp_path, evidence="all")) as store:

        def keep(frame, verdict):
            seen.append((frame, verdict))
            store.add(frame, verdict)
            store.keep(frame, verdict)

        data = plates / "pairs/test/dent_0.5mm/rgb"
        summary = run(str(data), detector, [f"images:{tmp_path}/out"], on_verdict=keep)
        assert not summary.fault and summary.decisions["reject"] == 3
        frame, verdict = seen[0]
        pair = load_deep(data / "000.png")
        assert verdict.image_score == detector.measure(pair).image_score
        np.testing.assert_array_equal(frame.image, visible_image(pair, detector.manifest.preprocessing))
        wait_until(lambda: len(store.verdict(frame.id)["images"]) == 3)
        assert set(store.verdict(frame.id)["images"]) == {"frame.jpg", "heat.jpg", "frame.tiff"}
        kept = store.image(frame.id, "frame.tiff")
        assert cv2.imread(str(kept), cv2.IMREAD_UNCHANGED).dtype == np.uint16  # counts are not kept as floats
        np.testing.assert_array_equal(detector.read_image(kept), pair)  # a lesson of it is of what was judged
        np.testing.assert_array_equal(store.recent.find(frame.id), pair)
        floats = replace(frame, others={**frame.others, VALUES: heights_in(pair) / 7}, id=f"{frame.id[:-4]}0000")
        store.add(floats, verdict)
        store.keep(floats, verdict)
        wait_until(lambda: store.image(floats.id, "frame.tiff"))
        np.testing.assert_array_equal(load_deep(store.image(floats.id, "frame.tiff")), judged_of(floats))


def test_models_of_one_of_them_judge_frames_of_both_as_their_own(pair_model, trained_model, plates):
    data = plates / "pairs/test/dent_0.5mm/rgb"
    frame = next(iter(open_source(str(data))))
    with Detector.load(trained_model) as detector:
        big = FrameCounter("x").capture(
            joined(np.zeros((480, 480, 3), np.uint8), np.ones((480, 480), np.float32)), keep_depth=True
        )
        session = detector.session()
        assert session.step(big).image_score == detector.measure(big.image).image_score
        assert not session.shown(big).others
    with Detector.load(pair_model) as detector:
        for planes in ({}, {VALUES: frame.others[VALUES]}):
            with pytest.raises(SettingsError, match="looks at colours with heights, the frame has image"):
                detector.session().step(replace(frame, others=planes))


@pytest.mark.slow
def test_the_daemon_judges_both_and_the_page_has_images_of_them(pair_model, plates, tmp_path):
    data = plates / "pairs/test/stain_60/rgb"
    site = make_site(pair_model, cameras={"top": {"uri": f"{data}/*.png?rate=5"}})
    site["pipelines"]["a"] = {"camera": "top", "model": str(pair_model)}
    site["store"]["evidence"] = "all"
    with started(tmp_path, site) as daemon:
        wait_until(lambda: daemon.api.get("/api/verdicts?pipeline=a").json()["verdicts"])
        place = "/api/verdicts/" + daemon.api.get("/api/verdicts?pipeline=a").json()["verdicts"][0]["id"]
        wait_until(lambda: "frame.tiff" in daemon.api.get(place).json()["images"])
        kept = decode_image(daemon.api.get(f"{place}/images/frame.tiff").content, keep_depth=True)
        assert any(np.array_equal(kept, load_deep(path)) for path in data.iterdir())
        recent = decode_image(daemon.api.get(f"{place}/recent?width=96").content)
        assert abs(recent.astype(int) - colours_in(kept)).mean() < 6  # a JPEG
        daemon.stop()


@pytest.mark.slow
def test_a_model_of_pairs_is_calibrated_taught_and_exported(pair_model, plates, tmp_path):
    import shutil

    import edgead

    path = shutil.copytree(pair_model, tmp_path / "model")
    write_plates(tmp_path / "more", good=16, tested=1, dents_mm=(), size=SIZE, seed=7)
    *good, first, second = sorted((tmp_path / "more/pairs/train/good/rgb").iterdir())
    with edgead.load(path) as model:
        model.export("fp16", plates / "pairs").close()
    assert Artifact.load(path).precisions == ("fp16",)
    with edgead.load(path) as model:
        model.calibrate(good, false_reject_rate=0.2, reason="a test", accept_outliers=True)
        with pytest.raises(SettingsError, match="was taught or calibrated since it was made"):
            model.export("fp32", plates / "pairs")
    old = tmp_path / "frame.jpg"  # marked before the model read heights
    write_image(old, PLATE.image)
    with pytest.raises(SettingsError, match="none of the 1 images has that depth"):
        edgead.teach(path, [old], reason="a test")
    lesson = edgead.teach(path, [first, second], bad=[old], reason="a test")
    assert lesson.to_dict()["left_out"] == 1 and lesson.after["fp16"].bad.images == 0
    assert Artifact.load(path).manifest.preprocessing.colour == "rgb_relief"
