"""The way a program begins: what users of other libraries type at first works, or says what to type instead."""

from __future__ import annotations

import copy
import inspect
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from fakes import edit_manifest, make_verdict

import edgead
from edgead.adapt.recalibrate import AskedRates
from edgead.adapt.teach import TeachPlan
from edgead.api.errors import in_python
from edgead.api.options import RateOptions, StreamOptions, TeachOptions
from edgead.api.paths import image_paths
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.training_hashes import find_learnt
from edgead.cli.predict_files import predict_images
from edgead.detector import ClosedError
from edgead.errors import EdgeadError, SettingsError
from edgead.images.files import ImageError, load_image, write_image
from edgead.stream import run
from edgead.types import score_text

PLUGIN = Path(__file__).parents[1] / "plugin"


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
    assert model(path) == verdict
    of_folder = model.predict_all(line_data / "test" / "good")
    assert [one.name for one in of_folder] == [f"{number:03d}.jpg" for number in range(8)]
    below = {one.name: one for one in model.predict_all(line_data / "test", recursive=True)}
    assert len(below) == 20 and below["dent/000.jpg"] == verdict
    listed = [path, str(line_data / "test" / "good" / "000.jpg")]
    assert [one.name for one in model.predict(listed)] == ["dent/000.jpg", "good/000.jpg"]
    assert [one.name for one in model.predict([*listed, path.read_bytes()])] == ["000.jpg", "000.jpg", ""]
    around = [line_data / "test" / "good" / ".." / "dent" / "000.jpg", listed[1]]
    assert [one.name for one in model.predict(around)] == ["dent/000.jpg", "good/000.jpg"]


def test_row_2_patterns(model, verdict, line_data, tmp_path, monkeypatch):
    monkeypatch.chdir(line_data)
    assert [one.name for one in model.predict_all("test/good/00[0-2]?jpg")] == ["000.jpg", "001.jpg", "002.jpg"]
    below = {one.name: one for one in model.predict_all("test/**/*.jpg")}
    assert len(below) == 20 and below["dent/000.jpg"] == verdict
    assert model.calibrate("test/good/*.jpg", false_reject_rate=0.2, write=False).change.images == 8
    with pytest.raises(ImageError, match=r"test/\*.tif matches no images"):
        model.predict_all("test/*.tif")
    shutil.copy("test/dent/000.jpg", tmp_path / "what?.jpg")  # a name is no pattern where there is such a file
    assert model.predict(tmp_path / "what?.jpg") == verdict


def test_row_2_a_path_and_an_array_are_one_image(model, part, torch, line_data):
    tensors = torch.zeros(2, 3, 8, 8)
    for many, words in (
        (line_data / "test" / "good", "good is a folder"),
        (f"{line_data}/test/good/*.jpg", r"\*.jpg is several images"),
        (np.stack([part, part]), r"ndarray of shape \(2, 480, 480, 3\) is several images"),
        (tensors, r"Tensor of shape \(2, 3, 8, 8\) is several images"),
    ):
        with pytest.raises(SettingsError, match=f"{words}: judge .* with predict_all"):
            model.predict(many)
    with pytest.raises(ImageError, match="^/no/such/folder: no such folder"):
        model.predict_all("/no/such/folder")
    for one in (part, line_data / "test" / "good" / "000.jpg"):
        with pytest.raises(SettingsError, match="is a single image: judge it with predict"):
            model.predict_all(one)


def test_row_2_addresses_are_refused_in_words(model, tmp_path):
    url = "https://example.com/a.png"
    for call in (
        model.predict,
        model.predict_all,
        model.calibrate,
        edgead.load,
        lambda url: model.predict([url]),
        lambda url: model.predict(Path(url)),
        lambda url: edgead.train(url, tmp_path / "model"),
        lambda url: edgead.train(tmp_path, url),
    ):
        with pytest.raises(SettingsError, match="a.png: URLs are not read: download it"):
            call(url)


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
        (3, "a path, the bytes of an image file, a numpy array, a PIL image or a torch tensor, found int"),
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
    assert list(model.predict_all(np.stack([part, part]))) == [verdict] * 2
    tensors = torch.from_numpy(np.stack([rgb, rgb])).permute(0, 3, 1, 2)
    assert list(model.predict_all(tensors)) == [verdict] * 2
    assert list(model.predict_all(image for image in [part, part])) == [verdict] * 2
    verdicts = model.predict(image for image in [part, "nope.png"])
    assert next(verdicts) == verdict  # the second is not read before its turn
    assert next(verdicts).problem == "nope.png: no such file"
    with pytest.raises(ImageError, match="or give recursive=True"):
        model.predict_all(line_data / "test")
    with pytest.raises(ImageError, match="nor in the folders below"):
        model.predict_all(tmp_path, recursive=True)


