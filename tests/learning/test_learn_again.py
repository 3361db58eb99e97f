"""Another precision of patchcore is learnt again from its images; what cannot be is refused before they are read."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
from edgead.export.add_graph import add_graph  # noqa: E402
from edgead.export.precision import PrecisionPlan  # noqa: E402
from fakes import content, edit_manifest  # noqa: E402

from edgead.adapt.methods.patchcore import PatchCore  # noqa: E402
from edgead.adapt.recalibrate import AskedRates, recalibrate, write_thresholds  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.artifact.folder import Artifact, ArtifactError  # noqa: E402
from edgead.detector import Detector  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.synthetic.line import part_seed, render  # noqa: E402


@pytest.fixture
def in_int8(model_copy):
    """The model, with a manifest as if it had been learnt in int8."""

    def change(manifest):
        manifest["graphs"] = {"int8": manifest["graphs"].pop("fp32")}
        manifest |= {"learnt_in": "int8", "precision": "int8"}

    edit_manifest(model_copy, change)
    return model_copy


@pytest.mark.parametrize("plan", [PrecisionPlan("fp32"), PrecisionPlan("fp32", make_default=True)])
def test_without_images_a_model_of_int8_has_no_other_graph(in_int8, plan):
    before = content(in_int8)
    with pytest.raises(
        SettingsError, match=r"was learnt in int8, and is learnt again from its images.* --precision fp"
    ):
        add_graph(in_int8, plan)
    assert content(in_int8) == before and [one.name for one in in_int8.parent.iterdir()] == [in_int8.name]


def test_a_model_of_int8_is_calibrated_and_keeps_the_images_by_its_own_graph(in_int8, tmp_path):
    images = [tmp_path / f"{number}.png" for number in range(20)]
    for number, path in enumerate(images):
        write_image(path, render(part_seed(91, number))[0])
    with Detector.load(in_int8) as detector:
        found = recalibrate(detector, images, AskedRates(0.1, group="none", accept_outliers=True))
        assert found.kept_scores == [detector.measure(load_image(path)).image_score for path in found.good.images]
        written = write_thresholds(detector.artifact, found.change, found.calibration, reason="a lamp", found=found)
    assert len(written.kept) == 20 and written.graphs["int8"].calibration.reject == found.calibration.reject


def test_without_images_a_model_of_fp32_has_no_other_graph(model_copy):
    with pytest.raises(SettingsError, match="name the folder that it was trained on"):
        add_graph(model_copy, PrecisionPlan("int8"))


def test_a_tolerance_has_no_use_for_a_learning_and_is_refused(model_copy, line_data):
    with pytest.raises(SettingsError, match="leave out tolerance$"):
        add_graph(model_copy, PrecisionPlan("int8", tolerance=0.1), line_data)


def test_the_same_precision_again_gives_the_same_arrays(model_copy, line_data):
    before = Artifact.load(model_copy)
    again = add_graph(model_copy, PrecisionPlan("fp32", make_default=True), line_data)
    assert again.manifest.training["settings"] == before.manifest.training["settings"]
    kept = before.head_arrays() | {name: file.read() for name, file in before.learnt_graph.arrays.items()}
    found = again.head_arrays() | {name: file.read() for name, file in again.learnt_graph.arrays.items()}
    assert len(found) == len(kept) > 5
    for name, array in kept.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert again.learnt_graph.calibration == before.learnt_graph.calibration


def test_images_of_another_product_are_refused(model_copy, line_data, tmp_path):
    (tmp_path / "some").mkdir()
    for path in sorted((line_data / "train" / "good").iterdir())[:5]:
        (tmp_path / "some" / path.name).symlink_to(path)
    with pytest.raises(ArtifactError, match="has 5 of the 60 images"):
        add_graph(model_copy, PrecisionPlan("int8"), tmp_path / "some")


@pytest.mark.parametrize(
    "precision, change, what",
    [
        ("int8", {"weights_sha256": "0" * 64}, "learnt over weights of its own: train it again with --weights"),
        ("int8", {"settings": {"image_size": [100, 64]}}, r"image_size \[100, 64\]: give multiples of 16 pixels"),
    ],
)
def test_what_cannot_be_is_known_before_images_are_read(model_copy, tmp_path, precision, change, what):
    edit_manifest(model_copy, lambda manifest: manifest["training"].update(change))
    if "settings" in change:
        sides = change["settings"]["image_size"]
        edit_manifest(model_copy, lambda manifest: manifest["inputs"][0]["preprocessing"].update(image_size=sides))
    (tmp_path / "none").mkdir()
    with pytest.raises(SettingsError, match=what):
        add_graph(model_copy, PrecisionPlan(precision), tmp_path / "none")


@pytest.mark.parametrize(
    "settings, what",
    [
        ({"image_size": (100, 64)}, r"image_size \[100, 64\]: give multiples of 16 pixels"),
        ({"backbone": "wide_resnet50_2", "layers": ("layer2",)}, "torchvision is missing"),
    ],
)
def test_a_training_knows_what_cannot_be_before_it_reads_images(tmp_path, monkeypatch, settings, what):
    folder = tmp_path / "good"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.png").write_bytes(b"no image")

    def missing(method):
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")

    monkeypatch.setattr(PatchCore, "torch_network", missing)
    with pytest.raises(SettingsError, match=what):
        train_from_folder(GoodImages(folder), tmp_path / "model", settings)


def test_what_a_method_records_of_its_rate_stands_in_the_manifest(line_data, tmp_path, monkeypatch):
    monkeypatch.setattr(PatchCore, "facts", lambda method, rate: {"of_the_rate": rate})
    settings = {"backbone": "efficientnet_lite0", "image_size": (64, 64), "memory_bank_size": 50}
    artifact, _ = train_from_folder(GoodImages(line_data, false_reject_rate=0.1), tmp_path / "model", settings)
    assert artifact.manifest.training["of_the_rate"] == artifact.learnt_graph.calibration.false_reject_rate == 0.1
