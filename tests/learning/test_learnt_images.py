"""A model made on the page or by `edgead commission` knows the files that it learnt, though it kept others of them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from test_cli import edgead, report

from edgead.adapt.commission.run import CommissionPlan, commission
from edgead.adapt.commission.worker import learn_order
from edgead.adapt.finalize import measure_good
from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.training_hashes import LearntImages
from edgead.detector import Detector
from edgead.images.files import decode_image, load_image, write_image
from edgead.line.daemon.commission.draft import Draft, order_of
from edgead.synthetic.line import conveyor

pytestmark = pytest.mark.slow

COUNT = 20


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A test set whose good images will be learnt, as JPEG files, and one that will not."""
    folder = tmp_path_factory.mktemp("files")
    images = [image[::2, ::2].copy() for image, _, _ in conveyor(3, COUNT + 1, 0.0)]
    for number, image in enumerate(images):
        name = f"good/normal-{number}.jpg" if number < COUNT else "new/new.jpg"
        write_image(folder / name, image)
    images[0][90:150, 90:150] = 255
    write_image(folder / "hole" / "hole.jpg", images[0])
    return folder


@pytest.fixture(scope="module")
def page_model(files, tmp_path_factory) -> Path:
    """As the page makes it of a folder that was dropped."""
    draft = Draft.begin(tmp_path_factory.mktemp("draft"), "parts", "Anna")
    for path in sorted((files / "good").iterdir()):
        data = path.read_bytes()
        draft.add(decode_image(data), hashlib.sha256(data).hexdigest(), path.name)
    learn_order(order_of(draft, draft.images, "learnt"), lambda stage, done, total: None)
    return draft.folder / "learnt" / "model"


@pytest.fixture(scope="module")
def commissioned(files, tmp_path_factory) -> Path:
    model = tmp_path_factory.mktemp("commissioned") / "model"
    commission(str(files / "good"), model, CommissionPlan(COUNT))
    return model


@pytest.fixture(params=["page_model", "commissioned"])
def model(request) -> Path:
    return request.getfixturevalue(request.param)


def learnt_count(model: Path) -> int:
    return Artifact.load(model).manifest.training["training_images"]


def test_predict_warns_of_them(model, files):
    count = learnt_count(model)
    said = edgead("predict", model, files / "good", files / "new").stderr
    assert f"{count} of {COUNT + 1} images were learnt by this model" in said and count > COUNT / 2
    assert "were learnt" not in edgead("predict", model, files / "new", files / "hole").stderr


def test_eval_measures_them_as_strangers_alone(page_model, files):
    """What is known by its pixels has its fold too."""
    assert learnt_count(page_model) == COUNT and "--left-out" in edgead("eval", page_model, files, code=2).stderr
    found = report("eval", page_model, files, "--left-out")
    assert (len(found["left_out_images"]), found["learnt_images"]) == (COUNT, [])


def test_calibrate_refuses_them(model, files):
    refused = edgead("calibrate", model, files / "good", "--dry-run", code=2).stderr
    assert f"has learnt from {learnt_count(model)} of {COUNT} images, normal-" in refused


def test_an_export_takes_all_of_them_each_scored_without_its_fold_and_no_choice_of_them(model, files, tmp_path):
    """Which are left out could be chosen by their scores: then the limit would guarantee too much."""
    pytest.importorskip("torch", reason="exports need the workstation's packages")
    from edgead.export.calibration_images import find_calibration_images

    artifact = Artifact.load(model)
    found = find_calibration_images(artifact, files / "good")
    assert found.ranges == found.held_out and len(found.held_out) == COUNT and found.source == "training data"
    with Detector(artifact, runtime="onnxruntime", precision=artifact.manifest.learnt_in) as detector:
        scores = measure_good(detector, found.held_out, folds=found.folds).scores
    assert sorted(scores) == pytest.approx(artifact.learnt_graph.calibration.scores, rel=1e-6)
    shutil.copytree(files / "good", tmp_path / "good")
    (tmp_path / "good" / "normal-3.jpg").unlink()
    with pytest.raises(ArtifactError, match="not seen, or all those that it was made from"):
        find_calibration_images(artifact, tmp_path / "good")


def test_an_image_is_known_by_its_pixels_and_no_other_is(page_model, files, tmp_path):
    """As where the evidence keeps it, or somebody sends it in another format."""
    learnt = LearntImages(Artifact.load(page_model))
    path, new = files / "good" / "normal-1.jpg", files / "new" / "new.jpg"
    assert learnt.has(path.read_bytes(), load_image(path))
    assert learnt.has(b"another file", load_image(path))
    assert not learnt.has(new.read_bytes(), load_image(new))
    write_image(tmp_path / "kept.png", load_image(path))
    assert "1 of 1 images were learnt" in edgead("predict", page_model, tmp_path / "kept.png").stderr


def test_a_lesson_adds_those_that_it_teaches(page_model, files, tmp_path):
    taught = shutil.copytree(page_model, tmp_path / "model")
    edgead("teach", taught, files / "new" / "new.jpg", "--yes")
    write_image(tmp_path / "kept.png", load_image(files / "new" / "new.jpg"))
    assert "1 of 1 images were learnt" in edgead("predict", taught, tmp_path / "kept.png").stderr


def test_files_are_named_as_they_were_given(commissioned, page_model, files):
    names = {path.name for path in (files / "good").iterdir()}
    for model in (commissioned, page_model):
        assert {*Artifact.load(model).manifest.training["highest_images"]} < names