def test_row_5_a_file_that_cannot_be_judged_stops_no_others(model, part, line_data, tmp_path):
    good = (line_data / "test" / "good" / "000.jpg").read_bytes()
    paths = [tmp_path / name for name in ("0.jpg", "1.jpg", "2.jpg")]
    for path, data in zip(paths, (good, b"no image", good), strict=True):
        path.write_bytes(data)
    verdicts = model.predict_all(tmp_path)
    for found in (verdicts, [verdicts[at] for at in range(3)], model.predict(paths), model.predict(iter(paths))):
        assert [one.decision for one in found] == ["ok", "fault", "ok"]
    _, broken, _ = verdicts
    assert broken.problem.startswith(f"{paths[1]}: ") and not broken.is_ok and broken.score is None
    assert json.loads(broken.to_json()) == {"name": "1.jpg", "decision": "fault", "problem": broken.problem}
    assert repr(broken) == f"Verdict(fault, {broken.problem})" and broken.sentence() == broken.problem
    assert broken.mask_in_image().size == broken.mask.size == 0 and broken._repr_png_() is None
    with pytest.raises(ImageError, match="1.jpg"):
        broken.save(tmp_path / "judged")
    assert [one.decision for one in model.predict([good, b"no image"])] == ["ok", "fault"]
    with pytest.raises(ImageError, match="convert it to uint8"):  # an error of the program is none of an image
        list(model.predict([part, part.astype(np.float32)]))


def test_row_5_the_cause_of_many_rejects_is_said_as_the_command_says_it(model, caplog, tmp_path):
    for number in range(6):
        write_image(tmp_path / f"{number}.png", np.zeros((480, 480, 3), np.uint8))
    verdicts = model.predict_all(tmp_path)
    assert verdicts.advice == ""
    assert all(not one.is_ok for one in verdicts)
    assert verdicts.advice.startswith("All 6 images are rejected: if some of them are good, another product")
    assert [record.getMessage() for record in caplog.records] == [verdicts.advice]
    assert verdicts.advice in predict_images(model, sorted(tmp_path.iterdir()))[1]


def test_row_5_verdicts_are_a_sequence(model, path, part, verdict, line_data):
    good = line_data / "test" / "good" / "000.jpg"
    verdicts = model.predict([good, path, part])
    assert len(verdicts) == 3 and verdicts[1] == verdicts[-1] == verdict and verdicts[0].decision == "ok"
    assert [one.name for one in verdicts[1:]] == ["000.jpg", ""]
    assert list(verdicts) == list(verdicts)  # it has no end that is reached once
    assert repr(verdicts[1:]) == "Verdicts(2 images, each judged when it is asked for)"
    with pytest.raises(IndexError):
        verdicts[3]
    assert len(model.predict([])) == 0


def test_row_5_what_can_be_known_is_refused_at_the_call(model, part, line_data):
    for bad, words in (
        ([part, "nope.png"], "nope.png: no such file"),
        ([part, cv2.imread("nope.png")], "cv2.imread gives None"),
        ([line_data / "test"], "is a folder: give it alone, or its images"),
        ([part, 3], "found int"),
    ):
        with pytest.raises(ImageError, match=words):
            model.predict(bad)
    for one in ([part], part, line_data / "test" / "good" / "000.jpg"):
        with pytest.raises(SettingsError, match="colour='hsv'"):
            model.predict(one, colour="hsv")


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
    with pytest.raises(SettingsError, match="no option 'fals_reject_rate': is false_reject_rate meant?"):
        train(line_data, tmp_path / "none", detector="dummy", fals_reject_rate=0.1)


