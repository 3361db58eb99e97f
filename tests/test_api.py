"""The way a program begins: what users of other libraries type at first works, or says what to type instead."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import make_verdict

import edgead
from edgead.adapt.recalibrate import AskedRates
from edgead.api.errors import in_python
from edgead.artifact.folder import Artifact
from edgead.detector import ClosedError
from edgead.errors import EdgeadError, SettingsError
from edgead.images.files import ImageError

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def model(trained_model):
    with edgead.load(trained_model) as model:
        yield model


@pytest.fixture(scope="module")
def path(line_data) -> Path:
    return line_data / "test" / "dent" / "000.jpg"


@pytest.fixture(scope="module")
def part(path) -> np.ndarray:
    return edgead.load_image(path)


@pytest.fixture(scope="module")
def rgb(part) -> np.ndarray:
    return np.ascontiguousarray(part[:, :, ::-1])


@pytest.fixture(scope="module")
def verdict(model, part):
    return model.predict(part)


@pytest.fixture(scope="module")
def pillow():
    return pytest.importorskip("PIL.Image", reason="PIL NOT TESTED")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch NOT TESTED")


@pytest.fixture
def plugin(monkeypatch):
    """A method that is trained at once."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    monkeypatch.syspath_prepend(str(PLUGIN))


def test_row_1_threads_share_a_detector(model, line_data):
    images = [edgead.load_image(path) for path in sorted((line_data / "test" / "good").iterdir())]
    expected = [model.predict(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(model.predict, 3 * images)) == 3 * expected


def test_row_2_files_folders_and_lists(model, path, verdict, line_data):
    assert model.predict(path) == model.predict(str(path)) == model.predict(path.read_bytes()) == verdict
    of_folder = list(model.predict(line_data / "test" / "good"))
    assert [one.name for one in of_folder] == [f"{number:03d}.jpg" for number in range(8)]
    below = {one.name: one for one in model.predict(line_data / "test", recursive=True)}
    assert len(below) == 20 and below["dent/000.jpg"] == verdict
    listed = [path, str(line_data / "test" / "good" / "000.jpg")]
    assert [one.name for one in model.predict(listed)] == ["dent/000.jpg", "good/000.jpg"]
    assert [one.name for one in model.predict([*listed, path.read_bytes()])] == ["000.jpg", "000.jpg", ""]
    around = [line_data / "test" / "good" / ".." / "dent" / "000.jpg", listed[1]]
    assert [one.name for one in model.predict(around)] == ["dent/000.jpg", "good/000.jpg"]


def test_row_3_pil_images_and_tensors_are_rgb(model, path, part, rgb, verdict, pillow, torch):
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    for same in (pillow.open(path), pillow.fromarray(rgb), tensor, tensor.float() / 255):
        assert model.predict(same) == verdict
    assert model.predict(rgb, colour="rgb") == model.predict(tensor.flip(0), colour="bgr") == verdict
    assert model.predict(rgb) != verdict  # taken for BGR
    with_alpha = np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])
    assert model.predict(with_alpha, colour="rgb") == model.predict(pillow.fromarray(with_alpha)) == verdict
    grey = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    expected = model.predict(grey)
    deep = grey.astype(np.uint16) * 257
    for same in (pillow.fromarray(grey), torch.from_numpy(grey), torch.from_numpy(grey)[None], pillow.fromarray(deep)):
        assert model.predict(same) == expected


def test_row_3_a_pil_image_lies_as_its_file_does(model, part, pillow, tmp_path):
    exif = pillow.Exif()
    exif[0x0112] = 6  # turned by a quarter
    pillow.fromarray(part).save(tmp_path / "turned.png", exif=exif)
    turned = pillow.open(tmp_path / "turned.png")
    assert model.predict(turned) != model.predict(pillow.fromarray(part))
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert model.predict(pillow.open(tmp_path / "turned.jpg")) == model.predict(tmp_path / "turned.jpg")


