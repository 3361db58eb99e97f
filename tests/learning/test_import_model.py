"""Models of other tools: what is read of a graph, what is refused; a finished model scores as the graph does."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="training needs the workstation's packages")

import onnx
from command_line import run_here
from daemons import check_records, conveyor, make_site, started, wait_for
from edgead.export import import_model as module
from edgead.export.foreign import Port, find_layout, find_outputs, find_size
from edgead.export.import_model import Good, ImportSettings, import_model
from foreign_graphs import SIZE, anomalib_like, expected_map, plain
from onnx import TensorProto, helper

from edgead.artifact.folder import Artifact, ArtifactError
from edgead.artifact.ir_file import OpenIrError, check_ir
from edgead.detector import Detector
from edgead.errors import EdgeadError, SettingsError
from edgead.runtime import available_runtimes


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """Forty images of good parts, at the size of the graphs."""
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    for number in range(40):
        grey = np.clip(rng.normal(110, 15, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), grey)
    return folder


@pytest.fixture(scope="module")
def imported(good, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    import_model(anomalib_like(folder / "model.onnx"), folder / "model", Good(good), ImportSettings())
    return folder / "model"


def images(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(path)) for path in sorted(folder.iterdir())]


def test_an_export_of_anomalib_needs_no_options_and_keeps_its_scores(imported, good):
    manifest = Artifact.load(imported).manifest
    facts = manifest.training["imported"]
    assert (facts["map"], facts["score"], facts["white"]) == ("anomaly_map", "pred_score", 1.0)
    assert "anomalib" in facts["input_known_from"]
    with Detector.load(imported) as detector:
        for image in images(good)[:5]:
            found, expected = detector.measure(image), expected_map(image[..., ::-1])
            assert found.image_score == pytest.approx(expected.mean(), rel=1e-5)
            assert np.allclose(found.anomaly_map, expected, rtol=1e-5, atol=1e-6)


def test_its_limit_is_that_of_split_conformal_prediction(imported, good):
    calibration = Artifact.load(imported).graph().calibration
    scores = sorted(expected_map(image[..., ::-1]).mean() for image in images(good))
    assert calibration.method == "split_conformal" and calibration.false_reject_rate == 0.1
    assert np.allclose(calibration.scores, scores, rtol=1e-5)
    assert calibration.reject == pytest.approx(scores[36] * 1.001, rel=1e-5)  # ceil(41 x 0.9) = 37


def test_a_graph_of_any_size_is_given_images_as_they_are(good, tmp_path):
    folder = tmp_path / "wide"
    folder.mkdir()
    for number, image in enumerate(images(good)):
        cv2.imwrite(str(folder / f"{number:03}.png"), cv2.resize(image, (72, 40)))
    path = anomalib_like(tmp_path / "any.onnx", side=None)
    artifact, _ = import_model(path, tmp_path / "model", Good(folder), ImportSettings())
    assert artifact.manifest.preprocessing.image_size == (40, 72)
    cv2.imwrite(str(folder / "odd.png"), np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(SettingsError, match=r"several \(72 x 40, 50 x 50\).*--size"):
        import_model(path, tmp_path / "model", Good(folder), ImportSettings())
    artifact, _ = import_model(path, tmp_path / "model", Good(folder), ImportSettings(size=(48, 48)))
    assert artifact.manifest.preprocessing.image_size == (48, 48)


@pytest.mark.parametrize(
    ("layout", "dtype", "asked"),
    [
        (
            "nhwc",
            TensorProto.FLOAT,
            ImportSettings(colour="bgr", white=255.0, mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0)),
        ),
        ("nchw", TensorProto.FLOAT, ImportSettings(colour="rgb", white=1.0, mean=(0.5,) * 3, std=(0.25,) * 3)),
        ("nchw", TensorProto.FLOAT16, ImportSettings(colour="bgr", white=1.0)),
        ("batches of 2", TensorProto.FLOAT, ImportSettings(colour="bgr", white=1.0)),
        ("nhwc", TensorProto.DOUBLE, ImportSettings(colour="rgb", white=255.0)),
        ("nhwc", TensorProto.UINT8, ImportSettings(colour="bgr")),
        ("nchw", TensorProto.UINT8, ImportSettings(colour="rgb")),
    ],
)
def test_the_input_is_made_as_asked(good, tmp_path, layout, dtype, asked):
    shapes = {"nhwc": ("n", SIZE, SIZE, 3), "nchw": ("n", 3, SIZE, SIZE)}
    shape = shapes.get(layout, (2, 3, SIZE, SIZE))
    path = plain(tmp_path / "graph.onnx", dtype=dtype, shape=shape)
    artifact, _ = import_model(path, tmp_path / "model", Good(good), asked)
    image = images(good)[0]
    value = image[..., 0 if asked.colour == "bgr" else 2].astype(np.float64)
    value = value / 255 if asked.white == 1 else value
    expected = (value - (asked.mean or (0,))[0]) / (asked.std or (1,))[0]
    with Detector(artifact) as detector:
        found = detector.measure(image)
    rounding = 1e-3 if dtype == TensorProto.FLOAT16 else 1e-6
    assert np.allclose(found.anomaly_map, expected, rtol=rounding, atol=rounding)
    assert found.image_score == pytest.approx(expected.max(), rel=rounding)


@pytest.mark.parametrize(
    ("options", "asked", "says"),
    [
        ({}, ImportSettings(), "--colour rgb or --colour bgr"),
        ({}, ImportSettings(colour="rgb"), "--white 1 or --white 255"),
        ({"dtype": TensorProto.UINT8}, ImportSettings(colour="rgb", white=1.0), "leave out --white"),
        ({"shape": (8, SIZE, SIZE, 3)}, ImportSettings(colour="rgb", white=1.0), "batches of 8"),
        (
            {"shape": (1, SIZE, SIZE, 3)},
            ImportSettings(colour="rgb", white=1.0, layout="nchw"),
            "3 channels does not fit",
        ),
        (
            {"shape": (1, SIZE, SIZE, 3)},
            ImportSettings(colour="rgb", white=1.0, size=(64, 64)),
            "--size 64,64 does not fit",
        ),
        ({"outputs": ("one", "two")}, ImportSettings(colour="rgb", white=1.0), "2 outputs that could be its map"),
        ({}, ImportSettings(outputs={"map": "other"}, colour="rgb", white=1.0), "--map other: the graph gives heat"),
        ({}, ImportSettings(outputs={"map": "none"}, colour="rgb", white=1.0), "none of them"),
        ({}, ImportSettings(colour="rgb", white=float("nan")), "white nan"),
        ({}, ImportSettings(colour="rgb", white=1.0, mean=(float("nan"),) * 3), "say others with --white, --mean"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_option_that_says_it(good, tmp_path, options, asked, says):
    with pytest.raises(SettingsError, match=says):
        import_model(plain(tmp_path / "graph.onnx", **options), tmp_path / "model", Good(good), asked)
    assert not (tmp_path / "model").exists()


def test_an_output_is_taken_by_its_name(good, tmp_path):
    path = plain(tmp_path / "graph.onnx", outputs=("one", "two"))
    asked = ImportSettings(outputs={"map": "two"}, colour="bgr", white=255.0)
    artifact, _ = import_model(path, tmp_path / "model", Good(good), asked)
    image = images(good)[0]
    with Detector(artifact) as detector:
        assert detector.measure(image).image_score == 2 * float(image[..., 0].max())


def test_a_score_alone_is_shown_everywhere(good, tmp_path):
    path = anomalib_like(tmp_path / "graph.onnx", outputs=("pred_score", "pred_label"))
    artifact, _ = import_model(path, tmp_path / "model", Good(good), ImportSettings())
    with Detector(artifact) as detector:
        found = detector.measure(images(good)[0])
    assert found.anomaly_map.shape == (SIZE, SIZE)
    assert np.ptp(found.anomaly_map) == 0 and found.anomaly_map[0, 0] == np.float32(found.image_score)


def test_layouts_sizes_and_outputs_are_read_of_shapes():
    with pytest.raises(SettingsError, match="--layout"):
        find_layout(Port("x", "float32", (1, 3, 32, 3)), None)
    with pytest.raises(SettingsError, match="--layout"):
        find_layout(Port("x", "float32", (1, None, None, None)), None)
    assert find_layout(Port("x", "float32", (1, 3, 32, 3)), "nhwc") == "nhwc"
    assert find_size(Port("x", "float32", (1, 3, None, 32)), "nchw", None) is None
    assert find_size(Port("x", "float32", (1, 3, None, 32)), "nchw", (8, 32)) == (8, 32)
    given = {"a": np.zeros((1, 5, 7, 1), np.float32), "b": np.zeros((1, 1), np.float32), "c": np.zeros((1, 2, 5, 7))}
    found = find_outputs(given, {}, {})
    assert (found.map, found.score, found.grid) == ("a", "b", (5, 7))
    with pytest.raises(SettingsError, match="none of them"):
        find_outputs({"c": given["c"]}, {}, {})


def test_scores_that_are_cut_off_are_refused(good, tmp_path):
    path = anomalib_like(tmp_path / "graph.onnx", cut_off=True)
    with pytest.raises(SettingsError, match="cuts scores off.*enable_normalization"):
        import_model(path, tmp_path / "model", Good(good), ImportSettings())
    assert not (tmp_path / "model").exists()


def test_a_model_that_scores_otherwise_than_its_graph_is_refused(good, tmp_path, monkeypatch):
    monkeypatch.setattr(module.Opened, "score", lambda self, image, spec: 1.0)
    with pytest.raises(SettingsError, match="by the graph itself"):
        import_model(anomalib_like(tmp_path / "graph.onnx"), tmp_path / "model", Good(good), ImportSettings())
    assert not (tmp_path / "model").exists()


def test_functions_within_a_graph_are_unfolded_and_branches_refused(good, tmp_path):
    model = onnx.load(plain(tmp_path / "graph.onnx"))
    doubled = helper.make_function(
        "own", "Doubled", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(doubled)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[-1].output[0] = "once"
    model.graph.node.append(helper.make_node("Doubled", ["once"], ["heat"], domain="own"))
    onnx.save(model, tmp_path / "functions.onnx")
    asked = ImportSettings(colour="bgr", white=255.0)
    artifact, _ = import_model(tmp_path / "functions.onnx", tmp_path / "model", Good(good), asked)
    image = images(good)[0]
    with Detector(artifact) as detector:
        assert detector.measure(image).image_score == 2 * float(image[..., 0].max())

    branch = helper.make_graph(
        [helper.make_node("Identity", ["once"], ["inside"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
    )
    model.graph.node[-1].CopyFrom(helper.make_node("If", ["always"], ["heat"], then_branch=branch, else_branch=branch))
    del model.functions[:]
    model.graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
    onnx.save(model, tmp_path / "branches.onnx")
    with pytest.raises(SettingsError, match=r"graph of its own \(Loop, Scan, If\)"):
        import_model(tmp_path / "branches.onnx", tmp_path / "another", Good(good), asked)


def test_values_in_a_file_beside_the_graph_come_along(good, tmp_path):
    model = onnx.load(anomalib_like(tmp_path / "graph.onnx"))
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0)
    artifact, _ = import_model(tmp_path / "apart.onnx", tmp_path / "model", Good(good), ImportSettings())
    with Detector(artifact) as detector:
        assert detector.measure(images(good)[0]).image_score > 0
    for data in tmp_path.glob("*-*"):
        data.unlink()
    with pytest.raises(SettingsError, match="no ONNX file that can be read"):
        import_model(tmp_path / "apart.onnx", tmp_path / "another", Good(good), ImportSettings())


@pytest.mark.parametrize(
    ("key", "value"), [("cut off", ""), ("offset", "-5"), ("offset", "99999999"), ("length", "abc"), ("FIFO", "")]
)
def test_values_in_a_damaged_file_beside_the_graph_are_refused_in_words(good, tmp_path, key, value):
    data = tmp_path / "apart.data"
    model = onnx.load(anomalib_like(tmp_path / "graph.onnx"))
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0, location=data.name)
    if key == "cut off":
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    elif key == "FIFO":
        data.unlink()
        os.mkfifo(data)
    else:
        model = onnx.load(tmp_path / "apart.onnx", load_external_data=False)
        (entry,) = (entry for entry in model.graph.initializer[0].external_data if entry.key == key)
        entry.value = value
        onnx.save(model, tmp_path / "apart.onnx")
    with pytest.raises(SettingsError, match=r"copy apart\.onnx and apart\.data again"):
        import_model(tmp_path / "apart.onnx", tmp_path / "model", Good(good), ImportSettings())
    assert not (tmp_path / "model").exists()


def test_values_in_a_file_beside_the_graph_are_bounded_together(good, tmp_path, monkeypatch):
    """Each may be as long as the file, and a file that is empty for the most part takes no room on the disk."""
    model = onnx.load(anomalib_like(tmp_path / "graph.onnx"))
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0, location="apart.data")
    model = onnx.load(tmp_path / "apart.onnx", load_external_data=False)
    os.truncate(tmp_path / "apart.data", 1 << 30)
    for tensor in [*model.graph.initializer][:3]:
        del tensor.external_data[1:]
    onnx.save(model, tmp_path / "apart.onnx")
    monkeypatch.setattr(onnx, "load_external_data_for_model", lambda *_: pytest.fail("it was read"))
    with pytest.raises(SettingsError, match="in other files are more than 2 GB"):
        import_model(tmp_path / "apart.onnx", tmp_path / "model", Good(good), ImportSettings())


@pytest.mark.parametrize("name", ["graph.onnx", "graph.xml"])
@pytest.mark.parametrize("kind", ["FIFO", "endless"])
def test_a_graph_that_is_no_regular_file_is_refused_at_once(good, tmp_path, name, kind):
    if name.endswith(".xml"):
        pytest.importorskip("openvino", reason="NOT TESTED: an IR needs OpenVINO")
    if kind == "FIFO":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(SettingsError, match="is no regular file"):
        import_model(tmp_path / name, tmp_path / "model", Good(good), ImportSettings())


@pytest.mark.parametrize(("functions", "calls"), [(10, 10), (100, 1)])
def test_functions_that_unfold_without_bound_are_refused_before_they_are_unfolded(good, tmp_path, functions, calls):
    model = onnx.load(plain(tmp_path / "graph.onnx", outputs=("once",)))
    model.graph.output[0].name = "heat"
    for number in range(functions):
        steps = ["x", *(f"step{step}" for step in range(1, calls)), "y"]
        called = "Identity" if number == functions - 1 else f"F{number + 1}"
        domain = "" if called == "Identity" else "own"
        nodes = [helper.make_node(called, [a], [b], domain=domain) for a, b in itertools.pairwise(steps)]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", f"F{number}", ["x"], ["y"], nodes, imports))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("F0", ["once"], ["heat"], domain="own"))
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(SettingsError, match="functions that call each other.*without functions"):
        import_model(tmp_path / "graph.onnx", tmp_path / "model", Good(good), ImportSettings(colour="rgb", white=1.0))


def test_images_that_were_learnt_make_no_limit(good, tmp_path):
    learnt = sorted(good.iterdir())[:10]
    path = anomalib_like(tmp_path / "graph.onnx")
    with pytest.raises(SettingsError, match="10 of 40 good images are among those"):
        import_model(path, tmp_path / "model", Good(good, learnt=learnt), ImportSettings())


def test_a_list_that_says_what_was_learnt_is_not_taken(good, tmp_path):
    names = [path.name for path in sorted(good.iterdir())]
    (tmp_path / "good").symlink_to(good)
    path, table = anomalib_like(tmp_path / "graph.onnx"), tmp_path / "parts.csv"
    table.write_text("path,label,split\n" + "".join(f"good/{name},good,train\n" for name in names))
    with pytest.raises(SettingsError, match="lists images to learn from.*probably learnt"):
        import_model(path, tmp_path / "model", Good(table), ImportSettings())
    table.write_text("path,label\n" + "".join(f"good/{name},good\n" for name in names))
    artifact, _ = import_model(path, tmp_path / "model", Good(table), ImportSettings())
    assert artifact.manifest.training["calibration_images"] == 40


def test_a_folder_that_was_probably_learnt_is_not_taken_without_asking(good, tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "good").symlink_to(good)
    path = anomalib_like(tmp_path / "graph.onnx")
    with pytest.raises(SettingsError, match="probably learnt.*--normal-dir"):
        import_model(path, tmp_path / "model", Good(tmp_path / "data"), ImportSettings())
    artifact, _ = import_model(path, tmp_path / "model", Good(tmp_path / "data", "train/good"), ImportSettings())
    assert artifact.manifest.training["calibration_images"] == 40


TRANSFORM = {
    "transform": {
        "__class_fullname__": "Compose",
        "transforms": [
            {"__class_fullname__": "Resize", "height": SIZE, "width": SIZE},
            {
                "__class_fullname__": "Normalize",
                "mean": [0.5, 0.4, 0.3],
                "std": [0.1, 0.2, 0.3],
                "max_pixel_value": 255.0,
            },
            {"__class_fullname__": "albumentations.pytorch.transforms.ToTensorV2"},
        ],
    }
}


@pytest.mark.parametrize(
    ("metadata", "properties", "facts"),
    [
        ({"transform": TRANSFORM}, {}, {"white": 1.0, "mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}),
        ({"image_threshold": 0.5}, {}, {"white": 1.0, "mean": []}),
        (
            None,
            {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"},
            {"white": 255.0, "input": "given, nhwc, bgr, float32"},
        ),
        (
            None,
            {"reverse_input_channels": "YES", "mean_values": "1 2 3", "scale_values": "4 5 6"},
            {"white": 255.0, "mean": [1, 2, 3], "std": [4, 5, 6], "input": "given, nhwc, rgb, float32"},
        ),
        (None, {"mean_values": "1 2 3"}, {"input": "given, nhwc, bgr, float32"}),
    ],
)
def test_what_tools_write_is_read(good, tmp_path, metadata, properties, facts):
    path = plain(tmp_path / "graph.onnx", properties=properties)
    if metadata is not None:
        (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    artifact, _ = import_model(path, tmp_path / "model", Good(good), ImportSettings())
    found = artifact.manifest.training["imported"]
    assert {name: found[name] for name in facts} == facts


def test_another_white_needs_another_mean_and_std(good, tmp_path):
    """Those of the metadata are for its own white."""
    path = plain(tmp_path / "graph.onnx")
    (tmp_path / "metadata.json").write_text(json.dumps({"transform": TRANSFORM}))
    for mean in ((), (0.0,) * 3):
        with pytest.raises(SettingsError, match="are for white 1: give --mean and --std too"):
            import_model(path, tmp_path / "model", Good(good), ImportSettings(white=255.0, mean=mean))
    for asked in (ImportSettings(white=1.0), ImportSettings(white=255.0, mean=(0.0,) * 3, std=(1.0,) * 3)):
        import_model(path, tmp_path / "model", Good(good), asked)


def normalize(**options: object) -> str:
    return json.dumps({"transform": {"transforms": [{"__class_fullname__": "Normalize", **options}]}})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read"),
        (json.dumps({"transform": {"transforms": [{"__class_fullname__": "CenterCrop"}]}}), "a step CenterCrop"),
        (normalize(), "without numbers that can be used: 'mean'"),
        (normalize(mean="abc", std="def"), "without numbers"),
        (normalize(mean=[0.5] * 3, std=[0.5] * 3, max_pixel_value=0), "without numbers"),
        (normalize(mean=[0.5], std=[0.5]), "needs 3 numbers"),
        (normalize(mean=[0.5] * 3, std=[0] * 3), "divided by 0"),
    ],
)
def test_metadata_that_cannot_be_followed_is_refused(good, tmp_path, content, says):
    path = plain(tmp_path / "graph.onnx")
    (tmp_path / "metadata.json").write_text(content)
    with pytest.raises(SettingsError, match=says):
        import_model(path, tmp_path / "model", Good(good), ImportSettings(colour="rgb", white=1.0))


def test_an_old_graph_whose_constants_are_inputs_too_is_taken(good, tmp_path):
    model = onnx.load(plain(tmp_path / "graph.onnx"))
    for one in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))
    model.ir_version = 3
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 8))
    onnx.save(model, tmp_path / "graph.onnx")
    artifact, _ = import_model(
        tmp_path / "graph.onnx", tmp_path / "model", Good(good), ImportSettings(colour="rgb", white=255.0)
    )
    image = images(good)[0]
    with Detector(artifact) as detector:
        assert detector.measure(image).image_score == image[..., 2].max()


def test_a_graph_that_gives_no_numbers_is_refused(good, tmp_path):
    model = onnx.load(plain(tmp_path / "graph.onnx", outputs=("raw",)))
    model.graph.node.append(helper.make_node("Div", ["raw", "zero"], ["heat"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"))
    model.graph.output[0].name = "heat"
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(SettingsError, match="good image: the network gave NaN"):
        import_model(tmp_path / "graph.onnx", tmp_path / "model", Good(good), ImportSettings(colour="rgb", white=1.0))
    assert [path.name for path in tmp_path.iterdir()] == ["graph.onnx"]


def test_images_that_are_too_large_for_a_graph_of_any_size_are_refused(good, tmp_path, monkeypatch):
    monkeypatch.setattr("edgead.export.foreign.MAX_PIXELS", SIZE * SIZE - 1)
    path = plain(tmp_path / "graph.onnx", shape=(1, "h", "w", 3))
    with pytest.raises(SettingsError, match="too many for a network.*--size"):
        import_model(path, tmp_path / "model", Good(good), ImportSettings(colour="rgb", white=1.0))


@pytest.mark.parametrize(("name", "content"), [("graph.onnx", b"no graph"), ("graph.pt", b""), ("missing.onnx", None)])
def test_files_that_are_no_graphs_are_refused(good, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgeadError, match=name):
        import_model(tmp_path / name, tmp_path / "model", Good(good), ImportSettings())


def test_the_command_line_makes_verifies_and_exports_it(good, tmp_path):
    path, model = anomalib_like(tmp_path / "graph.onnx"), tmp_path / "model"
    made = run_here("import", path, "-o", model, "--good", good, "--false-reject-rate", "0.05", "--json")
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert (report["map"], report["false_reject_rate"], report["calibration_images"]) == ("anomaly_map", 0.05, 40)
    assert run_here("verify", model).returncode == 0
    assert run_here("export", model, good, "--precision", "fp16").returncode == 0
    again = run_here("export", model)
    assert again.returncode == 2 and "import it again" in again.stderr
    assert run_here("calibrate", model, good, "--dry-run").returncode == 0
    own = run_here("import", model / "model.onnx", "-o", tmp_path / "again", "--good", good)
    assert own.returncode == 2 and "graph of edgead's own" in own.stderr
    wrong = run_here("import", path, "-o", tmp_path / "again", "--good", good, "--std", "1,0,1")
    assert wrong.returncode == 2 and "divided by 0" in wrong.stderr


@pytest.mark.slow
def test_it_runs_in_a_site_as_any_other(line_data, tmp_path):
    path = anomalib_like(tmp_path / "graph.onnx", side=None)
    import_model(path, tmp_path / "model", Good(line_data, "train/good"), ImportSettings())
    site = make_site(tmp_path / "model", cameras={"conveyor": conveyor(30, count=40)})
    with started(tmp_path, site) as daemon:
        daemon.wait_judged(20)
        tested = daemon.api.post("/api/pipelines/a/self-test").json()["result"]
        assert tested["passed"] and len(tested["images"]) == 3
        drift = wait_for(lambda: daemon.pipeline()["drift"], "the drift watch")
        assert drift["parts"] > 0
        assert daemon.pipeline()["state"] == "running"
        daemon.stop(within_s=60)
    check_records(daemon)
    assert {record["decision"] for record in daemon.records()} <= {"ok", "review", "reject"}


def ir_of(path: Path) -> Path:
    """The same model as an OpenVINO IR beside it."""
    openvino = pytest.importorskip(
        "openvino", reason="NOT TESTED: an IR needs OpenVINO: pip install 'edgead[openvino]'"
    )
    openvino.save_model(openvino.convert_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
    return path.with_suffix(".xml")


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"shape": (1, 3, SIZE, SIZE)}, ImportSettings(colour="rgb", white=1.0, mean=(0.5,) * 3, std=(0.25,) * 3)),
        ({"shape": ("n", SIZE, SIZE, 3)}, ImportSettings(colour="bgr", white=255.0)),
        ({"dtype": TensorProto.UINT8}, ImportSettings(colour="bgr")),
        ({"dtype": TensorProto.FLOAT16}, ImportSettings(colour="rgb", white=1.0)),
        ({"shape": (2, 3, SIZE, SIZE)}, ImportSettings(colour="bgr", white=1.0)),
    ],
)
def test_an_ir_scores_as_the_same_graph_in_onnx(good, tmp_path, options, asked):
    path = plain(tmp_path / "graph.onnx", **options)
    of_onnx, _ = import_model(path, tmp_path / "onnx", Good(good), asked)
    of_ir, _ = import_model(ir_of(path), tmp_path / "ir", Good(good), asked)
    with Detector(of_onnx) as one, Detector(of_ir) as other:
        for image in images(good)[:3]:
            expected, found = one.measure(image), other.measure(image)
            assert np.allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-3, atol=1e-4)
            assert found.image_score == pytest.approx(expected.image_score, rel=1e-3)


def test_an_ir_is_a_model_for_openvino_alone(good, tmp_path):
    xml, model = ir_of(anomalib_like(tmp_path / "graph.onnx", side=None)), tmp_path / "model"
    assert run_here("import", xml, "-o", model, "--good", good).returncode == 0
    artifact = Artifact.load(model)
    assert available_runtimes(artifact) == ["openvino"]
    assert run_here("verify", model).returncode == 0
    assert run_here("verify", model, "--all").returncode == 0
    image = next(good.iterdir())
    assert run_here("predict", model, image).returncode in (0, 1)
    for refused in (
        ("predict", model, image, "--runtime", "onnxruntime"),
        ("export", model, good, "--precision", "fp16"),
    ):
        ended = run_here(*refused)
        assert ended.returncode == 2 and "import the model as ONNX" in ended.stderr
    (model / "model.bin").write_bytes(b"0" * (model / "model.bin").stat().st_size)
    with pytest.raises(ArtifactError, match=r"model\.bin"):
        artifact.graph().read_ir()


def test_what_model_api_writes_into_an_ir_is_read(good, tmp_path):
    openvino = pytest.importorskip(
        "openvino", reason="NOT TESTED: an IR needs OpenVINO: pip install 'edgead[openvino]'"
    )
    model = openvino.convert_model(plain(tmp_path / "graph.onnx"))
    for name, value in {"reverse_input_channels": "True", "mean_values": "1 2 3", "scale_values": "4 5 6"}.items():
        model.set_rt_info(value, ["model_info", name])
    openvino.save_model(model, tmp_path / "graph.xml", compress_to_fp16=False)
    artifact, _ = import_model(tmp_path / "graph.xml", tmp_path / "model", Good(good), ImportSettings())
    facts = artifact.manifest.training["imported"]
    assert (facts["mean"], facts["std"], facts["white"]) == ([1, 2, 3], [4, 5, 6], 255)
    assert "rgb" in facts["input"]


def test_of_several_names_of_one_output_the_known_one_is_taken(good, tmp_path):
    openvino = pytest.importorskip("openvino", reason="NOT TESTED: an IR needs OpenVINO")
    model = openvino.convert_model(anomalib_like(tmp_path / "graph.onnx"))
    for output in model.outputs:  # as in IRs of anomalib
        output.tensor.add_names({f"a_{output.any_name}"})
    openvino.save_model(model, tmp_path / "graph.xml", compress_to_fp16=False)
    artifact, _ = import_model(tmp_path / "graph.xml", tmp_path / "model", Good(good), ImportSettings())
    assert artifact.manifest.training["imported"]["score"] == "pred_score"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"<net>", "no XML"),
        (b"<other/>", "'other'"),
        (b'<!DOCTYPE net [<!ENTITY a "b">]><net/>', "document type"),
        (b'<net><layers><layer name="l" type="Loop"/></layers></net>', "graph of its own"),
        (b"<net>" + b"<a>" * 70 + b"</a>" * 70 + b"</net>", "within each other"),
    ],
)
def test_an_ir_that_may_not_end_is_refused(document, says):
    with pytest.raises(OpenIrError, match=says):
        check_ir(document)
    check_ir(b'<net><layers><layer name="l" type="Relu"/></layers></net>')