def test_row_6_what_is_wrong_is_refused_before_torch_is_loaded(line_data, tmp_path):
    code = f"""
import sys, edgead
for settings in (
    {{"presett": "x"}}, {{"num_neighbors": 3}}, {{"preset": "magic"}}, {{"detector": "oracle"}}, {{"roi": (1, 2)}},
    {{"tiles": "x"}}, {{"false_reject_rate": "5%"}}, {{"review_rate": 5}}, {{"settings": {{"num_neighbours": 3}}}},
    {{"good": "nowhere"}}, {{"good": "nowhere/*.png"}}, {{"model": {str(line_data)!r}}},
):
    try:
        edgead.train(**{{"good": {str(line_data)!r}, "model": {str(tmp_path / "m")!r}, **settings}})
    except edgead.EdgeadError as error:
        print(error)
print([name for name in ("torch", "onnx") if name in sys.modules])
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.splitlines()
    for line, words in zip(
        said,
        (
            "no option 'presett': is preset meant? A setting of the detector is given in settings={...}",
            "no option 'num_neighbors': a setting of the detector is given in settings={...}",
            "patchcore has no preset 'magic': choose one of fast, default, fine",
            "unknown detector 'oracle'",
            "give x, y, width and height of a region",
            "expected auto, or SIZE",
            "a false-reject rate lies between 0 and 1, 0.05 for 5 %, found '5%'",
            "a review rate lies between 0 and 1, 0.05 for 5 %, found 5",
            "; did you mean num_neighbors?",
            "nowhere: no such folder",
            "matches no images",
            "is not an edgead model",
            "[]",
        ),
        strict=True,
    ):
        assert words in line


WAITS = """
import edgead, numpy, sys, time
square, busy_s = numpy.ones((512, 512), numpy.float32), 0.0
for _ in range(20):
    square @ square
    begin_s = time.process_time()
    time.sleep(0.02)
    busy_s += time.process_time() - begin_s
print(busy_s)
"""


def test_threads_of_products_do_not_wait_at_full_load():
    """On two cores they took half of the time of whatever came next."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS", "OMP"))}
    ended = subprocess.run([sys.executable, "-c", WAITS], env=environment, capture_output=True, text=True, check=True)
    assert float(ended.stdout) < 0.2  # of 0.4 s asleep


def test_row_6_all_that_images_can_be_is_an_option():
    from edgead.adapt.training.good_images import GoodImages

    of_method = {"backbone", "layers", "image_size", "memory_bank_size", "seed"}
    assert (
        set(edgead.TrainOptions.__annotations__)
        == {one.name for one in fields(GoodImages)} - {"data", "facts"} | of_method
    )


def test_row_6_the_help_of_train_explains_each_option_with_its_default():
    from edgead.adapt.training.good_images import GoodImages

    _, _, listed = inspect.getdoc(edgead.train).partition("Other Parameters\n----------------\n")
    found = re.findall(r"^(\w+) : (.+\n(?:    .+\n?)+)", listed, re.MULTILINE)
    said = {name: " ".join(text.split()) for name, text in found}
    assert said.keys() == edgead.TrainOptions.__annotations__.keys()
    for name, text in said.items():
        assert "default" in text and len(text) > len("bool, default False"), name
    for one in fields(GoodImages):
        if one.name in said and one.default not in (None, ()):
            assert f"default {one.default!r}".replace("'", '"') in said[one.name], one.name


def test_row_6_settings_of_the_method_are_refused_before_images_are_read(plugin, line_data, tmp_path, monkeypatch):
    monkeypatch.setattr("edgead.adapt.training.preset.preset_settings", lambda *_: pytest.fail("work has begun"))
    for settings, words in (({"windw": 3}, "dummy has no setting windw"), ({"image_size": "x"}, "image_size")):
        with pytest.raises(SettingsError, match=words):
            edgead.train(line_data, tmp_path / "model", detector="dummy", settings=settings)


@pytest.mark.parametrize(
    ("detector", "preset", "smallest"),
    [
        ("patchcore", "default", "at least 32 pixels a side"),
        ("efficient_ad", "paper", "at least 64 pixels a side"),
        ("efficient_ad", "default", "multiples of 16 from 64 on"),
        ("draem", "default", "multiples of 32 from 32 on"),
    ],
)
def test_row_6_an_input_that_is_too_small_is_refused_before_images_are_read(
    plugin, line_data, tmp_path, monkeypatch, detector, preset, smallest
):
    monkeypatch.setattr("edgead.adapt.training.preset.preset_settings", lambda *_: pytest.fail("work has begun"))
    for size in (7, (320, 7)):
        with pytest.raises(SettingsError, match=f"image_size .*7.*{smallest}"):
            edgead.train(line_data, tmp_path / "model", detector=detector, preset=preset, image_size=size)