def test_row_3_what_is_no_image_is_refused_in_words(model, part, pillow, torch):
    normalised = torch.zeros(3, 8, 8) - 1
    for bad, words in (
        (normalised, "within 0 and 1.*leave the normalisation out"),
        (torch.zeros(8, 8, 3), r"must be \(3, H, W\)"),
        (part.astype(np.float32), "convert it to uint8"),
        (pillow.fromarray(np.zeros((8, 8), np.int32)), "uint8 or uint16, found int32"),
        (3, "found int"),
    ):
        with pytest.raises(ImageError, match=words):
            model.predict(bad)
    with pytest.raises(SettingsError, match="colour='hsv': choose bgr"):
        model.predict(part, colour="hsv")


def test_row_4_an_image_that_cv2_could_not_read(model):
    with pytest.raises(ImageError, match="cv2.imread gives None when it cannot read the file"):
        model.predict(cv2.imread("nope.png"))
    with pytest.raises(ImageError, match="nope.png: no such file"):
        model.predict("nope.png")
    with pytest.raises(ImageError, match="read it with edgead.load_image"):
        model.measure("nope.png")


def test_row_5_many_images_one_by_one(model, part, rgb, verdict, torch, line_data, tmp_path):
    assert list(model.predict(np.stack([part, part]))) == [verdict] * 2
    tensors = torch.from_numpy(np.stack([rgb, rgb])).permute(0, 3, 1, 2)
    assert list(model.predict(tensors)) == [verdict] * 2
    verdicts = model.predict(image for image in [part, "nope.png"])
    assert next(verdicts) == verdict  # the second is not read before its turn
    with pytest.raises(ImageError, match="no such file"):
        next(verdicts)
    with pytest.raises(ImageError, match="or give recursive=True"):
        model.predict(line_data / "test")
    with pytest.raises(ImageError, match="nor in the folders below"):
        model.predict(tmp_path, recursive=True)


def test_rows_6_to_8_training_is_a_function(plugin, line_data, tmp_path):
    from edgead import train

    stages = set()
    model = train(
        line_data / "train" / "good",
        tmp_path / "model",
        detector="dummy",
        false_reject_rate=0.1,
        progress=lambda stage, done, total: stages.add(stage),
    )
    with model:
        assert model.graph.calibration.false_reject_rate == 0.1 and "calibrate" in stages
    with edgead.load(tmp_path / "model") as again:
        assert again.threshold == model.threshold
    with pytest.raises(SettingsError, match="dummy has no setting fals_reject_rate"):
        train(line_data, tmp_path / "none", detector="dummy", fals_reject_rate=0.1)


def test_row_8_of_a_data_set_its_good_images_are_learnt_and_those_left_out_are_named(
    plugin, line_data, tmp_path, caplog
):
    shutil.copytree(line_data / "train" / "good", tmp_path / "train" / "good")
    (tmp_path / "train" / "good" / "broken.jpg").write_bytes(b"\xff\xd8")
    with edgead.train(tmp_path, tmp_path / "model", detector="dummy", skip_bad=True) as model:
        facts = model.manifest.training
    assert facts["training_images"] + facts["calibration_images"] == 60 and facts["skipped_images"] == 1
    assert "left out" in caplog.text and "broken.jpg" in caplog.text


def test_errors_name_parameters_not_options(plugin, model, line_data, tmp_path):
    data = tmp_path / "good"
    shutil.copytree(line_data / "train" / "good", data)
    (data / "broken.jpg").write_bytes(b"\xff\xd8")

    def said(detector="dummy", **options):
        with pytest.raises(EdgeadError) as raised:
            edgead.train(data, tmp_path / "model", detector=detector, **options)
        return str(raised.value)

    assert "remove them, or leave them out with skip_bad:\n" in said()
    assert said(skip_bad=True, group="(").startswith("group '(' is no regular expression")
    assert said(preset="auto").startswith("preset auto is of patchcore; ")
    assert said(latency_ms=5).startswith("latency_ms belongs to preset auto; ")
    with pytest.raises(SettingsError, match="^group '[(]' is no regular expression"):
        model.evaluate(line_data, group="(")


def test_an_error_that_names_a_command_keeps_its_options():
    command = 'make one with `edgead distill IMAGES --model-size nano -o FILE` or "edgead export m --precision fp16"'
    assert in_python(f"{command}, and give --weights FILE") == f"{command}, and give weights FILE"
    assert in_python("a--b, ---c and -- are no options") == "a--b, ---c and -- are no options"