def test_row_6_few_images_without_a_rate_are_warned_of(plugin, line_data, tmp_path, caplog):
    paths = sorted((line_data / "train" / "good").iterdir())[:30]
    common = {"detector": "dummy", "image_size": 32, "group": "none", "progress": False}
    edgead.train(paths, tmp_path / "model", **common).close()
    words = "About 1 good part in 5 will be rejected (at most 20 %, from 6 images held out). For 1 in 100, train with"
    assert caplog.text.count(words) == 1
    caplog.clear()
    edgead.train(paths, tmp_path / "model", false_reject_rate=0.2, **common).close()
    assert "will be rejected" not in caplog.text


def test_row_6_images_that_a_program_holds_are_learnt(plugin, line_data, tmp_path):
    paths = sorted((line_data / "train" / "good").iterdir())[:24]
    rgb = [edgead.load_image(path)[:, :, ::-1] for path in paths]
    common = {"detector": "dummy", "image_size": 32, "false_reject_rate": 0.2, "group": "none", "progress": False}
    with edgead.train(rgb, tmp_path / "of_arrays", colour="rgb", **common) as model:
        facts, threshold = model.manifest.training, model.threshold
        assert facts["training_images"] + facts["calibration_images"] == 24
        assert model.info()["input_size"] == [32, 32] and model.info()["settings"]["image_size"] == [32, 32]
        # The files of which the program holds the pixels count as learnt.
        assert len(find_learnt(model.artifact, paths)) == facts["training_images"]
    with edgead.train([*paths[:10], *rgb[10:]], tmp_path / "of_both", colour="rgb", **common) as model:
        assert model.threshold == pytest.approx(threshold)
    for none, words in (
        ([], "no images are given"),
        (rgb[0], "a single image is given: several"),
        (paths[0], "several"),
    ):
        with pytest.raises(SettingsError, match=words):
            edgead.train(none, tmp_path / "none", detector="dummy")