def test_images_of_equal_names_in_two_folders_are_both_looked_at(plugin, line_data, tmp_path):
    good = sorted((line_data / "train" / "good").iterdir())
    for index, path in enumerate(good):
        folder = tmp_path / "data" / f"camera{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{index // 2}.jpg")
    odd = tmp_path / "data" / "camera0" / "0.jpg"
    cv2.imwrite(str(odd), cv2.resize(cv2.imread(str(odd)), (600, 100)))
    paths = sorted(path for path in (tmp_path / "data").rglob("*.jpg"))
    with edgead.train(tmp_path / "data", tmp_path / "model", detector="dummy", paths=paths) as model:
        (warning,) = model.manifest.training["odd_images"]
    assert warning.startswith(f"1 of {len(good)} images, {Path('camera0', '0.jpg')} first, have other proportions")


def test_row_9_a_path_instead_of_an_artifact():
    with pytest.raises(SettingsError, match=r"open a model with edgead.load\('out/model'\)"):
        edgead.Detector("out/model")


def test_row_10_a_device_instead_of_a_runtime(trained_model):
    for load in (edgead.Detector.load, edgead.load):
        with pytest.raises(SettingsError, match="device='cuda': .*runtime='tensorrt' on an NVIDIA GPU"):
            load(trained_model, device="cuda")


def test_row_11_an_unknown_runtime(trained_model):
    with pytest.raises(SettingsError, match="unknown runtime 'onnx': choose auto or one of onnxruntime"):
        edgead.load(trained_model, runtime="onnx")


def test_row_12_a_detector_says_what_it_is(trained_model):
    with edgead.load(trained_model) as model:
        said = f"Model(patchcore, 160x160, fp32 on onnxruntime, reject > {model.threshold:.4g}"
        assert repr(model) == f"{said})"
    assert repr(model) == f"{said}, closed)"


def test_row_13_a_verdict_says_what_it_is(model, verdict):
    boxes = len(verdict.boxes)
    assert repr(verdict) == (
        f"Verdict({verdict.decision}, score {verdict.image_score:.4g} > {model.threshold:.4g}, "
        f"{boxes} box{'es' * (boxes != 1)})"
    )
    assert repr(make_verdict(0.9)) == "Verdict(reject, score 0.9 > 0.5, 1 box)"
    shown = cv2.imdecode(np.frombuffer(verdict._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert (shown == verdict.plot()).all()
    large = model.predict(np.zeros((1000, 1500, 3), np.uint8))
    assert max(cv2.imdecode(np.frombuffer(large._repr_png_(), np.uint8), cv2.IMREAD_COLOR).shape) == 800
    assert replace(verdict, image=None)._repr_png_() is None


def test_row_14_a_verdict_is_drawn_saved_and_written(model, path, verdict, tmp_path):
    assert verdict.is_reject and verdict.mask.sum() == (verdict.anomaly_map > verdict.map_threshold).sum() > 0
    assert (verdict.plot(colour="rgb") == verdict.plot()[:, :, ::-1]).all()
    record = json.loads(verdict.to_json())
    assert record == verdict.to_dict() and record["decision"] == "reject" and record["boxes"]
    of_file = model.predict(path)
    assert of_file.image == path and of_file.to_dict()["name"] == "000.jpg"  # a folder of images fills no memory
    assert of_file.save(tmp_path / "new") == tmp_path / "new" / "000.jpg_reject.jpg"
    beside = replace(of_file, name="000.png")
    assert beside.save(tmp_path / "new") != of_file.save(tmp_path / "new")
    assert of_file.save(tmp_path / "one.png") == tmp_path / "one.png"
    assert (edgead.load_image(tmp_path / "one.png") == of_file.plot()).all()
    below = {one.name: one for one in model.predict(path.parent.parent, recursive=True)}
    assert below["dent/000.jpg"].save(tmp_path) == tmp_path / "dent" / "000.jpg_reject.jpg"
    with pytest.raises(ImageError, match="an array has no name"):
        verdict.save(tmp_path)


@pytest.mark.parametrize("score", [0.1, 0.9])
def test_row_15_a_verdict_is_neither_true_nor_false(score):
    with pytest.raises(TypeError, match="ask for verdict.is_reject"):
        bool(make_verdict(score))


def test_row_16_verdicts_compare(model, part, verdict):
    again = model.predict(part)
    assert again == verdict and hash(again) == hash(verdict) and len({again, verdict}) == 1
    assert again.stage_times != verdict.stage_times
    other_map = replace(verdict, anomaly_map=verdict.anomaly_map + 1)
    assert verdict != other_map and verdict != replace(verdict, pipeline="top") and verdict != "reject"
    assert make_verdict(0.9) == make_verdict(0.9) != make_verdict(0.8)


def test_row_17_a_model_is_measured_and_reported(model, line_data, tmp_path):
    assert model.threshold == model.graph.calibration.reject
    evaluation = model.evaluate(line_data)
    assert evaluation.to_dict() == edgead.evaluate(model.artifact.path, line_data).to_dict()
    found = evaluation.to_dict()["escape_rate"]
    assert repr(evaluation).startswith("Evaluation(20 images, image AUROC 0.")
    assert f"{found['count']} of {found['total']} defects passed" in repr(evaluation)
    page = model.report(line_data, tmp_path / "new" / "page.html")
    assert "The worst misses" in page.read_text()


def test_row_17_a_model_is_calibrated(model_copy, line_data, part):
    good = [line_data / "test" / "good", line_data / "test" / "dent" / "000.jpg"]
    with edgead.load(model_copy) as model, edgead.load(model_copy) as elsewhere:
        before = model.threshold
        with pytest.raises(SettingsError, match="dent/000.jpg .*: are these defects"):
            model.calibrate(good, false_reject_rate=0.2)
        with pytest.raises(SettingsError, match="false_reject_rate and AskedRates are given"):
            model.calibrate(good, AskedRates(accept_outliers=True), false_reject_rate=0.2)
        model.set_thresholds(review=0.1, reject=0.2)
        shown = model.calibrate(good, false_reject_rate=0.2, write=False)
        assert shown.outliers and shown.change.before.reject == before and model.threshold == 0.2
        model.set_thresholds(review=before, reject=before)
        assert model.threshold == before == Artifact.load(model_copy).graph().calibration.reject
        found = model.calibrate(good, false_reject_rate=0.2, accept_outliers=True)
        assert found.change.images == 9 and found.calibration.reject == shown.calibration.reject
        assert model.threshold == found.calibration.reject == Artifact.load(model_copy).graph().calibration.reject
        verdict = model.predict(part)
        assert verdict.threshold == model.threshold != before
        assert verdict.p_value == pytest.approx(2 / 10)  # the highest of the new scores, or one that is higher
        assert verdict.model == Artifact.load(model_copy).manifest.manifest_sha256
        with pytest.raises(SettingsError, match="was changed since it was opened"):
            elsewhere.calibrate(good, false_reject_rate=0.2, accept_outliers=True)
    assert (
        edgead.calibrate(model_copy, good, false_reject_rate=0.3, accept_outliers=True).calibration.false_reject_rate
        == 0.3
    )
    with pytest.raises(SettingsError, match="files or folders of images are needed, found ndarray"):
        edgead.calibrate(model_copy, [part])


@pytest.mark.slow
def test_row_17_a_model_is_exported(model_copy, line_data, part):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    with edgead.load(model_copy) as model:
        with pytest.raises(SettingsError, match="name the folder that the model was trained on"):
            model.export("fp16")
        with pytest.raises(SettingsError, match="leave out data, tolerance, or choose the precision that they are for"):
            model.export("fp32", line_data, tolerance=0.1)
        with model.export("fp16", line_data, make_default=True) as small:
            assert small.graph.precision == "fp16" and model.graph.precision == "fp32"
            assert small.predict(part).image_score == pytest.approx(model.predict(part).image_score, rel=1e-2)
        with model.export("fp32", make_default=True):
            assert Artifact.load(model_copy).graph().precision == "fp32"
    with edgead.load(model_copy) as model:
        # What is calibrated then keeps the new graph.
        model.calibrate(line_data / "test" / "good", false_reject_rate=0.2)
    assert Artifact.load(model_copy).precisions == ("fp32", "fp16")


def test_row_17_an_exchanged_graph_closes_whoever_has_the_old_one(model_copy, part, monkeypatch):
    onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    from edgead.export import rewrite

    export_onnx = rewrite.export_onnx

    def export_another(network, path, manifest):
        export_onnx(network, path, manifest)
        graph = onnx.load(path)
        graph.doc_string = "another"
        onnx.save(graph, path)

    monkeypatch.setattr(rewrite, "export_onnx", export_another)
    with edgead.load(model_copy) as model:
        with model.export("fp32") as new:
            assert new.predict(part).decision == "reject"
        with pytest.raises(ClosedError, match="open .* again with edgead.load"):
            model.predict(part)


def test_row_17_a_model_streams(model, line_data, tmp_path):
    for source in (line_data / "test" / "dent", str(line_data / "test" / "dent")):
        summary = model.stream(source, [f"jsonl:{tmp_path}/v.jsonl"])
        assert summary.frames == 2 and summary.fault is None


def test_row_17_a_closed_detector_says_so(trained_model, part):
    with edgead.load(trained_model) as model:
        pass
    with pytest.raises(ClosedError, match="open .*patchcore again with edgead.load"):
        model.predict(part)
    model.close()  # twice is once


def test_row_18_what_edgead_exports():
    named = {"load", "load_image", "draw_overlay", "run", "train", "calibrate", "teach", "evaluate", "EdgeadError"}
    assert named <= set(edgead.__all__) <= set(dir(edgead))
    assert all(callable(getattr(edgead, name)) for name in edgead.__all__)
    assert edgead.EdgeadError is EdgeadError
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        edgead.fit  # noqa: B018


def test_row_18_teaching_is_a_function(model_copy, line_data):
    good = line_data / "test" / "good"
    with pytest.raises(SettingsError, match="has learnt from"):
        edgead.teach(model_copy, good, calibration=str(line_data / "train" / "good"))
    sheet = model_copy.parent / "sheet.jpg"
    lesson = edgead.teach(model_copy, good, held_out_share=0.25, sheet=str(sheet))
    assert lesson.rows_added > 0 and sheet.is_file()


@pytest.mark.parametrize("roi", ["0,0,9,9", (0, 0, 0, 0), (0, 0, 9), (0, 0, 9, 9, 9), (-1, 0, 9, 9), (0, 0, 9.5, 9), 9])
def test_row_18_what_is_no_region_is_refused_in_words(line_data, tmp_path, roi):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    with pytest.raises(SettingsError, match="give x, y, width and height of a region"):
        edgead.train(line_data, tmp_path / "model", roi=roi)


def test_row_18_an_empty_path_is_not_the_working_directory(model, line_data, tmp_path, monkeypatch):
    monkeypatch.chdir(line_data / "test" / "good")
    for call in (edgead.load, model.predict, lambda path: list(model.predict([path])), model.calibrate, model.evaluate):
        with pytest.raises(SettingsError, match="a path is empty"):
            call("")
    with pytest.raises(SettingsError, match="a path is empty"):
        model.predict("000.jpg").save("")


def test_row_18_importing_edgead_imports_no_library_for_images():
    code = "import sys, edgead; print([name for name in ('cv2', 'onnxruntime', 'torch', 'PIL') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_row_18_neither_pil_nor_torch_is_imported_to_judge(trained_model, path):
    code = f"""
import sys, edgead
model = edgead.load({str(trained_model)!r})
model.predict({str(path)!r}), list(model.predict([{str(path)!r}])), model.predict(edgead.load_image({str(path)!r}))
print([name for name in ("torch", "PIL") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_row_19_thresholds_of_ones_own(trained_model, part, verdict):
    with edgead.load(trained_model) as model:
        model.set_thresholds(review=1, reject=2)
        assert model.predict(part).decision == "ok" and model.predict(part).p_value == verdict.p_value


def test_row_20_a_verdict_is_pickled_and_copied(verdict):
    for same in (pickle.loads(pickle.dumps(verdict)), copy.deepcopy(verdict)):
        assert same == verdict and (same.plot() == verdict.plot()).all()