def test_row_7_a_terminal_sees_how_far_a_training_is(plugin, line_data, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def said(**options):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", Terminal())
            patched.setenv("TERM", "xterm")
            edgead.train(line_data, tmp_path / "model", detector="dummy", **options).close()
            return sys.stderr.getvalue()

    assert "calibrate" in said() and "calibrate" not in said(progress=False)

    def stop(stage, done, total):
        raise InterruptedError(stage)

    with pytest.raises(InterruptedError, match="read images"):
        edgead.train(line_data, tmp_path / "stopped", detector="dummy", progress=stop)
    assert not (tmp_path / "stopped").exists()


def test_row_8_of_a_data_set_its_good_images_are_learnt_and_those_left_out_are_named(
    plugin, line_data, tmp_path, caplog
):
    shutil.copytree(line_data / "train" / "good", tmp_path / "train" / "good")
    (tmp_path / "train" / "good" / "broken.jpg").write_bytes(b"\xff\xd8")
    with edgead.train(tmp_path, tmp_path / "model", detector="dummy", skip_bad=True) as model:
        facts = model.manifest.training
    assert facts["training_images"] + facts["calibration_images"] == 60 and facts["skipped_images"] == 1
    assert "left out" in caplog.text and "broken.jpg" in caplog.text


def test_known_defects_are_counted_at_each_limit(plugin, line_data, tmp_path, caplog):
    common = {"detector": "dummy", "false_reject_rate": 0.2}
    with pytest.raises(SettingsError, match="nodef: no such file or folder"):
        edgead.train(line_data, tmp_path / "model", defects=tmp_path / "nodef", **common)
    assert not (tmp_path / "model").exists()
    folder = line_data / "test" / "dent"
    with edgead.train(line_data, tmp_path / "model", defects=[folder], **common) as model:
        found = sum(model.predict(path).image_score > model.threshold for path in sorted(folder.iterdir()))
    said = caplog.messages[-1]
    assert (
        said.startswith(f"of {len(list(folder.iterdir()))} defects the limits") and f"{found} at 20 % (chosen)" in said
    )
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        edgead.train(line_data, tmp_path / "other", defects=[folder, tmp_path / "broken.jpg"], **common)


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
    with pytest.raises(SettingsError, match="^group '[(]' is no regular expression"):
        model.evaluate(line_data, group="(")


def test_an_error_that_names_a_command_keeps_its_options():
    command = 'make one with `edgead train IMAGES --preset fast -o FILE` or "edgead export m --precision fp16"'
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
        facts = json.loads(json.dumps(model.info()))
    assert repr(model) == f"{said}, closed)"
    assert facts["input_size"] == [160, 160] and facts["threshold"] == model.threshold
    assert (facts["detector"], facts["precision"], facts["runtime"]) == ("patchcore", "fp32", "onnxruntime")


def test_row_13_a_verdict_says_what_it_is(model, verdict):
    boxes = len(verdict.boxes)
    score = score_text(verdict.image_score, verdict.typical_score, model.threshold)
    assert repr(verdict) == (
        f"Verdict({verdict.decision}, score {score} > 100, raw score {verdict.image_score:.4g} > "
        f"{model.threshold:.4g}, {boxes} box{'es' * (boxes != 1)})"
    )
    assert repr(make_verdict(0.9)) == "Verdict(reject, raw score 0.9 > 0.5, 1 box)"
    assert (
        repr(replace(make_verdict(0.4), typical_score=0.3))
        == "Verdict(ok, score 50 <= 100, raw score 0.4 <= 0.5, 0 boxes)"
    )
    shown = cv2.imdecode(np.frombuffer(verdict._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert (shown == verdict.plot()).all()
    large = model.predict(np.zeros((1000, 1500, 3), np.uint8))
    assert max(cv2.imdecode(np.frombuffer(large._repr_png_(), np.uint8), cv2.IMREAD_COLOR).shape) == 800
    assert replace(verdict, image=None)._repr_png_() is None


def test_row_14_a_verdict_is_drawn_saved_and_written(model, path, verdict, tmp_path):
    assert not verdict.is_ok and verdict.mask.sum() == (verdict.anomaly_map > verdict.map_threshold).sum() > 0
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
    below = {one.name: one for one in model.predict_all(path.parent.parent, recursive=True)}
    assert below["dent/000.jpg"].save(tmp_path) == tmp_path / "dent" / "000.jpg_reject.jpg"
    with pytest.raises(ImageError, match="an array has no name"):
        verdict.save(tmp_path)
    for name in ("out.gif", "out.txt"):
        with pytest.raises(ImageError, match=rf"{name}: an image ends in one of .*\.jpg .*\.png"):
            of_file.save(tmp_path / name)
        assert not (tmp_path / name).exists()
    own = tmp_path / "own.jpg"
    own.write_bytes(path.read_bytes())
    with pytest.raises(ImageError, match="own.jpg is the judged image itself, which would be lost: name another file"):
        model.predict(own).save(own)
    assert own.read_bytes() == path.read_bytes()
    (tmp_path / "of.may").mkdir()
    assert of_file.save(tmp_path / "of.may").parent == tmp_path / "of.may"


def test_row_14_a_verdict_has_its_map_at_the_size_of_the_image(model, path, part, verdict):
    for one in (verdict, model.predict(path)):
        found = one.map_in_image()
        assert found.shape == part.shape[:2] != one.anomaly_map.shape and found.dtype == np.float32
        assert found.max() == pytest.approx(one.anomaly_map.max(), rel=0.02)
        rows, columns = np.nonzero(one.mask_in_image())
        (box,) = one.boxes
        assert abs(columns.min() - box.x) <= 4 and abs(rows.max() + 1 - box.y - box.height) <= 4
    region = replace(verdict, region=(10, 20, 100, 50))
    seen = ~np.isnan(region.map_in_image())
    assert seen[20:70, 10:110].all() and seen.sum() == 100 * 50 and not region.mask_in_image()[:20].any()


def test_row_14_a_verdict_is_said_and_shown(model, verdict, line_data, monkeypatch):
    assert verdict.sentence().startswith("Reject: ") and verdict.sentence("de").startswith("Ausschuss: ")
    assert model.predict(line_data / "test" / "good" / "000.jpg").sentence() == ""
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    verdict.show()
    (address,) = opened
    assert (edgead.load_image(Path(urlsplit(address).path)) == verdict.plot()).all()
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    with pytest.raises(ImageError, match="no program shows images here: it is drawn in .*verdict.png"):
        verdict.show()


@pytest.mark.parametrize("score", [0.1, 0.9])
def test_row_15_a_verdict_is_neither_true_nor_false(score):
    with pytest.raises(TypeError, match="ask for verdict.is_ok"):
        bool(make_verdict(score))


def test_row_16_verdicts_compare(model, part, verdict):
    again = model.predict(part)
    assert again == verdict and hash(again) == hash(verdict) and len({again, verdict}) == 1
    assert again.stage_times != verdict.stage_times
    other_map = replace(verdict, anomaly_map=verdict.anomaly_map + 1)
    assert verdict != other_map and verdict != replace(verdict, pipeline="top") and verdict != "reject"
    assert make_verdict(0.9) == make_verdict(0.9) != make_verdict(0.8)


def test_row_17_a_model_is_measured_and_reported(model, part, line_data, tmp_path):
    assert model.threshold == model.graph.calibration.reject
    evaluation = model.evaluate(line_data)
    counts = evaluation.counts()
    assert counts["good_rejected"] == len(evaluation.false_rejects()) and sum(counts.values()) == 20
    assert counts["defects_passed"] == len(evaluation.missed())
    assert evaluation.to_dict() == edgead.evaluate(model.artifact.path, line_data).to_dict()
    assert evaluation.to_dict() == edgead.evaluate(model, line_data).to_dict() and model.predict(part).decision
    found = evaluation.to_dict()["escape_rate"]
    assert repr(evaluation).startswith("Evaluation(20 images, image AUROC 0.")
    assert f"{found['count']} of {found['total']} defects passed" in repr(evaluation)
    page = model.report(line_data, tmp_path / "new" / "page.html")
    assert "The worst misses" in page.read_text()
    with pytest.raises(SettingsError, match="new is a folder: name a file for the page, such as .*new/report.html"):
        model.report(line_data, tmp_path / "new")


def test_row_17_a_model_is_calibrated(model_copy, line_data, part):
    good = [line_data / "test" / "good", line_data / "test" / "missing_hole" / "000.jpg"]
    with edgead.load(model_copy) as model, edgead.load(model_copy) as elsewhere:
        before = model.threshold
        with pytest.raises(SettingsError, match="missing_hole/000.jpg .*: are these defects"):
            model.calibrate(good, false_reject_rate=0.2)
        with pytest.raises(SettingsError, match="false_reject_rate and AskedRates are given"):
            model.calibrate(good, AskedRates(accept_outliers=True), false_reject_rate=0.2)
        model.set_thresholds(review=0.1, reject=0.2)
        shown = model.calibrate(good, false_reject_rate=0.2, write=False)
        assert shown.outliers and shown.change.before.reject == before and model.threshold == 0.2
        model.set_thresholds(review=before, reject=before)
        assert model.threshold == before == Artifact.load(model_copy).graph().calibration.reject
        holes = str(line_data / "test" / "missing_hole")
        with pytest.raises(SettingsError, match="bad parts that are stopped now would be ok, missing_hole/"):
            model.calibrate([good[0], holes], false_reject_rate=0.2, accept_outliers=True, bad=holes)
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
        with pytest.raises(SettingsError, match="name the folder that it was trained on"):
            model.export("int8")
        with pytest.raises(SettingsError, match="leave out tolerance$"):
            model.export("fp32", line_data, tolerance=0.1)
        before = model.predict(part).image_score
        with model.export("int8", line_data) as small:
            assert small.graph.precision == "int8"
            assert small.predict(part).image_score == pytest.approx(before, rel=0.1)
    assert Artifact.load(model_copy).precisions == ("int8",)


@pytest.mark.slow
def test_row_17_an_export_is_undone_and_the_graph_of_before_judges(model_copy, line_data, part):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    with edgead.load(model_copy) as first:
        before, precision = first.predict(part), first.info()["precision"]
    with edgead.load(model_copy).export({"fp32": "int8", "int8": "fp32"}[precision], line_data) as model:
        assert model.info()["precision"] != precision
        model.undo()
        assert model.info()["precision"] == precision
        assert model.predict(part).image_score == before.image_score


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


def test_row_17_a_model_streams(model, line_data, tmp_path, caplog):
    for source in (line_data / "test" / "dent", str(line_data / "test" / "dent")):
        summary = model.stream(source, f"jsonl:{tmp_path}/v.jsonl")
        assert summary.frames == 2 and summary.fault is None
        assert summary.advice == "" and len(repr(summary)) < 500
    for number in range(8):
        write_image(tmp_path / "other" / f"{number}.png", np.full((160, 160, 3), (255, 20 * number, 0), np.uint8))
    summary = model.stream(tmp_path / "other")
    assert summary.advice.startswith("All 8 images are rejected") and summary.advice in caplog.text


def test_row_17_half_of_a_part_is_warned_of_once_for_each_shape_and_model(trained_model, line_data, caplog):
    images = [load_image(path) for path in sorted((line_data / "test" / "good").iterdir())[:3]]
    height, width = images[0].shape[:2]
    with edgead.load(trained_model) as model:
        verdicts = model.predict_all([*images, images[0][::2, ::2]])
        assert len(list(verdicts)) == 4 and caplog.text == ""
        session = model.session()
        for image in images:
            model.predict(image[: height // 2])
            session.judge(image[: height // 2])
        words = f"frames of {width} x {height // 2} pixels where the model learnt {width} x {height}: parts are cut off"
        assert caplog.text.count(words) == 1
        model.predict(images[0][:, : width // 2])
        assert caplog.text.count("parts are cut off") == 2
        for left in range(20):
            model.predict(images[0][: height // 4, : width - left])
        assert caplog.text.count("parts are cut off") == 10


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
    assert {name for name in dir(edgead) if not name.startswith("__")} == {*edgead.__all__, "AnomalyDetector"}
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        edgead.fit  # noqa: B018


def test_row_18_a_model_shows_what_is_called_and_nothing_else(model):
    shown = {name for name in dir(model) if not name.startswith("_")}
    judges = {"load", "close", "info", "predict", "predict_all", "stream", "threshold", "set_thresholds"}
    made = {
        "calibrate",
        "teach",
        "undo",
        "export",
        "export_standalone",
        "verify",
        "evaluate",
        "report",
        "sort",
        "name_kinds",
    }
    assert shown == judges | made
    assert model.session().judge and model.artifact.path  # of the Detector, not shown
    with pytest.raises(AttributeError, match="'Model' object has no attribute 'pred_score'"):
        model.pred_score  # noqa: B018


@pytest.mark.parametrize(
    ("options", "there"),
    [(RateOptions, AskedRates), (TeachOptions, TeachPlan), (StreamOptions, run)],
)
def test_row_18_options_are_those_that_there_are(options, there):
    names = inspect.signature(there).parameters
    assert options.__annotations__.keys() <= names.keys()
    for name, kind in options.__annotations__.items():
        assert kind.__forward_arg__ == names[name].annotation


def test_row_18_wrong_options_precisions_and_paths_are_refused_in_words(model, line_data, tmp_path):
    good = line_data / "test" / "good"
    (tmp_path / "x.nii.gz").write_bytes(b"no volume")
    for call, words in (
        (lambda: model.calibrate(good, reject=0.9), "no option 'reject': known are false_reject_rate"),
        (lambda: model.calibrate(good, false_reject=0.9), "is false_reject_rate meant?"),
        (lambda: model.calibrate(good, rate=0.9), "is false_reject_rate meant?"),
        (lambda: model.teach(good, resaon="x"), "is reason meant?"),
        (lambda: model.stream([good]), "one source, such as .*: call predict for several images"),
        (lambda: model.stream(0), 'such as "camera:0"'),
        (lambda: edgead.train(good, tmp_path / "m", weights="no.onnx"), "weights no.onnx: no such file"),
        (lambda: edgead.evaluate(None, good), "a path is needed here, found None"),
        (lambda: model.stream(good, on_verdit=print), "is on_verdict meant?"),
        (lambda: model.export("onnx"), "no precision 'onnx': choose one of fp32, .*export_standalone"),
        (lambda: model.calibrate("nodir"), "nodir: no such file or folder"),
        (lambda: model.teach([good, "nodir"]), "nodir: no such file or folder"),
        (lambda: edgead.train(good, tmp_path / "m", device="cuda", preset="fast"), "CPU: leave out device"),
    ):
        with pytest.raises(SettingsError, match=words):
            call()
    assert image_paths(tmp_path / "x.nii.gz") == [tmp_path / "x.nii.gz"]


def test_row_18_a_model_judges_by_its_lesson(model_copy, line_data, part):
    good = line_data / "test" / "good"
    with edgead.load(model_copy) as model:
        before, session = model.info()["model"], model.session()
        lesson = model.teach(good, held_out_share=0.25, bad=str(line_data / "test" / "missing_hole"))
        assert all(judged.bad.images for judged in lesson.after.values())
        assert lesson.rows_added > 0 and model.info()["model"] == edgead.load(model_copy).info()["model"] != before
        assert model.predict(part) == edgead.load(model_copy).predict(part)
        with pytest.raises(ClosedError):
            session.judge(part)
        with pytest.raises(SettingsError, match="guarantees nothing"):
            model.teach(line_data / "train" / "good")
        assert model.predict(part).decision == "reject"  # a refused one changes nothing


def test_row_18_a_model_is_verified(model):
    pytest.importorskip("torch", reason="verifying needs the workstation's packages")
    found = model.verify()
    assert found.keys() == {"torch_and_deployed", "golden_and_deployed"}
    assert all(parity.passed and parity.images for parity in found.values())


@pytest.mark.parametrize("name", ["line.avi", "line.MP4"])
def test_row_18_a_video_has_one_answer_wherever_an_image_is_asked_for(model, tmp_path, name):
    video = tmp_path / name
    video.write_bytes(b"RIFF\x00\x00\x00\x00AVI LIST")
    calls = {
        "predict": model.predict,
        "predict of a list": lambda path: list(model.predict([path])),
        "predict_all": model.predict_all,
        "train": lambda path: edgead.train(path, tmp_path / "model"),
        "calibrate": model.calibrate,
    }
    said = set()
    for call in calls.values():
        with pytest.raises(ImageError) as refused:
            call(video)
        said.add(str(refused.value))
    (words,) = said
    assert words.startswith(f"{video}: a video is no image") and f"model.stream({str(video)!r})" in words


def test_row_18_teaching_is_a_function(model_copy, line_data):
    assert list(inspect.signature(edgead.teach).parameters)[:2] == ["model", "images"]
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


def test_row_20_a_model_is_pickled_and_copied_by_opening_it_again(model_copy, part, monkeypatch):
    with edgead.load(model_copy, runtime="onnxruntime") as model:
        monkeypatch.chdir(model_copy)
        for same in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            with same:
                assert type(same) is type(model) and same.predict(part) == model.predict(part)
        model.set_thresholds(review=1, reject=2)
        pickled = pickle.dumps(model)
        with pickle.loads(pickled) as same:
            assert same.threshold == 2
    edit_manifest(model_copy, lambda content: content.update(versions={}))
    with pytest.raises(ArtifactError, match="was changed since this model was opened"):
        pickle.loads(pickled)


TYPED = """
import edgead, numpy as np
model = edgead.load("m")
array = np.zeros((8, 8, 3), np.uint8)
for one in (model.predict("a.png"), model.predict(array), model.predict(b""), model("a.png")):
    reveal_type(one)
reveal_type(model.predict(["a.png", "b.png"]))
reveal_type(model.predict([array])[0].sentence("de"))
reveal_type(model.predict(image for image in [array]))
for verdict in model.predict_all("parts/"):
    reveal_type(verdict)
reveal_type(edgead.train([array], "m", image_size=64, roi=(0, 0, 9, 9), settings={"window": 1}))
edgead.train("good", "m", presett="x")
edgead.train("good", "m", seed="x")
edgead.load("m", runtim="x")
edgead.trian("good", "m")
model.calibrate("good", false_reject_rat=0.1)
model.export("int8", toleranc=0.1)
model.stream("camera:0", late_after=1)
edgead.teach("m", "good", held_out=0.1)
edgead.evaluate("m", "data", grop="none")
model.graph
reveal_type(edgead.calibrate("m", "good", false_reject_rate=0.1))
"""
# Of other packages numpy alone is needed; to read torch takes a minute.
SKIPPED = ("cv2", "jinja2", "onnx", "onnxscript", "PIL", "pydantic", "rich", "scipy", "sklearn", "torch", "torchvision")


@pytest.mark.slow
def test_row_21_type_checkers_see_what_is_what(tmp_path):
    pytest.importorskip("mypy", reason="MYPY NOT HERE: types not tested")
    (tmp_path / "use.py").write_text(TYPED)
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nignore_missing_imports = true\nfollow_imports = silent\n"
        f"[mypy-{','.join(f'{name}.*' for name in SKIPPED)}]\n"
        "follow_imports = skip\nfollow_imports_for_stubs = true\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", "cache", "use.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(Path(edgead.__file__).parents[1])},
    )
    found = re.findall(r"^use.py:(\d+): (?:note: Revealed type is \"(?:\w+\.)*(.*)\"|error: .*)$", done.stdout, re.M)
    assert dict(found) == {
        "6": "ImageVerdict",
        "7": "Verdicts",
        "8": "str",
        "9": "Iterator[edgead.images.verdict.ImageVerdict]",
        "11": "ImageVerdict",
        "12": "Model",
        **dict.fromkeys(map(str, range(13, 23)), ""),
        "23": "Recalibration",
    }, done.stdout
